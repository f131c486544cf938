"""Half precision as far as a CPU shows it: the loss scale, and honesty about what does not act here."""

from contextlib import contextmanager

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.base import core

from clan.core import precision as precision_module
from clan.core.errors import ConfigError, TrainingError
from clan.core.precision import LossScale, autocast, check_precision, tf32_allowed
from clan.core.ranks import Ranks
from clan.methods import build_method
from clan.methods.base import synchronise_batch_norms
from clan.run.checkpoint import States
from clan.training.trainer import Trainer
from tests.conftest import metrics

pytestmark = pytest.mark.core


def train(config, *, resume=False):
    said = []
    trainer = Trainer(config, resume=resume, notify=said.append)
    trainer.run()
    return trainer, said


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_on_the_cpu_half_precision_says_that_it_computes_in_float32_and_does(tiny, tmp_path, precision, monkeypatch):
    """A factor of 2^16 on the losses, taken off the gradients again, changes no bit."""
    monkeypatch.setattr(precision_module, "has_bf16_kernels", lambda: False)
    half, whole = tiny(precision=precision), tiny(snapshot_dir=tmp_path / "fp32")
    _, said = train(half)
    assert f"--precision {precision}: Paddle's autocast acts on GPUs alone, so the CPU computes in float32" in said
    _, said = train(whole)
    assert not any("--precision" in sentence for sentence in said)
    added = {"loss_scale": 2.0**16, "skipped_steps": 0} if precision == "fp16" else {}
    assert metrics(half.snapshot_dir) == [line | added for line in metrics(whole.snapshot_dir)]
    left, right = (States(config.snapshot_dir).latest().arrays for config in (half, whole))
    assert [name for name in right if not np.array_equal(left[name], right[name])] == []


def test_paddle_s_autocast_does_not_act_on_the_cpu():
    """What the sentence above says; if this fails, a newer Paddle does better, and `autocast` should let it."""
    convolution, image = paddle.nn.Conv2D(3, 3, 1), paddle.rand([1, 3, 4, 4])
    with pytest.warns(UserWarning, match="makes no effect"), paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
        assert convolution(image).dtype == paddle.float32
    with autocast("bf16"):
        assert convolution(image).dtype == paddle.float32


def test_a_step_that_overflows_is_skipped_counted_and_resumed(tiny, tmp_path):
    """A factor beyond float32 overflows here as one of 2^16 may in float16."""
    config = tiny(precision="fp16", num_steps_stop=2)
    trainer = Trainer(config, notify=lambda sentence: None)
    trainer.learner.loss_scale = LossScale(2.0**140)
    before = {name: tensor.numpy().copy() for name, tensor in trainer.method.segmenter.state_dict().items()}
    trainer.run()
    after = trainer.method.segmenter.state_dict()
    parameters = [name for name, _ in trainer.method.segmenter.named_parameters() if "._" not in name]
    assert [name for name in parameters if not np.array_equal(before[name], after[name].numpy())] == []
    assert [line["skipped_steps"] for line in metrics(config.snapshot_dir)] == [1, 2]
    assert [line["loss_scale"] for line in metrics(config.snapshot_dir)] == [2.0**139, 2.0**138]
    resumed = Trainer(tiny(precision="fp16"), resume=True, notify=lambda sentence: None)
    scale = resumed.learner.loss_scale
    assert (scale.factor, scale.good_steps, scale.skipped) == (2.0**138, 0, 2)


def gradients(*values):
    return [paddle.to_tensor([1.0, value]) for value in values]


def test_the_loss_scale_adapts():
    scale = LossScale(8.0)
    (gradient,) = given = gradients(4.0)
    assert scale.unscale(given)
    assert gradient.numpy().tolist() == [0.125, 0.5]
    for bad in (float("inf"), float("nan")):
        assert not scale.unscale(gradients(1.0, bad))
    assert (scale.factor, scale.skipped) == (2.0, 2)
    for _ in range(LossScale.GROWTH_INTERVAL):
        assert scale.factor == 2.0
        assert scale.unscale(gradients(1.0))
    assert scale.factor == 4.0


def test_gradients_that_always_overflow_end_the_run():
    scale = LossScale(2.0)
    assert not scale.unscale(gradients(float("inf")))
    with pytest.raises(TrainingError, match="overflow"):
        scale.unscale(gradients(float("inf")))


def test_synchronised_batch_norm_needs_gpus(tiny):
    with pytest.raises(ConfigError, match="--sync-batch-norm needs GPUs"):
        train(tiny(sync_batch_norm=True))
    with pytest.raises(ConfigError, match=r"batch_norm is frozen"):
        tiny(sync_batch_norm=True, network__batch_norm="frozen")


def test_synchronised_batch_norm_keeps_names_parameters_and_what_is_trained(tiny, monkeypatch):
    """The exchange of layers, which needs no GPU, as their forward pass does."""
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    method = build_method(tiny())
    before = dict(method.segmenter.named_parameters())
    synchronise_batch_norms(method.networks)
    after = dict(method.segmenter.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is parameter for name, parameter in before.items())
    kinds = {type(layer).__name__ for layer in method.segmenter.sublayers() if "BatchNorm" in type(layer).__name__}
    assert kinds == {"SyncBatchNorm"}


@pytest.fixture
def synchronised_on_cpu(monkeypatch):
    """Alone, a synchronised norm computes what a usual one does; its own forward pass needs a GPU."""
    monkeypatch.setattr(nn.SyncBatchNorm, "_check_data_format", nn.BatchNorm2D._check_data_format)
    monkeypatch.setattr(nn.SyncBatchNorm, "_check_input_dim", nn.BatchNorm2D._check_input_dim, raising=False)
    monkeypatch.setattr(nn.SyncBatchNorm, "_use_global_stats", None, raising=False)
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", nn.BatchNorm2D.forward)
    monkeypatch.setattr("clan.training.trainer.synchronise_batch_norms", convert_without_a_gpu)


def test_synchronised_batch_norms_keep_the_statistics_of_both_domains(tiny, tmp_path, monkeypatch, synchronised_on_cpu):
    usual, synchronised = (tiny(network__batch_norm="per-domain", snapshot_dir=tmp_path / name) for name in "ab")
    synchronised = synchronised.model_copy(update={"sync_batch_norm": True})
    train(usual)
    device = paddle.device.get_device
    monkeypatch.setattr("clan.methods.base.paddle.device.get_device", lambda: "gpu:0")
    method = build_method(synchronised)
    method.segmenter.separate_statistics()  # in any order
    kept = set(method.segmenter.state_dict())
    synchronise_batch_norms(method.networks)
    assert set(method.segmenter.state_dict()) == kept
    monkeypatch.setattr(paddle.device, "get_device", device)
    train(synchronised)
    left, right = (States(config.snapshot_dir).latest().arrays for config in (usual, synchronised))
    assert any("_source_mean" in name for name in left)
    assert left.keys() == right.keys()
    for name, value in left.items():  # the kernels do not know synchronised norms: up to rounding
        np.testing.assert_allclose(right[name], value, rtol=0, atol=1e-3 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("synchronised", [True, False])
def test_no_rank_begins_synchronised_passes_alone(tiny, monkeypatch, synchronised_on_cpu, synchronised):
    """All have read their batches before; and the first does not look at what a synchronising teacher makes."""
    config = tiny(method="dacs", loss__gamma=0, num_steps_stop=2)
    trainer = Trainer(config.model_copy(update={"sync_batch_norm": synchronised}), notify=lambda sentence: None)
    done = []

    @contextmanager
    def together(ranks):
        yield
        done.append("met")

    monkeypatch.setattr(Ranks, "together", together)
    for owner, name in ((trainer.learner, "accumulate"), (trainer.bad_samples, "note"), (trainer.looks, "compare")):
        monkeypatch.setattr(owner, name, called(done, name, getattr(owner, name)))
    trainer.run()
    passes = done.index("accumulate")
    assert done[passes - 2 : passes] == (["note", "met"] if synchronised else ["note", "note"])
    assert ("compare" in done) != synchronised


def called(done, name, function):
    def noting(*arguments, **options):
        done.append(name)
        return function(*arguments, **options)

    return noting


def convert_without_a_gpu(networks):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paddle.device, "get_device", lambda: "gpu:0")
        synchronise_batch_norms(networks)


@pytest.mark.parametrize(
    ("precision", "capability", "ok"),
    [
        *[("tf32", (8, 0), True), ("tf32", (7, 5), False), ("fp32", (6, 1), True)],
        *[("fp16", (7, 0), True), ("fp16", (6, 1), False), ("bf16", (6, 1), False)],
    ],
)
def test_a_precision_needs_its_capability_and_tf32_is_what_is_asked_for(monkeypatch, precision, capability, ok):
    said = []
    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(paddle.amp, "is_float16_supported", lambda: capability >= (5, 3))
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: capability >= (8, 0))
    for library in ("cublas", "cudnn"):
        monkeypatch.setattr(core, f"set_{library}_switch", said.append, raising=False)
        monkeypatch.setattr(core, f"get_{library}_switch", lambda: said[-1], raising=False)
    if ok:
        assert check_precision(precision) is None
    else:
        with pytest.raises(ConfigError, match=f"does not compute in {precision}: use --precision fp32"):
            check_precision(precision)
    assert said == [precision == "tf32"] * 2
    assert tf32_allowed() is (precision == "tf32")


def test_the_cpu_has_no_tf32(tiny):
    _, said = train(tiny(precision="tf32", num_steps_stop=1))
    assert "--precision tf32: only GPUs have TF32, so the CPU computes in float32" in said
    assert tf32_allowed() is None
