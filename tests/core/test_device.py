"""Which GPU is whose, and what is said of a device that fails; this needs none, since only Paddle's answers count."""

import paddle
import pytest
from paddle.base import core

from clan.core import device as devices
from clan.core.device import autotune, explain, explained, select_device
from clan.core.errors import ConfigError, DeviceError

pytestmark = pytest.mark.core


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(paddle.device, "set_device", lambda name: None)


def test_a_process_alone_takes_the_gpu_it_is_told(four_gpus, monkeypatch):
    monkeypatch.setenv("FLAGS_selected_gpus", "3")  # without the launcher this is none of its
    assert select_device("auto", 1) == "gpu:1"
    assert select_device("cpu", 0) == "cpu"
    for gpu in (4, -1):
        with pytest.raises(ConfigError, match=f"--gpu {gpu}, but 4 GPUs are visible"):
            select_device("auto", gpu)


@pytest.mark.parametrize(
    ("number", "rank", "selected", "name"),
    [
        ("2", "1", "1", "gpu:1"),
        ("1", "0", "3", "gpu:3"),  # launch --devices 3
        ("1", "0", "2,3", "gpu:2"),  # launch --devices 2,3 --nproc_per_node 1
        ("1", "0", None, "gpu:0"),
    ],
)
def test_the_launcher_says_which_gpu_is_a_rank_s(four_gpus, monkeypatch, number, rank, selected, name):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", number)
    monkeypatch.setenv("PADDLE_TRAINER_ID", rank)
    if selected:
        monkeypatch.setenv("FLAGS_selected_gpus", selected)
        with pytest.raises(ConfigError, match="--gpu 1 under Paddle's launcher: choose GPUs by its --devices"):
            select_device("auto", 1)
    assert select_device("auto") == name
    assert select_device("cpu") == "cpu"


def test_a_gpu_that_the_launcher_gives_and_nobody_sees(four_gpus, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    monkeypatch.setenv("FLAGS_selected_gpus", "4")
    with pytest.raises(ConfigError, match="gives GPU 4, but 4 GPUs are visible"):
        select_device()


def test_tf32_is_off_until_it_is_asked_for(four_gpus, monkeypatch):
    """Paddle's own default is on."""
    said = []
    for library in ("cublas", "cudnn"):
        monkeypatch.setattr(core, f"set_{library}_switch", said.append, raising=False)
    select_device("auto")
    assert said == [False, False]


MESSAGES = {
    "lower --batch-size": [
        MemoryError("(ResourceExhausted) Fail to alloc memory of 40000000000 size, error code is 12."),
        MemoryError("Unable to allocate 3.00 GiB for an array with shape (3, 5)"),
        RuntimeError(
            "(ResourceExhausted) Out of memory error on GPU 0. Cannot allocate 98.000244MB memory on GPU 0, 6.000000GB "
            "memory has been allocated and available memory is only 0.500000MB."
        ),
        SystemError("(Fatal) Operator conv2d raises: ResourceExhaustedError: Out of memory error on GPU 0"),
        OSError("(External) CUDA error(2), out of memory."),
        RuntimeError("(External) CUDNN error(2), CUDNN_STATUS_ALLOC_FAILED."),
        OSError("(External) CUBLAS error(3). [Hint: 'CUBLAS_STATUS_ALLOC_FAILED'.]"),
    ],
    "no kernels for this GPU": [
        OSError("(External) CUDA error(209), no kernel image is available for execution on the device."),
        RuntimeError("(Unavailable) Unsupported GPU architecture"),
        RuntimeError("parallel_for failed: cudaErrorNoKernelImageForDevice: no kernel image is available"),
    ],
    "does not find": [
        RuntimeError(
            "(PreconditionNotMet) The third-party dynamic library (libcublas.so) that Paddle depends on is not "
            "configured correctly. (error code is libcublas.so: cannot open shared object file)"
        ),
        RuntimeError("(PreconditionNotMet) Cannot load cudnn shared library. Cannot invoke method cudnnGetVersion."),
        OSError("libcudnn_cnn_infer.so.8: cannot open shared object file: No such file or directory"),
    ],
}


@pytest.mark.parametrize(("said", "error"), [(said, error) for said, errors in MESSAGES.items() for error in errors])
def test_what_a_device_fails_at_is_one_sentence_with_its_remedy(said, error):
    sentence = str(explain(error))
    assert said in sentence
    assert "\n" not in sentence
    with pytest.raises(DeviceError, match=said), explained():
        raise error


def test_a_gpu_is_named_where_its_memory_is_meant(monkeypatch):
    """A run on a GPU may use up the machine's, too."""
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:1")
    for error in MESSAGES["lower --batch-size"]:
        of_machine = isinstance(error, MemoryError)
        assert str(explain(error)).startswith("this machine's memory" if of_machine else "the memory of gpu:1")


def test_amounts_are_told():
    assert "98.000244MB were wanted, 0.500000MB are free" in str(explain(MESSAGES["lower --batch-size"][2]))
    assert "40.00 GB were wanted" in str(explain(MESSAGES["lower --batch-size"][0]))


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("out of memory"), OSError(28, "No space left")])
def test_what_is_none_of_a_device_s_stays(error):
    assert explain(error) is None
    with pytest.raises(type(error)), explained():
        raise error


def test_paddle_s_own_error_of_memory_that_is_not_there():
    with pytest.raises(DeviceError, match=r"machine's memory is used up \(40000.00 GB were"), explained():
        paddle.zeros([10**7, 10**6])


def test_a_convolution_that_rounds_and_a_block_without_gradients_are_no_fault(monkeypatch):
    convolve = devices.functional.conv2d
    monkeypatch.setattr(devices.functional, "conv2d", lambda *given: convolve(*given) * (1 - 1e-6))
    with paddle.no_grad():
        devices.probe("gpu:0")
    for factor in (float("nan"), 0.99):
        monkeypatch.setattr(devices.functional, "conv2d", lambda *given, factor=factor: convolve(*given) * factor)
        with pytest.raises(DeviceError, match="computes a convolution wrongly"):
            devices.probe("gpu:0")


def test_a_build_without_kernels_for_the_card(four_gpus, monkeypatch):
    """It may raise, or compute nothing without a word."""
    monkeypatch.setattr(devices.functional, "conv2d", lambda images, kernel: paddle.zeros([1, 2, 6, 6]) * kernel.sum())
    with pytest.raises(DeviceError, match=r"gpu:0 computes a convolution wrongly.*packages/stable/cu118/.*cu129"):
        select_device()

    def fail(*tensors):
        raise MESSAGES["no kernels for this GPU"][0]

    monkeypatch.setattr(devices.functional, "conv2d", fail)
    with pytest.raises(DeviceError, match="no kernels for this GPU"):
        select_device()


def test_autotune_asks_paddle_on_gpus_alone(monkeypatch):
    asked = []
    monkeypatch.setattr("paddle.incubate.autotune.set_config", asked.append)
    assert "on GPUs alone" in (autotune() or "")
    assert asked == []
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    assert autotune() is None
    assert [set(one) for one in asked] == [{"kernel", "layout"}]
    assert all(part["enable"] for part in asked[0].values())
    first, last = asked[0]["kernel"]["tuning_range"]
    assert (first, last) == (1, 500), "Paddle counts calls of backward, and 5 are one iteration of CLAN"
