"""Choosing where to compute, and saying in a sentence why a device does not."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import paddle
from paddle.nn import functional

from clan.core.errors import LESS_MEMORY, ConfigError, DeviceError
from clan.core.precision import allow_tf32
from clan.core.runtime import how_to_install


def select_device(device: str = "auto", gpu: int = 0) -> str:
    """Makes Paddle compute on `device` ("auto", "cpu" or "gpu") and returns its name, such as "gpu:0".

    Where Paddle's launcher started this process, it says which GPU is whose, and `gpu` must stay 0. Float32 is
    computed in float32 afterwards: Paddle's own default on GPUs is TF32.

    Raises:
        ConfigError: a GPU is asked for that this Paddle or this machine does not have.
        DeviceError: the GPU does not compute with this Paddle.
    """
    visible = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if device == "gpu" and not visible:
        why = "no GPU is visible" if paddle.device.is_compiled_with_cuda() else "this PaddlePaddle is a CPU build"
        raise ConfigError(f"--device gpu, but {why}: use --device cpu, or see docs/install.md on GPU set-up")
    if device != "cpu" and not 0 <= gpu < max(visible, 1):
        raise ConfigError(f"--gpu {gpu}, but {visible} GPUs are visible: count from 0, or use --device cpu")
    if device != "cpu" and visible and (given := assigned_gpu()) is not None:
        if gpu:
            raise ConfigError(f"--gpu {gpu} under Paddle's launcher: choose GPUs by its --devices, and leave out --gpu")
        if given >= visible:
            raise ConfigError(f"Paddle's launcher gives GPU {given}, but {visible} GPUs are visible: lower --devices")
        gpu = given
    name = f"gpu:{gpu}" if visible and device != "cpu" else "cpu"
    with explained():
        paddle.device.set_device(name)
        allow_tf32(False)
        if name != "cpu":
            probe(name)
    return name


def autotune() -> str | None:
    """Lets Paddle try the kernels that a GPU has for a convolution, and layouts, in the first iterations.

    Returns:
        What a user should know; None: nothing.
    """
    if paddle.device.get_device() == "cpu":
        return "--autotune: Paddle tries kernels and layouts on GPUs alone"
    from paddle.incubate import autotune as search

    # Paddle counts calls of backward, not iterations, and CLAN makes five of them an iteration.
    search.set_config({"kernel": {"enable": True, "tuning_range": [1, 500]}, "layout": {"enable": True}})
    return None


def assigned_gpu() -> int | None:
    """The index among the visible GPUs that Paddle's launcher gave this process; None: it did not start it.

    It starts a single process too, with `--devices 3` for example, and then tells all GPUs that it was given.
    """
    selected = "FLAGS_selected_gpus"
    given = os.environ.get(selected, "").partition(",")[0].strip()
    return int(given) if "PADDLE_TRAINER_ID" in os.environ and given.isdecimal() else None


def probe(name: str) -> None:
    """Computes a convolution forward and backward, and a matrix product, whose results are known.

    A build without kernels for a card may fail, and may also compute nothing without a word, since Paddle's own
    warning is one of many in its log, which is off. Some of cuDNN's convolutions round even small integers.

    Raises:
        DeviceError: the results are wrong.
    """
    images, kernel = paddle.ones([1, 2, 8, 8]), paddle.ones([2, 2, 3, 3])
    kernel.stop_gradient = False
    with paddle.enable_grad():
        maps = functional.conv2d(images, kernel)
        maps.sum().backward()
    product = paddle.matmul(images[0, 0], images[0, 1])
    for result, expected in ((maps, 18.0), (kernel.grad, 36.0), (product, 8.0)):
        if result is None or not bool(((result - expected).abs() < 1e-2).all()):
            raise DeviceError(f"{name} computes a convolution wrongly with this PaddlePaddle, {NO_KERNELS}")


NO_KERNELS = f"which seems to have no kernels for this GPU: install the build that fits; {how_to_install(gpu=True)}"

OUT_OF_MEMORY = re.compile(
    r"ResourceExhausted|out of memory|CUDA error\(2\)|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
OF_A_GPU = re.compile(r"GPU|CUDA|CUDNN|CUBLAS", re.IGNORECASE)
MISSING_KERNELS = re.compile(
    r"no kernel image|NoKernelImage|Unsupported GPU architecture|Mismatched GPU Architecture|ARCH_MISMATCH|"
    r"CUDA error\(209\)",
    re.IGNORECASE,
)
MISSING_LIBRARY = re.compile(
    r"dynamic library \(([^)]+)\)|Cannot load (\w+) shared library|(\blib(?:cu|nccl|nv)\w*\.so[.\d]*)"
)


def explain(error: BaseException) -> DeviceError | None:
    """What a user should know and do of an exception of Paddle's; None: it is none of a device's.

    Args:
        error: Paddle raises MemoryError on the CPU, as NumPy does, and RuntimeError, SystemError or OSError on a GPU.
    """
    if not isinstance(error, MemoryError | RuntimeError | OSError | SystemError):
        return None
    text, device = " ".join(str(error).split()), paddle.device.get_device()
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        whose = f"the memory of {device}" if OF_A_GPU.search(text) else "this machine's memory"
        return DeviceError(f"{whose} is used up{_amounts(text)}: {LESS_MEMORY}")
    if MISSING_KERNELS.search(text):
        return DeviceError(f"{device} does not compute with this PaddlePaddle, {NO_KERNELS}")
    if library := MISSING_LIBRARY.search(text):
        name = next(filter(None, library.groups()))
        return DeviceError(
            f"PaddlePaddle does not find {name}, or not in the version that it wants: install its build again with its "
            f"dependencies, or name the library's folder in LD_LIBRARY_PATH; {how_to_install(gpu=True)}"
        )
    return None


@contextmanager
def explained() -> Iterator[None]:
    """Within the block, what Paddle raises of a device is a `DeviceError`."""
    try:
        yield
    except Exception as error:
        if (sentence := explain(error)) is None:
            raise
        raise sentence from error


def _amounts(text: str) -> str:
    """What a message tells of amounts of memory, in brackets."""
    if found := re.search(r"Cannot allocate ([\d.]+[KMGT]?B).*?available memory is only ([\d.]+[KMGT]?B)", text):
        return f" ({found[1]} were wanted, {found[2]} are free)"
    if found := re.search(r"Fail to alloc memory of (\d+) size", text):
        return f" ({int(found[1]) / 1e9:.2f} GB were wanted)"
    return ""
