"""MiT against the authors' results, against plain PyTorch, and at any size."""

import numpy as np
import paddle
import pytest

from clan.core.errors import ConfigError
from clan.core.schema import build as build_section
from clan.core.schema import find
from clan.methods import METHODS
from clan.models.mit import MiT
from clan.models.normalization import IMAGENET
from clan.models.options import BACKBONES, NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.models.weight_files import write_arrays
from clan.models.weights import load_weights, to_file_names
from tests.conftest import Golden, relative
from tests.methods.test_contract import build, gradients, pair, parameters
from tests.needs import module

pytestmark = pytest.mark.plain


def tiny() -> MiT:
    """The network's structure in small, with drawn values where the initial ones are alike."""
    network = MiT((4, 8, 10, 16), (1, 2, 1, 1), drop_path=0.0)
    for parameter in network.parameters():
        parameter.set_value(parameter + 0.3 * paddle.randn(parameter.shape))
    return network


def test_features_equal_the_authors(shared, tmp_path):
    official = Golden(shared / "golden/selftraining")
    write_arrays(official._weights.golden_state(41), tmp_path / "daformer.pth")
    segmenter = build_segmenter(NetworkConfig(backbone="mit-b0"))
    assert len(load_weights(segmenter, tmp_path / "daformer.pth").matched) == len(segmenter.backbone.state_dict())
    expected = official.arrays("forward")
    assert relative(IMAGENET.mean, expected["mean"]) < 1e-6
    assert relative(IMAGENET.std, expected["std"]) < 1e-6
    images = (expected["image_u8_NHWC"].astype(np.float32) - expected["mean"]) / expected["std"]
    segmenter.eval()
    with paddle.no_grad():
        levels = segmenter.backbone.pyramid(paddle.to_tensor(images.transpose(0, 3, 1, 2)))
    for number, level in enumerate(levels, start=1):
        assert relative(level, expected[f"feature{number}_eval"]) < 1e-5


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (27, 90), (9, 13)])
def test_any_size_equals_plain_pytorch(size):
    """Forward and all gradients, also where a map is smaller than what attention reduces to one cell."""
    torch = module("torch", "torch")
    paddle.seed(size[0])
    network = tiny()
    images = np.random.default_rng(size[1]).normal(size=(2, 3, *size)).astype(np.float32)
    weights = {name: torch.from_numpy(tensor.numpy()).requires_grad_() for name, tensor in network.state_dict().items()}
    expected = plain_mit(torch, weights, torch.from_numpy(images), depths=(1, 2, 1, 1))
    levels = network.pyramid(paddle.to_tensor(images))
    for ours, theirs in zip(levels, expected, strict=True):
        assert relative(ours, theirs.detach().numpy()) < 1e-4
    paddle.add_n([(level * level.detach() ** 2).mean() for level in levels]).backward()
    sum((level * level.detach() ** 2).mean() for level in expected).backward()
    for name, parameter in network.named_parameters():
        gradient = weights[name].grad.numpy()
        # Attention does not change when the same is added to all keys, nor where there is one key.
        if name.endswith("attn.kv.bias") or not np.abs(gradient).max() > 1e-5:
            np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-3, atol=1e-4, err_msg=name)
        else:
            assert relative(parameter.grad, gradient) < 1e-3, name


def plain_mit(torch, weights, x, *, depths):
    """The four levels, written from the paper."""
    nn = torch.nn.functional

    def linear(x, name):
        return nn.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name, epsilon):
        return nn.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)

    def convolve(x, name, **options):
        return nn.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    levels = []
    for stage, (depth, heads, reduction) in enumerate(zip(depths, (1, 2, 5, 8), (8, 4, 2, 1), strict=True), start=1):
        side, stride = (7, 4) if stage == 1 else (3, 2)
        x = convolve(x, f"patch_embed{stage}.proj", stride=stride, padding=side // 2)
        batch, channels, height, width = x.shape
        x = norm(x.flatten(2).mT, f"patch_embed{stage}.norm", 1e-5)
        for number in range(depth):
            block = f"block{stage}.{number}"
            y = norm(x, f"{block}.norm1", 1e-6)
            seen = y
            if reduction > 1:
                maps = y.mT.reshape(batch, channels, height, width)
                maps = nn.pad(maps, (0, max(0, reduction - width), 0, max(0, reduction - height)))
                seen = convolve(maps, f"{block}.attn.sr", stride=reduction).flatten(2).mT
                seen = norm(seen, f"{block}.attn.norm", 1e-5)
            query = linear(y, f"{block}.attn.q").reshape(batch, -1, heads, channels // heads).transpose(1, 2)
            key, value = linear(seen, f"{block}.attn.kv").reshape(batch, -1, 2, heads, channels // heads).unbind(2)
            key, value = key.transpose(1, 2), value.transpose(1, 2)
            y = (query @ key.mT / (channels // heads) ** 0.5).softmax(-1) @ value
            x = x + linear(y.transpose(1, 2).flatten(2), f"{block}.attn.proj")
            y = linear(norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1")
            maps = y.mT.reshape(batch, -1, height, width)
            maps = convolve(maps, f"{block}.mlp.dwconv.dwconv", padding=1, groups=maps.shape[1])
            x = x + linear(nn.gelu(maps).flatten(2).mT, f"{block}.mlp.fc2")
        x = norm(x, f"norm{stage}", 1e-6).mT.reshape(batch, channels, height, width)
        levels.append(x)
    return levels


SIZES = {"mit-b0": 3.32, "mit-b1": 13.15, "mit-b2": 24.20, "mit-b3": 44.08, "mit-b4": 60.84, "mit-b5": 81.44}
"""Millions of parameters of the authors' networks without the classifier."""


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_papers(name, monkeypatch):
    """Counted without memory for the values."""
    shapes = []
    monkeypatch.setattr(
        paddle.nn.Layer,
        "create_parameter",
        lambda self, shape, **options: shapes.append(shape) or paddle.base.framework.EagerParamBase([1], "float32"),
    )
    find(BACKBONES[name])()
    assert sum(np.prod(shape) for shape in shapes) / 1e6 == pytest.approx(SIZES[name], abs=0.01)


@pytest.mark.parametrize(("given", "last"), [(None, 0.1), (0.0, 0.0), (0.3, 0.3)])
def test_rates_of_stochastic_depth_rise_linearly(given, last):
    trunk = build_segmenter(NetworkConfig(backbone="mit-b0", drop_path=given)).backbone
    rates = [block.drop_path.rate for stage in (1, 2, 3, 4) for block in getattr(trunk, f"block{stage}")]
    assert rates == pytest.approx(np.linspace(0.0, last, 8))


def test_stochastic_depth_acts_in_training_alone():
    paddle.seed(0)
    network, images = MiT((4, 8, 10, 16), (1, 1, 1, 1), drop_path=0.5), paddle.randn([4, 3, 32, 32])
    network.train()
    drawn = [network(images).numpy() for _ in range(2)]
    network.eval()
    same = [network(images).numpy() for _ in range(2)]
    assert not np.array_equal(*drawn)
    assert np.array_equal(*same)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_it(name):
    method = build(name, backbone="mit-b0", drop_path=0.0, head_dilations=(1, 2))
    for key, parameter in method.segmenter.backbone.named_parameters():
        if key.endswith("bias"):  # at 0 all channels of a wholly masked image are 0, and each norm's slope is 1,000
            parameter.set_value(paddle.randn(parameter.shape) / 10)
    found, losses = gradients(method, pair())
    assert all(np.isfinite(loss) for loss in losses.values())
    assert found.keys() == {name for name, p in parameters(method).items() if not p.stop_gradient}
    assert all(np.isfinite(gradient).all() for gradient in found.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output_stride": 16}, "output_stride 16 has no effect on mit-b0, whose last patches are 32 pixels apart"),
        ({"restore_from": "mit_b0.pth"}, "input_normalization caffe-bgr is not that of MiT's weights"),
        ({"backbone": "mobilenetv2", "drop_path": 0.1}, "drop_path is for MiT: mobilenetv2 has no stochastic depth"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_options_that_cannot_act_or_do_harm_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        build_section(NetworkConfig, {"backbone": "mit-b0"} | options)


def test_names_on_file_are_the_layer_s_own():
    """So weights saved here load into the authors' code."""
    state = build_segmenter(NetworkConfig(backbone="mit-b0", num_heads=1)).backbone.state_dict()
    assert set(to_file_names(state)) == set(state)
