"""Kernels come, go, and leave alone what they were not written for; without them everything works."""

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from clan import kernels
from clan.core import ranks as distributed
from clan.core import runtime
from clan.core.errors import ConfigError
from clan.core.ranks import Ranks
from clan.core.runtime import KernelState
from clan.kernels import KERNELS, bridge, softmax
from clan.losses import segmentation
from clan.losses.segmentation import class_probabilities
from clan.models.discriminator import Discriminator
from clan.models.heads import Head
from clan.models.mobilenet import Depthwise
from clan.models.options import NetworkConfig
from clan.models.resnet import Bottleneck
from clan.models.segmenter import build_segmenter
from clan.training.run import train
from tests.conftest import metrics
from tests.pages import ROOT


def in_place() -> list[bool]:
    return [hasattr(getattr(kernel.owner, kernel.name), "kernel") for kernel in KERNELS]


def test_all_are_in_place_once_and_can_be_taken_away():
    """So whoever changes a function that has a kernel is told that the kernel is not used any more."""
    assert kernels.remark() is None
    assert all(in_place())
    installed = [getattr(kernel.owner, kernel.name) for kernel in KERNELS]
    kernels.install()
    assert [getattr(kernel.owner, kernel.name) for kernel in KERNELS] == installed
    kernels.uninstall()
    kernels.uninstall()
    assert not any(in_place())
    assert "forward" not in vars(Depthwise)
    assert isinstance(vars(Head)["run_together"], staticmethod)
    assert segmentation.softmax is F.softmax


def test_threads_may_install_and_compute_at_once():
    x = paddle.randn([1, 3, 8, 8])
    expected, failures = F.softmax(x, axis=1).numpy(), []

    def toggle(change):
        try:
            for _ in range(20):
                change()
                np.testing.assert_allclose(class_probabilities(x).numpy(), expected, atol=1e-6)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=toggle, args=[change]) for change in [kernels.install, kernels.uninstall] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    kernels.uninstall()
    assert not any(in_place())


def test_what_somebody_else_puts_over_a_kernel_stays(monkeypatch):
    kernels.uninstall()
    plain = Bottleneck.forward
    kernels.install()
    ours = Bottleneck.forward
    monkeypatch.setattr(Bottleneck, "forward", lambda self, x: ours(self, x) + 1.0)
    kernels.uninstall()
    block = Bottleneck(16, 4)
    assert block(paddle.zeros([1, 16, 4, 4])).numpy().min() >= 1.0
    monkeypatch.undo()
    Bottleneck.forward = plain


def run(layer: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    return Head.run_together([layer], x)[0] if isinstance(layer, Head) else layer(x)


def edited_bottleneck(self: Bottleneck, x: paddle.Tensor) -> paddle.Tensor:
    out = F.relu(self.bn1(self.conv1(x)))
    out = F.dropout(F.relu(self.bn2(self.conv2(out))), 1.0, training=True)
    out = self.bn3(self.conv3(out))
    shortcut = x if self.downsample is None else self.downsample(x)
    return F.relu(out + shortcut)


def edited_head(self: Head, features: paddle.Tensor) -> paddle.Tensor:
    return self.conv2d_list[0](features)


def edited_discriminator(self: Discriminator, probability: paddle.Tensor) -> paddle.Tensor:
    x = probability
    for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
        x = F.leaky_relu(layer(x), 0.1)
    return self.classifier(x)


@pytest.mark.parametrize(
    ("owner", "edited", "make", "shape"),
    [
        (Bottleneck, edited_bottleneck, lambda: Bottleneck(16, 4), [1, 16, 5, 5]),
        (Head, edited_head, lambda: Head(4, 3), [1, 4, 30, 30]),
        (Discriminator, edited_discriminator, lambda: Discriminator(3, 4), [1, 3, 32, 32]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_an_edited_forward_is_what_runs(monkeypatch, owner, edited, make, shape, late):
    """Whether it was edited in the file or at run time, after kernels had been put in place."""
    if not late:
        kernels.uninstall()
    monkeypatch.setattr(owner, "forward", edited)
    kernels.install()
    layer, x = make(), paddle.randn(shape)
    np.testing.assert_array_equal(run(layer, x).numpy(), edited(layer, x).numpy())
    if not late:
        assert kernels.active()
        assert owner.__name__ in kernels.remark()


class Silent(nn.Conv2D):
    def forward(self, x):
        return 0.0 * super().forward(x)


def with_layer(path: str, layer: nn.Layer):
    """Puts a layer in another one's place."""

    def change(network: nn.Layer) -> None:
        *owners, name = path.split(".")
        for owner in owners:
            network = getattr(network, owner)
        setattr(network, name, layer)

    return change


def listened_to(path: str):
    def change(network: nn.Layer) -> None:
        for name in path.split("."):
            network = getattr(network, name)
        network.register_forward_post_hook(lambda layer, x, y: y * 2.0)

    return change


def of_own_forward(network: nn.Layer) -> None:
    network.conv1.forward = lambda x: nn.Conv2D.forward(network.conv1, x) * 3.0


def block() -> Bottleneck:
    return Bottleneck(16, 4, dilation=2, project=True)


CHANGES = {
    "block: a subclass's convolution": (block, with_layer("conv2", Silent(4, 4, 3, padding=2, dilation=2))),
    "block: no convolution": (block, with_layer("conv1", nn.Sequential(nn.Conv2D(16, 4, 1)))),
    "block: a bias": (block, with_layer("conv3", nn.Conv2D(4, 16, 1, bias_attr=nn.initializer.Constant(1.0)))),
    "block: groups": (block, with_layer("conv2", nn.Conv2D(4, 4, 3, padding=2, dilation=2, groups=2, bias_attr=False))),
    "block: another dilation": (block, with_layer("conv2", nn.Conv2D(4, 4, 3, padding=1, bias_attr=False))),
    "block: reflected border": (
        block,
        with_layer("conv2", nn.Conv2D(4, 4, 3, padding=2, dilation=2, padding_mode="reflect", bias_attr=False)),
    ),
    "block: another norm": (block, with_layer("bn2", nn.GroupNorm(2, 4))),
    "block: statistics as they are": (block, with_layer("bn1", nn.BatchNorm2D(4, use_global_stats=True))),
    "block: a norm without γ": (block, with_layer("bn1", nn.BatchNorm2D(4, weight_attr=False))),
    "block: another shortcut": (block, with_layer("downsample", nn.Conv2D(16, 16, 1))),
    "block: a hook within": (block, listened_to("bn3")),
    "block: a hook on the shortcut": (block, listened_to("downsample")),
    "block: an own forward within": (block, of_own_forward),
    "depthwise: a bias": (lambda: Depthwise(16), lambda layer: setattr(layer, "bias", layer.create_parameter([16]))),
    "discriminator: a subclass's convolution": (
        lambda: Discriminator(16, 4),
        with_layer("conv1", Silent(16, 4, 4, stride=2, padding=1)),
    ),
    "discriminator: a hook within": (lambda: Discriminator(16, 4), listened_to("classifier")),
    "head: a hook on it": (lambda: Head(16, 3), lambda head: head.register_forward_post_hook(lambda *_: _[2] + 1.0)),
    "head: a hook on a branch": (lambda: Head(16, 3), listened_to("conv2d_list.1")),
    "head: one branch more": (lambda: Head(16, 3), lambda head: head.conv2d_list.append(nn.Conv2D(16, 3, 1))),
    "head: another kernel": (lambda: Head(16, 3), lambda head: head.conv2d_list.__setitem__(0, nn.Conv2D(16, 3, 1))),
}


@pytest.mark.parametrize(("make", "change"), CHANGES.values(), ids=CHANGES)
def test_a_changed_layer_runs_as_it_is(make, change):
    paddle.seed(0)
    layer, x = make(), paddle.randn([2, 16, 32, 35])
    shape = run(layer, x).shape
    change(layer)
    layer.eval()  # so that running statistics stay
    found = run(layer, x)
    kernels.uninstall()
    np.testing.assert_array_equal(found.numpy(), run(layer, x).numpy())
    assert found.shape == shape


class OwnHead(Head):
    def forward(self, features):
        return super().forward(features) * 2.0


def test_subclasses_keep_their_own_forward():
    x = paddle.randn([1, 8, 9, 9])
    own, other = OwnHead(8, 3), Head(8, 3)
    for ours, head in zip(Head.run_together([own, other], x), (own, other), strict=True):
        np.testing.assert_array_equal(ours.numpy(), head(x).numpy())


@pytest.mark.parametrize(
    "heads", [[], [(3, (1, 2))], [(3, (1, 2)), (5, (1, 2))], [(3, (1, 2)), (3, (2, 4))], [(3, (1, 2))] * 3]
)
def test_any_heads_may_run_together(heads):
    x = paddle.randn([1, 8, 9, 9])
    made = [Head(8, classes, dilations) for classes, dilations in heads]
    found = Head.run_together(made, x)
    assert len(found) == len(made)
    for ours, head in zip(found, made, strict=True):
        np.testing.assert_allclose(ours.numpy(), head(x).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "fits"),
    [
        ((lambda x: segmentation.softmax(x, axis=1)), True),
        ((lambda x: segmentation.softmax(x, 1)), True),
        ((lambda x: segmentation.softmax(x)), False),
        ((lambda x: segmentation.softmax(x=x, axis=-1)), False),
        ((lambda x: segmentation.softmax(x[0], axis=1)), False),
        ((lambda x: segmentation.softmax(x, axis=1, dtype="float64")), False),
        ((lambda x: segmentation.softmax(x.astype("float64"), axis=1)), False),
    ],
)
def test_only_calls_that_fit_go_to_the_kernel(monkeypatch, call, fits):
    calls = []
    monkeypatch.setattr(softmax.ClassSoftmax, "apply", lambda x: calls.append(x) or F.softmax(x, axis=1))
    x = paddle.randn([2, 3, 4, 5])
    found = call(x)
    assert len(calls) == fits
    kernels.uninstall()
    np.testing.assert_array_equal(found.numpy(), call(x).numpy())


def test_mixed_precision_other_types_and_nothing_are_left_to_paddle(monkeypatch):
    x = paddle.zeros([1])
    assert bridge.takes_over(x)
    assert not bridge.takes_over(x.astype("float16"))
    assert not bridge.takes_over(paddle.zeros([0, 3]))
    monkeypatch.setattr(paddle.amp, "is_autocast_enabled", lambda: True)
    assert not bridge.takes_over(x)


class Networks(nn.Layer):
    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.segmenter = build_segmenter(NetworkConfig(backbone=backbone, num_classes=3))
        self.discriminator = Discriminator(3, 4)

    def forward(self, x):
        logits1, logits2 = self.segmenter(x)
        prob = class_probabilities(logits1 + logits2)
        return logits1, self.discriminator(F.interpolate(prob, size=[64, 64]))


@pytest.mark.parametrize("backbone", ["resnet-tiny", "mobilenetv2"])
def test_what_is_traced_is_made_of_paddle_s_operators(backbone, tmp_path):
    network, x = Networks(backbone), paddle.randn([1, 3, 65, 65])
    network.eval()
    expected = network(x)
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
    paddle.jit.save(paddle.jit.to_static(network, input_spec=spec, full_graph=True), str(tmp_path / "network"))
    for found, wanted in zip(paddle.jit.load(str(tmp_path / "network"))(x), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


def read_only(tensor):
    array = tensor.numpy()
    array.flags.writeable = False
    return array


def without_dlpack(tensor):
    raise RuntimeError("no DLPack\nat some place")


@pytest.mark.parametrize("as_array", [read_only, without_dlpack, lambda tensor: tensor.numpy()])
def test_a_paddle_whose_memory_cannot_be_shared_computes_by_itself(monkeypatch, as_array):
    """Paddle 3.2.2 gives read-only memory."""
    kernels.uninstall()
    monkeypatch.setattr(bridge, "as_array", as_array)
    remark = bridge.missing.__wrapped__()
    assert "does not share its memory" in remark
    assert "\n" not in remark
    monkeypatch.setattr(kernels, "missing", lambda: remark)
    runtime.import_paddle()
    assert runtime.kernel_state() == KernelState(False, remark)
    assert not any(in_place())


def test_a_paddle_that_does_not_tell_of_mixed_precision_computes_by_itself(monkeypatch):
    """Paddle 3.0.0 does not."""
    monkeypatch.delattr(paddle.amp, "is_autocast_enabled")
    assert "mixed precision" in bridge.missing.__wrapped__()


def test_the_environment_decides(monkeypatch):
    for value, active in (("0", False), ("1", True), ("0", False)):
        monkeypatch.setenv("CLAN_KERNELS", value)
        runtime.import_paddle()
        assert runtime.kernel_state().active == active
        assert all(in_place()) == any(in_place()) == active
    monkeypatch.setenv("CLAN_KERNELS", "no")
    with pytest.raises(ConfigError, match="CLAN_KERNELS is 'no'"):
        runtime.import_paddle()


def test_a_state_goes_on_on_the_other_path(tiny, tmp_path, monkeypatch):
    """Up to rounding; and every run says what computed it."""
    whole = tiny(num_steps=4, snapshot_dir=tmp_path / "whole")
    train(whole)
    for first, then in (("1", "0"), ("0", "1")):
        folder = tmp_path / f"resumed with {then}"
        monkeypatch.setenv("CLAN_KERNELS", first)
        train(tiny(num_steps=4, num_steps_stop=2, snapshot_dir=folder))
        recorded = [json.loads((folder / "environment.json").read_text())["kernels"]]
        monkeypatch.setenv("CLAN_KERNELS", then)
        train(tiny(num_steps=4, snapshot_dir=folder), resume=True, accept_changes=True)
        recorded.append(json.loads((folder / "environment.json").read_text())["kernels"])
        assert sorted(recorded) == ["active", "not active: CLAN_KERNELS is 0: unset it"]
        for ours, theirs in zip(metrics(folder), metrics(tmp_path / "whole"), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3)


def test_ranks_on_different_paths_do_not_start(monkeypatch):
    ranks = Ranks(rank=1)
    monkeypatch.setattr(ranks, "from_first", lambda make: KernelState(False, "CLAN_KERNELS is 0: unset it"))
    with pytest.raises(ConfigError, match="on rank 1, but not active: CLAN_KERNELS is 0"):
        distributed._require_same_kernels(ranks)
    monkeypatch.setattr(ranks, "from_first", lambda make: make())
    distributed._require_same_kernels(ranks)


@pytest.mark.parametrize("own", [True, False])
def test_ranks_that_multiply_differently_do_not_start(monkeypatch, own):
    ranks = Ranks(rank=1, size=2)
    monkeypatch.setattr(ranks, "_agree", lambda failure: failure)
    monkeypatch.setattr(distributed, "has_bf16_kernels", lambda: own)
    monkeypatch.setattr(ranks, "from_first", lambda make: not own)
    has, lacks = (1, 0) if own else (0, 1)
    with pytest.raises(ConfigError, match=f"rank {has} multiplies in bf16, and that of rank {lacks} in float32: use"):
        distributed.require_same_products(ranks, "bf16")
    distributed.require_same_products(ranks, "fp32")
    monkeypatch.setattr(ranks, "from_first", lambda make: own)
    distributed.require_same_products(ranks, "bf16")


@pytest.fixture
def without_folder(tmp_path) -> dict[str, str]:
    """An environment in which this package has no kernels."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("kernels", "*.pyc"))
    return {**os.environ, "PYTHONPATH": str(tmp_path / "src")}


def test_without_the_folder_golden_numbers_and_training_hold(without_folder):
    """The tests of golden numbers, where the reference's are here; in any case losses, gradients and resuming."""
    tests = ["models/test_deeplab.py", "losses/test_losses.py", "methods/test_contract.py", "training/test_trainer.py"]
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", *(f"tests/{name}" for name in tests)]
    chosen = ["-k", "not test_trainer or equals_one_that_was_not_interrupted"]
    result = subprocess.run([*command, *chosen], cwd=ROOT, env=without_folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "this installation has no clan.kernels" in result.stdout


def test_a_folder_of_old_bytecode_is_no_kernels(without_folder, tmp_path):
    (tmp_path / "src/clan/kernels/__pycache__").mkdir(parents=True)
    code = "from clan import runtime; runtime.import_paddle(); print(runtime.kernel_state())"
    said = subprocess.check_output([sys.executable, "-c", code], env=without_folder, text=True)
    assert "this installation has no clan.kernels" in said
