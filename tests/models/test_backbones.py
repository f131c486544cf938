"""What every backbone must do, and MobileNetV2 against a plain PyTorch one."""

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from clan.core.schema import find
from clan.models.mobilenet import Depthwise, MobileNetV2
from clan.models.options import BACKBONES, NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.models.weight_files import write_arrays
from clan.models.weights import load_weights, save_weights
from tests.conftest import relative
from tests.needs import module

pytestmark = [pytest.mark.plain, pytest.mark.core]

BATCH, HEIGHT, WIDTH = 2, 33, 49


LARGER = {"resnet101", "dinov2-b", "dinov2-l", "mit-b1", "mit-b2", "mit-b3", "mit-b4", "mit-b5"}
"""Backbones that are another one with more or wider blocks."""


@pytest.fixture(scope="module", params=[name for name in BACKBONES if name not in LARGER])
def backbone(request) -> str:
    """Every backbone but the `LARGER`."""
    return request.param


def images(seed=0):
    paddle.seed(seed)
    return paddle.randn([BATCH, 3, HEIGHT, WIDTH])


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_levels_have_the_promised_channels_and_resolutions(backbone, output_stride):
    network = find(BACKBONES[backbone])(output_stride=output_stride)
    network.eval()
    with paddle.no_grad():
        levels = network.pyramid(images())
        np.testing.assert_array_equal(network(images()).numpy(), levels[-1].numpy())
    if backbone.startswith("dinov2"):  # one resolution, that of the patches
        assert [level.shape for level in levels] == [[BATCH, network.channels[3], *network.grid((HEIGHT, WIDTH))]] * 4
        return
    largest = 32 if backbone.startswith("mit") else output_stride
    assert network.strides == tuple(min(stride, largest) for stride in (4, 8, 16, 32))
    for features, channels, stride in zip(levels, network.channels, network.strides, strict=True):
        assert features.shape[:2] == [BATCH, channels]
        for length, pixels in zip(features.shape[2:], (HEIGHT, WIDTH), strict=True):
            assert length in (math.ceil(pixels / stride), math.ceil(pixels / stride) + 1)


@pytest.mark.parametrize("affine", [False, True])
def test_gradients_reach_every_parameter_that_is_trained_and_no_other(backbone, affine):
    segmenter = build_segmenter(
        NetworkConfig(backbone=backbone, num_classes=3, head_dilations=(1, 2), train_batch_norm_affine=affine)
    )
    segmenter.train()
    masks = {}
    if backbone.startswith("dinov2"):  # the mask token is trained where it is used
        masks = {"mask": paddle.to_tensor([[True] + [False] * 5] * BATCH)}
    logits1, logits2 = segmenter(images(), **masks)
    (logits1 * logits1.detach() + 2 * logits2 * logits2.detach()).mean().backward()
    norms = {id(p) for layer in segmenter.norms() for p in (layer.weight, layer.bias)}
    stem = {id(p) for layer in segmenter.norms()[:1] for p in (layer.weight, layer.bias)}
    statistics = ("_mean", "_variance")
    for name, parameter in segmenter.named_parameters():
        trained = not name.endswith(statistics) and (
            id(parameter) not in norms or (affine and id(parameter) not in stem)
        )
        # A bias before another batch norm has a gradient of zero, up to rounding.
        assert (parameter.grad is not None) == trained, name


def test_weights_survive_their_file(backbone, tmp_path):
    first, second = (build_segmenter(NetworkConfig(backbone=backbone, num_classes=3)) for _ in range(2))
    first.train()
    first(images())  # running statistics that differ from the initial ones
    save_weights(first, tmp_path / "weights.pdparams")
    load_weights(second, tmp_path / "weights.pdparams", strict=True)
    for name, tensor in second.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), first.state_dict()[name].numpy(), err_msg=name)


def test_an_image_s_logits_do_not_depend_on_its_batch_in_eval_mode(backbone):
    segmenter = build_segmenter(NetworkConfig(backbone=backbone, num_classes=3))
    segmenter.eval()
    with paddle.no_grad():
        together = segmenter(images())
        alone = segmenter(images()[1:])
    for both, one in zip(together, alone, strict=True):
        assert relative(both[1:], one.numpy()) < 1e-4


def test_resolution_is_all_that_the_output_stride_changes(backbone):
    """The parameters are the same, so weights fit either way."""
    eight, sixteen = (find(BACKBONES[backbone])(output_stride=stride).state_dict() for stride in (8, 16))
    assert {name: p.shape for name, p in eight.items()} == {name: p.shape for name, p in sixteen.items()}


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 5), st.integers(1, 11), st.integers(1, 19), st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 4]),
)  # fmt: skip
def test_depthwise_loops_equal_paddle_s_convolution(batch, channels, height, width, stride, dilation):
    """Forward and both gradients, also where the kernel is larger than the image."""
    paddle.seed(width)
    layer = Depthwise(channels, stride=stride, dilation=dilation)
    layer.weight.set_value(paddle.randn(layer.weight.shape))
    x = paddle.randn([batch, channels, height, width])
    results = []
    for compute in (layer, lambda x: nn.Conv2D.forward(layer, x)):
        leaf = x.clone().detach()
        leaf.stop_gradient = False
        out = compute(leaf)
        paddle.seed(height)
        out.backward(paddle.randn(out.shape))
        results.append([out.numpy(), leaf.grad.numpy(), layer.weight.grad.numpy()])
        layer.clear_gradients()
    for fast, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_depthwise_loops_leave_alone_what_needs_no_gradient(frozen):
    layer = Depthwise(3)
    x = paddle.randn([1, 3, 4, 5])
    x.stop_gradient = frozen == "x"
    layer.weight.stop_gradient = frozen == "weight"
    layer(x).sum().backward()
    assert (x.grad is None) == (frozen == "x")
    assert (layer.weight.grad is None) == (frozen == "weight")


def test_imagenet_weights_fit_mobilenet_wholly_but_for_the_heads(shared):
    segmenter = build_segmenter(NetworkConfig(backbone="mobilenetv2", num_classes=10))
    report = load_weights(segmenter, shared / "weights/mobilenet_v2_imagenet.pt")
    assert not report.unexpected
    assert not report.mismatched
    assert {name.split(".")[0] for name in report.missing} == {"layer5", "layer6"}


@pytest.mark.parametrize("suffix", [".pdparams", ".pth"])
def test_mobilenet_takes_the_weights_of_paddle_s_own_and_of_torchvision(suffix, tmp_path):
    """Both number the layers of a block alike: convolution and norm in units of their own."""
    theirs = paddle.vision.models.mobilenet_v2()
    arrays = {name: np.random.default_rng(0).uniform(0.5, 1, one.shape) for name, one in theirs.state_dict().items()}
    assert "features.2.conv.1.0.weight" in arrays
    theirs.set_state_dict({name: array.astype(np.float32) for name, array in arrays.items()})
    torch_names = {"_mean": "running_mean", "_variance": "running_var"} if suffix == ".pth" else {}
    for ours, other in torch_names.items():
        arrays = {name.replace(ours, other): array for name, array in arrays.items()}
    write_arrays(arrays, tmp_path / f"mobilenet{suffix}")
    network = MobileNetV2(output_stride=32)
    report = load_weights(network, tmp_path / f"mobilenet{suffix}", strict=True)
    assert {name.split(".")[0] for name in report.unexpected} == {"classifier"}
    images = paddle.to_tensor(np.random.default_rng(1).normal(size=(1, 3, 32, 64)).astype(np.float32))
    network.eval()
    theirs.eval()
    assert relative(network(images).numpy(), theirs.features(images).numpy()) < 1e-5


@pytest.mark.parametrize("stride", [8, 16])
def test_mobilenet_equals_a_plain_pytorch_one(shared, stride):
    torch = module("torch", "torch")
    from clan.models.weight_files import read_arrays

    arrays = read_arrays(shared / "weights/mobilenet_v2_imagenet.pt")
    x = np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32)
    segmenter = build_segmenter(NetworkConfig(backbone="mobilenetv2", num_classes=10, output_stride=stride))
    load_weights(segmenter, shared / "weights/mobilenet_v2_imagenet.pt")
    segmenter.eval()
    with paddle.no_grad():
        ours = segmenter.backbone(paddle.to_tensor(x)).numpy()
    expected = plain_mobilenet(torch, arrays, torch.from_numpy(x), stride).numpy()
    assert expected.std() > 0.1
    assert relative(ours, expected) < 1e-4


def plain_mobilenet(torch, arrays, x, output_stride):
    """Features of MobileNetV2 from its weights, written from the paper's table."""
    weights = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def convolve(x, conv, norm, *, active=True, **options):
        x = torch.nn.functional.conv2d(x, weights[f"{conv}.weight"], **options)
        statistics = [weights[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = torch.nn.functional.batch_norm(x, *statistics)
        return x.clamp(0, 6) if active else x

    x = convolve(x, "features.0.0", "features.0.1", stride=2, padding=1)
    # For each block: its stride in the original, and of how many the dilation is made up, for the output stride.
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    reached, dilation = 2, 1
    for number, stride in enumerate(strides, start=1):
        name, y = f"features.{number}.conv", x
        at = 0
        if number > 1:
            y, at = convolve(y, f"{name}.0", f"{name}.1"), 3
        skipped = reached * stride > output_stride
        step = 1 if skipped else stride
        channels = y.shape[1]
        y = convolve(
            y, f"{name}.{at}", f"{name}.{at + 1}", stride=step, padding=dilation, dilation=dilation, groups=channels
        )
        y = convolve(y, f"{name}.{at + 3}", f"{name}.{at + 4}", active=False)
        x = x + y if stride == 1 and x.shape == y.shape else y
        reached, dilation = (reached, dilation * stride) if skipped else (reached * stride, dilation)
    return convolve(x, "features.18.0", "features.18.1")
