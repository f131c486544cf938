import numpy as np
import paddle
import pytest

from clan.models.discriminator import Discriminator
from clan.models.heads import Head
from clan.models.options import NetworkConfig
from clan.models.segmenter import Segmenter, build_segmenter
from clan.models.weights import load_weights, to_file_names
from tests.conftest import relative

pytestmark = pytest.mark.plain


@pytest.fixture(scope="module")
def segmenter(golden_weights) -> Segmenter:
    network = build_segmenter(NetworkConfig(backbone="resnet101", num_classes=19))
    report = load_weights(network, golden_weights["segmenter"], strict=True)
    assert not report.unexpected
    return network


def test_forward_equals_the_official_network(segmenter, golden):
    expected = golden.arrays("forward_dev")
    images = paddle.to_tensor(expected["image"])
    segmenter.eval()
    with paddle.no_grad():
        for head, logits in enumerate(segmenter(images), start=1):
            assert relative(logits, expected[f"eval{head}"]) < 1e-4
        segmenter.train()
        for head, logits in enumerate(segmenter(images), start=1):
            assert relative(logits, expected[f"train{head}"]) < 1e-4
    state = to_file_names(segmenter.state_dict())
    assert relative(state["bn1._mean"], expected["bn1_running_mean"]) < 1e-4
    assert relative(state["bn1._variance"], expected["bn1_running_var"]) < 2e-3
    last = [name for name in state if name.startswith("layer4") and name.endswith("_variance")]
    best = min(
        relative(state[name], expected["layer4_bn_running_var"])
        for name in last
        if state[name].shape == list(expected["layer4_bn_running_var"].shape)
    )
    assert best < 2e-3


def test_size(segmenter):
    sizes = [p.size for name, p in segmenter.named_parameters() if not name.endswith(("_mean", "_variance"))]
    assert round(sum(sizes) / 1e6, 2) == 45.30


def test_discriminator_equals_the_official_one(golden, golden_weights):
    expected = golden.arrays("forward_dev")
    network = Discriminator(19)
    load_weights(network, golden_weights["discriminator"], strict=True)
    assert relative(network(paddle.to_tensor(expected["probability"])), expected["discriminator"]) < 1e-4


def test_only_convolutions_are_trained_officially_and_the_stem_is_frozen_in_the_seed():
    official = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=5))
    trained = {name for name, p in official.named_parameters() if not p.stop_gradient}
    assert not any("bn" in name or "downsample.1" in name for name in trained)
    seed = build_segmenter(
        NetworkConfig(backbone="resnet-tiny", num_classes=5, train_batch_norm_affine=True, projection_bias=True)
    )
    frozen = {name for name, p in seed.named_parameters() if p.stop_gradient}
    statistics = {name for name in seed.state_dict() if name.endswith(("_mean", "_variance"))}
    assert frozen == {"backbone.bn1.weight", "backbone.bn1.bias"} | statistics
    assert "backbone.layer1.0.downsample.0.bias" in seed.state_dict()


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 9, 14), (2, 25, 30), (1, 3, 2)])
def test_both_heads_at_once_equal_their_convolutions_and_gradients(batch, height, width):
    """Also where some taps fall wholly outside the map."""
    paddle.seed(height)
    heads = Head(8, 3), Head(8, 3)
    for head in heads:
        for parameter in head.parameters():
            parameter.set_value(paddle.randn(parameter.shape))
    features = paddle.randn([batch, 8, height, width])
    results = []
    for compute in (lambda x: Head.run_together(heads, x), lambda x: (heads[0](x), heads[1](x))):
        x = features.clone()
        x.stop_gradient = False
        logits1, logits2 = compute(x)
        ((logits1**2).sum() + (logits2 * logits2.abs()).sum()).backward()
        gradients = [parameter.grad.numpy() for head in heads for parameter in head.parameters()]
        results.append([logits1.numpy(), logits2.numpy(), x.grad.numpy(), *gradients])
        for head in heads:
            head.clear_gradients()
    for fast, plain in zip(*results, strict=True):
        assert relative(fast, plain) < 1e-5


def test_a_batch_of_two_equals_two_of_one_in_eval_mode():
    network = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=4))
    network.eval()
    images = paddle.randn([2, 3, 40, 56]) * 50
    with paddle.no_grad():
        together = network(images)
        apart = [network(images[k : k + 1]) for k in range(2)]
    for head in range(2):
        assert relative(together[head], np.concatenate([logits[head].numpy() for logits in apart])) < 1e-5
