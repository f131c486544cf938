"""DAFormer's head: what it computes, where its names are from, and which options are its own."""

import json

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from clan.core.errors import ConfigError
from clan.core.schema import build
from clan.models.daformer_head import DAFormerHead
from clan.models.options import NetworkConfig
from clan.models.segmenter import build_segmenter, own_weights
from clan.models.weight_files import read_arrays, write_arrays
from clan.models.weights import load_weights, save_weights, to_file_names
from tests.conftest import Golden, relative

pytestmark = pytest.mark.plain

CHANNELS = (4, 6, 8, 10)


def head(dropout=0.0, classes=3) -> DAFormerHead:
    paddle.seed(0)
    made = DAFormerHead(CHANNELS, classes, channels=8, dropout=dropout)
    for parameter in own_weights(made):
        parameter.set_value(0.3 * paddle.randn(parameter.shape))
    return made


def levels(height=8, width=12):
    paddle.seed(1)
    return [paddle.randn([2, k, -(-height // s), -(-width // s)]) for k, s in zip(CHANNELS, (1, 2, 4, 8), strict=True)]


def formula(state, maps, classes=3):
    """The head's inference, written once more with nothing but the arrays by name."""

    def unit(name, x, **options):
        x = F.conv2d(x, state[f"{name}.conv.weight"], **options)
        mean, variance = state[f"{name}.bn._mean"], state[f"{name}.bn._variance"]
        x = F.batch_norm(x, mean, variance, state[f"{name}.bn.weight"], state[f"{name}.bn.bias"], epsilon=1e-5)
        return F.relu(x)

    brought = []
    for number, x in enumerate(maps):
        weight, bias = (state[f"embed_layers.{number}.proj.{kind}"] for kind in ("weight", "bias"))
        x = paddle.einsum("ok,bkhw->bohw", weight, x) + bias.reshape([1, -1, 1, 1])
        brought.append(F.interpolate(x, maps[0].shape[2:], mode="bilinear", align_corners=False))
    x = paddle.concat(brought, axis=1)
    branches = [unit("fuse_layer.aspp_modules.0", x)]
    for number, dilation in enumerate((6, 12, 18), start=1):
        name = f"fuse_layer.aspp_modules.{number}"
        deep = unit(f"{name}.depthwise_conv", x, padding=dilation, dilation=dilation, groups=x.shape[1])
        branches.append(unit(f"{name}.pointwise_conv", deep))
    fused = unit("fuse_layer.bottleneck", paddle.concat(branches, axis=1), padding=1)
    return F.conv2d(fused, state["conv_seg.weight"], state["conv_seg.bias"])


def test_the_head_is_its_formula():
    made = head()
    made.train()
    made(*levels())  # running statistics that differ from the initial ones
    made.eval()
    with paddle.no_grad():
        assert relative(made(*levels()), formula(made.state_dict(), levels()).numpy()) < 1e-5


def test_dropout_leaves_out_channels_in_training_as_paddle_s_generator_draws():
    made, maps = head(dropout=0.5), levels()
    results = []
    for seed in (0, 0, 1):
        paddle.seed(seed)
        results.append(made(*maps).numpy())
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    made.eval()
    np.testing.assert_array_equal(made(*levels()).numpy(), made(*levels()).numpy())
    made.train()
    dropped = made.dropout(paddle.ones([1, 64, 3, 3]))
    assert {tuple(plane.unique().tolist()) for plane in dropped[0]} == {(0.0,), (2.0,)}


@pytest.mark.parametrize("backbone", ["resnet-tiny", "mobilenetv2"])
@pytest.mark.parametrize("heads", [1, 2])
def test_logits_are_at_a_quarter_of_the_side_from_all_four_levels(backbone, heads):
    network = NetworkConfig(backbone=backbone, model="daformer", num_classes=3, num_heads=heads, head_channels=8)
    segmenter = build_segmenter(network)
    assert segmenter.backbone.strides == (4, 8, 16, 32)
    segmenter.train()
    logits = segmenter(paddle.randn([2, 3, 64, 96]))
    assert len(logits) == heads
    assert all(length in (fine, fine + 1) for length, fine in zip(logits[0].shape[2:], (16, 24), strict=True))
    assert all(one.shape == logits[0].shape for one in logits)
    paddle.add_n([one.square().mean() for one in logits]).backward()
    trained = [p for made in segmenter.heads for p in made.parameters() if not p.stop_gradient]
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in trained)


def test_names_and_shapes_are_the_authors_and_their_files_load(shared, tmp_path):
    shapes = json.loads((shared / "golden/selftraining/shapes_daformer.json").read_text())
    wanted = {name: tuple(shape) for name, shape in shapes.items() if name.startswith("decode_head.")}
    made = DAFormerHead((32, 64, 160, 256), 19)
    renamed = {name.replace("_mean", "running_mean").replace("_variance", "running_var") for name in made.state_dict()}
    assert {f"decode_head.{name}" for name in renamed} == set(wanted)
    random = np.random.default_rng(0)
    file = tmp_path / "theirs.pth"
    write_arrays({name: random.random(shape, np.float32) for name, shape in wanted.items()}, file)
    assert not load_weights(Holder(made), file, strict=True).unexpected


class Holder(paddle.nn.Layer):
    """A segmenter without a backbone."""

    def __init__(self, made):
        super().__init__()
        self.head1 = made


def test_logits_and_running_statistics_equal_the_authors(shared, tmp_path):
    official = Golden(shared / "golden/selftraining")
    write_arrays(official._weights.golden_state(41), tmp_path / "daformer.pth")
    options = {"num_heads": 1, "align_corners": False, "drop_path": 0.0, "dropout": 0.0}
    segmenter = build_segmenter(NetworkConfig(backbone="mit-b0", model="daformer", **options))
    assert not load_weights(segmenter, tmp_path / "daformer.pth", strict=True).unexpected
    expected = official.arrays("forward")
    images = (expected["image_u8_NHWC"].astype(np.float32) - expected["mean"]) / expected["std"]
    for mode in ("eval", "train"):
        segmenter.train() if mode == "train" else segmenter.eval()
        (logits,) = segmenter(paddle.to_tensor(images.transpose(0, 3, 1, 2)))
        assert relative(logits, expected[f"logits_{mode}"]) < 1e-4
    state = to_file_names(segmenter.state_dict())
    after = {name.removeprefix("after_train/"): array for name, array in expected.items() if "/" in name}
    for name, theirs in to_file_names(after).items():
        # Paddle keeps the biased variance of a batch as the running one, PyTorch the unbiased.
        assert relative(state[name], theirs) < (3e-3 if name.endswith("_variance") else 1e-4), name


def test_weights_survive_their_file_under_the_names_of_heads(tmp_path):
    network = NetworkConfig(backbone="resnet-tiny", model="daformer", num_classes=3, head_channels=8)
    first, second = build_segmenter(network), build_segmenter(network)
    save_weights(first, tmp_path / "weights.safetensors")
    assert {"layer5.conv_seg.weight", "layer6.fuse_layer.bottleneck.bn._mean"} <= set(
        read_arrays(tmp_path / "weights.safetensors")
    )
    load_weights(second, tmp_path / "weights.safetensors", strict=True)
    for name, tensor in second.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), first.state_dict()[name].numpy(), err_msg=name)


@pytest.mark.parametrize(("option", "value"), [("head_channels", 96), ("dropout", 0.2)])
def test_the_head_s_options_are_refused_for_other_heads(option, value):
    assert getattr(build(NetworkConfig, {"model": "daformer", option: value}), option) == value
    with pytest.raises(ConfigError, match=f"{option} is for the head daformer, and model is deeplab: leave"):
        build(NetworkConfig, {option: value})


def test_the_output_stride_is_what_the_head_is_meant_for_unless_given():
    strides = {("deeplab", None): 8, ("daformer", None): 32, ("daformer", 8): 8, ("deeplab", 32): 32}
    for (model, given), stride in strides.items():
        assert NetworkConfig(model=model, output_stride=given).stride == stride
