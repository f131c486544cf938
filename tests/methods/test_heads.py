"""One head instead of two, and heads that read several levels: from training to what is made of the weights."""

from functools import partial

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from clan.cli import main as cli
from clan.core.errors import ConfigError
from clan.evaluation.label_maps import load_segmenter, options_for
from clan.methods import METHODS, build_method
from clan.methods.base import Progress
from clan.models.heads import Head
from clan.models.options import BACKBONES, HEADS, NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.models.weights import load_weights, save_weights
from clan.reporting.inspection.findings import read_findings
from clan.reporting.inspection.run import inspect_run
from clan.reporting.inspection.subject import Options
from clan.training.run import train
from tests.methods import test_contract
from tests.methods.test_contract import build, pair


@pytest.mark.parametrize("name", METHODS)
def test_methods_work_with_one_head_or_say_that_they_need_two(name):
    if name == "clan":
        with pytest.raises(ConfigError, match=r"clan .* 2 .*network\.num_heads is 1"):
            build(name, num_heads=1)
        return
    method = build(name, num_heads=1)
    losses = method.train_step(pair(), Progress(50, 100, 10), lambda loss: loss.backward())
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    assert method.segmenter.head1.conv2d_list[0].weight.grad is not None
    assert len(method.segmenter.heads) == 1


DAFORMER = {"model": "daformer", "head_channels": 8, "align_corners": False}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("test", ["every_trainable_parameter", "networks_learn", "a_step_is"])
def test_methods_keep_their_contract_with_heads_that_read_all_levels(name, test, monkeypatch):
    """Of `clan` and the other methods with two heads, these are two daformer heads."""
    monkeypatch.setattr(test_contract, "build", partial(build, **DAFORMER))
    (checked,) = (check for key, check in vars(test_contract).items() if key.startswith(f"test_{test}"))
    checked(name)


@pytest.mark.parametrize(
    ("method", "backbone", "assumed"),
    [
        ("clan", "resnet-tiny", "--output-stride 32, --input-normalization caffe-bgr"),
        ("mic", "mit-b0", "--input-normalization imagenet-rgb"),
    ],
)
def test_a_run_with_daformer_heads_resumes_bit_for_bit_and_its_weights_are_used(
    method, backbone, assumed, worlds, tmp_path, capsys
):
    """With MiT also AdamW, stochastic depth and, as with all of these heads, dropout."""
    from tests.conftest import assert_same_end, tiny_config

    network = DAFORMER | {"backbone": backbone}
    options = {f"network__{name}": value for name, value in network.items()} | {"method": method}
    if method == "mic":
        options |= {"augmentation__crop_size": (64, 32), "augmentation__random_scale": False}
        options |= {"optimizer__algorithm": "adamw", "optimizer__learning_rate": 1e-3}
    train(tiny_config(worlds, tmp_path / "whole", **options))
    train(tiny_config(worlds, tmp_path / "halves", **options, num_steps_stop=2))
    weights = train(tiny_config(worlds, tmp_path / "halves", **options), resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "halves")
    picture = next((worlds / "Cityscapes/leftImg8bit/val").rglob("*.png"))
    weights = weights.rename(tmp_path / "alone.pdparams")
    cli.dispatch(["predict", str(picture), "--weights", str(weights), "-o", str(tmp_path / "seen")])
    said = capsys.readouterr().out
    assert f"recognised as {backbone} for 19 classes; assumed: {assumed}\n" in said


@pytest.fixture(scope="module")
def one_head(worlds, tmp_path_factory):
    """A run of one step with one head."""
    from tests.conftest import tiny_config

    folder = tmp_path_factory.mktemp("one") / "run"
    steps = {"num_steps": 1, "warmup_steps": 0, "save_every": 1}
    return train(tiny_config(worlds, folder, method="adaptsegnet-single", network__num_heads=1, **steps))


def test_what_needs_two_heads_is_left_out_and_said(one_head, worlds, tmp_path, capsys):
    picture = next((worlds / "Cityscapes/leftImg8bit/val").rglob("*.png"))
    cli.dispatch(["predict", str(picture), "--weights", str(one_head), "-o", str(tmp_path / "seen")])
    assert "one head" in capsys.readouterr().out
    written = {path.name.removeprefix(picture.stem) for path in (tmp_path / "seen").iterdir()}
    assert written == {".png", "_color.png", "_overlay.jpg", "_confidence.png", "legend.png"}
    inspect_run(one_head.parent, tmp_path / "inspect", options=Options(images=1, snapshots=1))
    found = read_findings(tmp_path / "inspect")
    assert found is not None and any("one head" in remark for remark in found.remarks)
    (snapshot,) = found.snapshots
    assert (snapshot.discrepancy, snapshot.head_cosine) == (None, None)
    assert snapshot.discriminators
    assert not (tmp_path / "inspect/discrepancy.png").exists()
    assert (tmp_path / "inspect/features.png").exists()


def test_a_report_shows_a_run_with_one_head(one_head, worlds, tmp_path):
    from clan.data.dataset import Dataset
    from clan.evaluation.bulk import evaluate_and_score
    from clan.reporting.page import make_report

    inspect_run(one_head.parent, options=Options(images=1, snapshots=1))
    dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val")
    evaluate_and_score(one_head.parent, dataset, tmp_path / "result", tmp_path, num_classes=None, upsampling=None)
    page = make_report([one_head.parent], tmp_path / "report.html", results=[tmp_path / "result"], images=1)
    assert all("discrepancy" not in layer.name for one in page.examples for layer in one.layers)


def test_the_label_map_of_one_head_is_its_largest_logit(one_head):
    options = options_for(one_head, num_classes=None, upsampling=None)
    assert options.network.num_heads == 1
    segmenter = load_segmenter(one_head, options.network)
    (logits,) = segmenter(paddle.ones([1, 3, 32, 64]))
    assert logits.shape[1] == 19


LARGE_OR_PATCHES = {"resnet101", "resnet50", "dinov2-s", "dinov2-b", "dinov2-l", *(f"mit-b{n}" for n in range(1, 6))}
"""Backbones that are slow to build, or whose features are at the resolution of patches: tests/models/test_dinov2.py."""


@pytest.mark.parametrize("backbone", sorted(name for name in BACKBONES if name not in LARGE_OR_PATCHES))
def test_heads_say_which_levels_they_read(backbone, monkeypatch):
    monkeypatch.setitem(HEADS, "sum", "tests.examples.head:SumHead")
    network = NetworkConfig(
        model="sum", backbone=backbone, num_classes=4, num_heads=1, output_stride=32, align_corners=False
    )
    segmenter = build_segmenter(network)
    (logits,) = segmenter(paddle.ones([1, 3, 64, 96]))
    assert all(length in (fine, fine + 1) for length, fine in zip(logits.shape[2:], (8, 12), strict=True))
    whole = segmenter.resize(logits, (64, 96))
    expected = F.interpolate(logits, size=(64, 96), mode="bilinear", align_corners=False)
    np.testing.assert_array_equal(whole.numpy(), expected.numpy())


def test_label_maps_follow_the_way_in_which_logits_are_resized(tiny):
    from clan.evaluation.inference import predict

    network = NetworkConfig(backbone="resnet-tiny", num_classes=5)
    planes = np.random.default_rng(0).normal(0, 50, (1, 3, 32, 64)).astype(np.float32)
    for aligned in (True, False):
        segmenter = build_segmenter(network.model_copy(update={"align_corners": aligned}))
        segmenter.eval()
        logits1, logits2 = segmenter(paddle.to_tensor(planes))
        full = F.interpolate(logits1 + logits2, size=(96, 128), mode="bilinear", align_corners=aligned)
        found = predict(segmenter, planes, [(96, 128)])[0]()
        assert (found == full.argmax(axis=1)[0].numpy()).mean() > 0.999


def test_weights_keep_their_names_on_file_and_older_ones_fit(tmp_path):
    from clan.models.weight_files import read_arrays, write_arrays

    segmenter = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=3))
    save_weights(segmenter, tmp_path / "now.pdparams")
    arrays = read_arrays(tmp_path / "now.pdparams")
    assert {"conv1.weight", "layer4.0.bn3._mean", "layer5.conv2d_list.0.weight", "layer6.conv2d_list.3.bias"} <= set(
        arrays
    )
    former = {name.replace("backbone.", "trunk."): tensor.numpy() for name, tensor in segmenter.state_dict().items()}
    write_arrays(former, tmp_path / "former.safetensors")
    other = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=3))
    assert not load_weights(other, tmp_path / "former.safetensors", strict=True).missing
    assert all(
        np.array_equal(a.numpy(), b.numpy()) for a, b in zip(other.parameters(), segmenter.parameters(), strict=True)
    )
    assert isinstance(segmenter.head1, Head)


def test_a_method_is_built_from_the_configuration_s_network(tiny):
    config = tiny(method="minent", network__num_heads=1, network__output_stride=32, network__align_corners=False)
    segmenter = build_method(config).segmenter
    assert (segmenter.num_heads, segmenter.align_corners, segmenter.backbone.strides[-1]) == (1, False, 32)
