"""DINOv2 and the light head against the authors' results, against plain PyTorch, and at any size."""

import json

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle.nn import functional as F

from clan.core.errors import ConfigError
from clan.core.schema import build, find
from clan.losses.segmentation import segmentation_loss
from clan.models.attention import Linear, attend
from clan.models.dinov2 import DINOv2
from clan.models.light_head import LightHead
from clan.models.options import BACKBONES, NetworkConfig
from clan.models.segmenter import Segmenter, build_segmenter
from clan.models.weight_files import write_arrays
from clan.models.weights import load_weights, to_file_names
from tests.conftest import Golden, relative
from tests.needs import module

pytestmark = pytest.mark.plain


def tiny(num_classes=3) -> Segmenter:
    """The networks' structure in small, with drawn values where the initial ones are alike."""
    backbone = DINOv2(16, 4, 2)
    segmenter = Segmenter(backbone, [LightHead(16, num_classes)], align_corners=False)
    for parameter in segmenter.parameters():
        parameter.set_value(parameter + 0.3 * paddle.randn(parameter.shape))
    return segmenter


@pytest.fixture(scope="module")
def official(shared) -> Golden:
    return Golden(shared / "golden/selftraining")


@pytest.fixture(scope="module")
def vfm(official, tmp_path_factory) -> Segmenter:
    path = tmp_path_factory.mktemp("vfm") / "vfm.safetensors"
    write_arrays(official._weights.golden_state(51, "vfm"), path)
    segmenter = build_segmenter(NetworkConfig(backbone="dinov2-s", model="light", num_heads=1, align_corners=False))
    assert not load_weights(segmenter, path, strict=True).unexpected
    return segmenter


def test_forward_and_gradients_equal_the_authors(vfm, official):
    expected = official.arrays("forward_vfm")
    images = (expected["image_u8_NHWC"].astype(np.float32) - expected["mean"]) / expected["std"]
    images = paddle.to_tensor(images.transpose(0, 3, 1, 2))
    vfm.eval()
    with paddle.no_grad():
        assert relative(vfm.backbone(images), expected["features_eval"]) < 1e-4
        assert relative(vfm.resize(*vfm(images), (64, 64))[:, :, ::4, ::4], expected["logits_eval"]) < 1e-4
    vfm.train()
    mask = paddle.to_tensor(expected["mask_uniform"] < 0.7)
    logits = vfm.resize(*vfm(images, mask=mask), (64, 64))
    assert relative(logits[:, :, ::4, ::4], expected["logits_masked"]) < 1e-4
    loss = segmentation_loss(logits, paddle.to_tensor(expected["labels"]), gamma=0.0, ignore_label=255)
    assert float(loss) == pytest.approx(float(expected["loss_masked"]), rel=1e-5)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in to_file_names(dict(vfm.named_parameters())).items()}
    sums = json.loads(str(expected["gradient_sums"]))
    assert len(sums) == len(gradients)
    for name, (total, magnitude) in sums.items():
        inner = name.removeprefix("encoder.")
        gradient = gradients[inner if inner != name else f"layer5.{name}"].numpy().astype(np.float64)
        assert np.abs(gradient).sum() == pytest.approx(magnitude, rel=1e-3), name
        assert gradient.sum() == pytest.approx(total, abs=1e-3 * magnitude), name


SIZES = [(28, 28), (33, 49), (100, 40), (9, 13), (480, 475)]
"""Rows by columns of patches: 2×2, 2×3, 7×3, 1×1 and the learned 37×37."""


@pytest.mark.parametrize("size", SIZES)
def test_any_size_equals_plain_pytorch(size):
    """With half of the patches masked, forward and all gradients."""
    torch = module("torch", "torch")
    paddle.seed(size[0])
    segmenter = tiny()
    random = np.random.default_rng(size[1])
    images = random.normal(size=(2, 3, *size)).astype(np.float32)
    mask = random.random((2, *segmenter.backbone.grid(size))) < 0.5
    arrays = {name: tensor.numpy() for name, tensor in to_file_names(segmenter.state_dict()).items()}
    weights = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
    expected = plain_segmenter(torch, weights, torch.from_numpy(images), torch.from_numpy(mask), heads=2)
    logits = segmenter.resize(*segmenter(paddle.to_tensor(images), mask=paddle.to_tensor(mask)), size)
    assert relative(logits, expected.detach().numpy()) < 1e-4
    (logits * logits.detach()).mean().backward()
    (expected * expected.detach()).mean().backward()
    for name, parameter in to_file_names(dict(segmenter.named_parameters())).items():
        assert relative(parameter.grad, weights[name].grad.numpy()) < 1e-3, name


def plain_segmenter(torch, weights, images, mask, *, heads):
    """The logits at the images' size, written from the papers."""
    nn = torch.nn.functional

    def linear(x, name):
        return nn.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        return nn.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    def channel_norm(x, name):
        return norm(x.permute(0, 2, 3, 1), name).permute(0, 3, 1, 2)

    height, width = images.shape[2:]
    rows, columns = (max(1, int(side * 1.1 // 14)) for side in (height, width))
    x = nn.interpolate(images, size=(14 * rows, 14 * columns), mode="bilinear", align_corners=False)
    x = nn.conv2d(x, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=14)
    x = x.flatten(2).transpose(1, 2)
    batch, tokens, channels = x.shape
    x = torch.where(mask.reshape(batch, tokens, 1), weights["mask_token"], x)
    learned = weights["pos_embed"]
    patches = learned[:, 1:].reshape(1, 37, 37, channels).permute(0, 3, 1, 2)
    if (rows, columns) != (37, 37):
        patches = nn.interpolate(patches, scale_factor=((rows + 0.1) / 37, (columns + 0.1) / 37), mode="bicubic")
    positions = torch.cat([learned[:, :1], patches.flatten(2).transpose(1, 2)], 1)
    x = torch.cat([weights["cls_token"].expand(batch, 1, channels), x], 1) + positions
    for number in range(sum(name.endswith("attn.qkv.weight") for name in weights)):
        block = f"blocks.{number}"
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").reshape(batch, tokens + 1, 3, heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = (query @ key.mT / (channels // heads) ** 0.5).softmax(-1) @ value
        attended = linear(attended.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        x = x + weights[f"{block}.ls1.gamma"] * attended
        hidden = nn.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + weights[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    x = norm(x, "norm")[:, 1:].transpose(1, 2).reshape(batch, channels, rows, columns)
    x = channel_norm(nn.conv_transpose2d(x, weights["layer5.upscale.0.weight"], stride=2), "layer5.upscale.1")
    x = channel_norm(nn.conv_transpose2d(nn.gelu(x), weights["layer5.upscale.3.weight"], stride=2), "layer5.upscale.4")
    x = channel_norm(nn.conv2d(x, weights["layer5.upscale.5.weight"], padding=1), "layer5.upscale.6")
    x = nn.conv2d(x, weights["layer5.out.weight"])
    return nn.interpolate(x, (height, width), mode="bilinear", align_corners=False)


def test_a_masked_patch_s_pixels_do_not_matter():
    segmenter = tiny()
    segmenter.eval()
    images = paddle.randn([1, 3, 28, 28])
    mask = paddle.to_tensor([[[True, True], [True, True]]])
    with paddle.no_grad():
        masked, other = segmenter(images, mask=mask)[0], segmenter(images + 1, mask=mask)[0]
        assert np.array_equal(masked.numpy(), other.numpy())
        assert not np.allclose(masked.numpy(), segmenter(images)[0].numpy())
        assert np.array_equal(segmenter(images, mask=~mask)[0].numpy(), segmenter(images)[0].numpy())


@pytest.mark.parametrize(("name", "millions"), [("dinov2-s", 22.06), ("dinov2-b", 86.58), ("dinov2-l", 304.37)])
def test_sizes_are_the_papers(name, millions, monkeypatch):
    """Counted without memory for the values."""
    shapes = []
    monkeypatch.setattr(
        paddle.nn.Layer,
        "create_parameter",
        lambda self, shape, **options: shapes.append(shape) or paddle.base.framework.EagerParamBase([1], "float32"),
    )
    find(BACKBONES[name])()
    assert sum(np.prod(shape) for shape in shapes) / 1e6 == pytest.approx(millions, abs=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))
def test_attention_is_the_mean_of_values_by_softmax(batch, queries, keys, heads):
    paddle.seed(queries)
    query = paddle.randn([batch, queries, heads, 8])
    key, value = paddle.randn([2, batch, keys, heads, 8]).unbind()
    weights = F.softmax(paddle.einsum("bnhd,bmhd->bhnm", query, key) / 8**0.5, axis=-1)
    expected = paddle.einsum("bhnm,bmhd->bnhd", weights, value)
    np.testing.assert_allclose(attend(query, key, value).numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_linear_layer_is_paddle_s_with_its_weight_transposed():
    layer, x = Linear(3, 5), paddle.randn([2, 4, 3])
    layer.bias.set_value(paddle.randn([5]))
    np.testing.assert_allclose(layer(x).numpy(), F.linear(x, layer.weight.T, layer.bias).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output_stride": 16}, "output_stride 16 has no effect on dinov2-s, whose patches have 14 pixels"),
        (
            {"restore_from": "dinov2_vits14_pretrain.pth"},
            "input_normalization caffe-bgr is not that of DINOv2's weights",
        ),
    ],
)
def test_options_that_cannot_act_or_do_harm_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        build(NetworkConfig, {"backbone": "dinov2-s"} | options)
    build(NetworkConfig, {"backbone": "resnet101"} | options)
