"""bf16 on the CPU: rounding is exact, products and networks are those of float32 up to that rounding."""

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import Tensor, nn

from clan.core.precision import autocast, check_precision
from clan.kernels import product
from clan.kernels.halves import BF16, hand_on, handed_on, rounded, widened
from clan.kernels.product import multiply, multiply_each
from clan.models.daformer_head import Unit
from clan.models.discriminator import Discriminator
from clan.models.heads import Head
from clan.models.resnet import ResNet
from clan.training.trainer import Trainer
from tests.conftest import metrics
from tests.needs import needed

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


@pytest.fixture
def _bf16():
    needed("bf16", product.multiplies_bf16())


def test_rounding_is_to_the_nearest_and_ties_to_even():
    x = np.concatenate(
        [normal(10_000) * 10.0 ** RNG.integers(-37, 37, 10_000), [0.0, -0.0, np.inf, -np.inf, 1.00390625]]
    )
    x = x.astype(np.float32)
    np.testing.assert_array_equal(widened(rounded(x)), paddle.to_tensor(x).astype("bfloat16").astype("float32").numpy())
    for bits in (0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001):
        assert np.isnan(widened(rounded(np.array([bits], np.uint32).view(np.float32))))
    assert rounded(normal(3, 5).T).T.flags.c_contiguous


def test_only_the_memory_that_was_handed_on_is_not_rounded_again():
    array, halves = normal(3, 5), np.zeros((3, 5), BF16)
    hand_on(array, halves)
    assert handed_on(array.reshape(3, 5)) is halves
    np.testing.assert_array_equal(handed_on(array), rounded(array))  # once is enough
    hand_on(array, halves)
    assert handed_on(array.reshape(5, 3)) is not halves
    hand_on(array.copy(), halves)  # forgotten at once
    assert handed_on(array) is not halves


@pytest.mark.usefixtures("_bf16")
@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
@pytest.mark.parametrize("b_rounded", [False, True])
def test_products_are_those_of_the_rounded_operands(a_transposed, b_transposed, b_rounded):
    a = rounded(normal(2, 33, 7)).swapaxes(1, 2) if a_transposed else rounded(normal(2, 7, 33))
    b = normal(2, 5, 33).swapaxes(1, 2) if b_transposed else normal(2, 33, 5)
    if b_rounded:
        b = np.stack([rounded(each) for each in b.swapaxes(1, 2)]).swapaxes(1, 2) if b_transposed else rounded(b)
    exact = widened(a) @ widened(np.stack([rounded(each) for each in b]))
    out = np.full((2, 7, 5), np.nan, np.float32)
    multiply_each(a, b, out)
    np.testing.assert_allclose(out, exact, rtol=1e-5, atol=1e-5)
    multiply(a[0], b[0], out[0], accumulate=True)
    np.testing.assert_allclose(out[0], 2 * exact[0], rtol=1e-5, atol=1e-5)


class Heads(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Head(12, 7), Head(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        one, other = Head.run_together([self.first, self.second], x)
        return one + 2.0 * other


NETWORKS = {
    "trunk": (lambda: ResNet((2, 1, 1, 1), width=8), (2, 3, 43, 70)),
    "biased trunk": (lambda: ResNet((1, 1, 1, 1), width=8, projection_bias=True), (2, 3, 43, 70)),
    "heads": (Heads, (2, 12, 20, 31)),
    "unit": (lambda: Unit(nn.Conv2D(12, 20, 3, padding=1, bias_attr=False)), (2, 12, 20, 31)),
    "discriminator": (lambda: Discriminator(7, 8), (2, 7, 65, 97)),
}


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / (np.linalg.norm(theirs) + 1e-9))


@pytest.mark.usefixtures("_bf16")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_networks_compute_what_they_do_in_float32(name, training):
    """Each of 15 ReLUs turns about 0.5 % of the signs, which moves a gradient by the root of that share, 7 %."""
    paddle.seed(0)
    build, shape = NETWORKS[name]
    network = build()
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.set_value(paddle.randn(parameter.shape) * (2 / np.prod(parameter.shape[1:])) ** 0.5)
    network.train() if training else network.eval()
    weights: list[Any] = [parameter for parameter in network.parameters() if parameter.ndim == 4]
    images = paddle.randn(shape)

    def compute(precision) -> list[Any]:
        x: Any = images.clone()
        x.stop_gradient = False
        for weight in weights:
            weight.clear_gradient(set_to_zero=False)
        with autocast(precision):
            out = network(x)
        (out * paddle.cos(paddle.arange(out.size, dtype="float32")).reshape(out.shape)).sum().backward()
        with autocast(precision), paddle.no_grad():
            unrecorded = network(images)
        return [out.numpy(), unrecorded.numpy(), *(one.grad.numpy() for one in [x, *weights])]

    whole, half, again = compute("fp32"), compute("bf16"), compute("fp32")
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    apart = [distance(*pair) for pair in zip(half, whole, strict=True)]
    assert 0 < max(apart[:2]) < 0.06  # the last batch norms see only twelve pixels
    assert max(apart[2:]) < 0.4


@pytest.mark.usefixtures("_bf16")
def test_a_run_in_bf16_says_so_and_loses_as_one_in_float32(tiny, tmp_path):
    steps = {"num_steps": 12, "num_steps_stop": 12, "save_every": 12}
    half = tiny(precision="bf16", **steps)
    whole = tiny(snapshot_dir=tmp_path / "fp32", **steps)
    said = []
    for config in (half, whole):
        Trainer(config, notify=said.append).run()
    assert check_precision("bf16") in said
    losses = [[line["loss_seg"] for line in metrics(config.snapshot_dir)] for config in (half, whole)]
    assert losses[0] != losses[1]
    assert losses[0][:2] == pytest.approx(losses[1][:2], rel=2e-3)
    assert sum(losses[0]) == pytest.approx(sum(losses[1]), rel=0.05)
