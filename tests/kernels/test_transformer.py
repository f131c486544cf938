"""Kernels of transformers compute what Paddle's operators do, forward and backward."""

from collections.abc import Callable

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import Tensor, nn

from clan import kernels
from clan.models import dinov2, mit
from clan.models.attention import Linear, TokenNorm
from clan.models.mit import LocalMixing
from tests.kernels.test_layers import normal, on_both_paths, results


def agree(layer: nn.Layer, x: np.ndarray) -> None:
    """Holds results and gradients of a layer with drawn parameters on both paths against each other."""
    for parameter in layer.parameters():
        parameter.set_value(normal(*parameter.shape))

    def compute() -> list[np.ndarray]:
        found = results(lambda x: [layer(x)], list(layer.parameters()), paddle.to_tensor(x))
        with paddle.no_grad():
            return [*found, layer(paddle.to_tensor(x)).numpy()]

    for fast, plain in zip(*on_both_paths(compute), strict=True):
        assert np.abs(fast - plain).max() <= 1e-5 * np.abs(plain).max() + 1e-5


@given(batch=st.integers(1, 2), height=st.integers(1, 9), width=st.integers(1, 9), channels=st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_local_mixing_is_a_convolution_and_gelu(batch, height, width, channels):
    agree(LocalMixing(channels), 2 * normal(batch, height, width, channels))


@given(rows=st.integers(1, 150), inputs=st.integers(1, 40), outputs=st.integers(1, 40))
@settings(max_examples=8, deadline=None)
def test_a_linear_layer_is_a_product_and_a_sum(rows, inputs, outputs):
    agree(Linear(inputs, outputs), normal(2, rows, inputs))


@given(rows=st.integers(1, 150), channels=st.integers(3, 40))
@settings(max_examples=8, deadline=None)
def test_a_norm_of_tokens_is_paddle_s_layer_norm(rows, channels):
    agree(TokenNorm(channels, 1e-6), 3 + 2 * normal(2, rows, channels))


@pytest.mark.parametrize("user", [mit, dinov2])
@given(batch=st.integers(1, 2), queries=st.integers(1, 40), keys=st.integers(1, 40), heads=st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_attention_is_softmax_of_products(user, batch, queries, keys, heads):
    key, value = paddle.to_tensor(normal(batch, keys, heads, 8)), paddle.to_tensor(normal(batch, keys, heads, 8))
    query = 4 * normal(batch, queries, heads, 8)
    key.stop_gradient = value.stop_gradient = False

    def compute() -> list[np.ndarray]:
        found = results(lambda query: [user.attend(query, key, value)], [key, value], paddle.to_tensor(query))
        with paddle.no_grad():
            return [*found, user.attend(paddle.to_tensor(query), key, value).numpy()]

    for fast, plain in zip(*on_both_paths(compute), strict=True):
        assert np.abs(fast - plain).max() <= 1e-5 * np.abs(plain).max() + 2e-6


LAYERS: dict[str, tuple[Callable[[], nn.Layer], tuple[int, ...]]] = {
    "local mixing": (lambda: LocalMixing(8), (2, 5, 6, 8)),
    "linear": (lambda: Linear(8, 5), (2, 7, 8)),
    "norm": (lambda: TokenNorm(8, 1e-6), (2, 7, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_needs_no_gradient_gets_none(name):
    build, shape = LAYERS[name]
    for frozen in ("x", "weight"):
        layer, x = build(), paddle.to_tensor(normal(*shape))
        parameters = list(layer.parameters())
        x.stop_gradient = frozen == "x"
        parameters[0].stop_gradient = frozen == "weight"
        layer(x).sum().backward()
        assert (x.grad is None) == (frozen == "x")
        assert (parameters[0].grad is None) == (frozen == "weight")
        assert parameters[1].grad is not None


@pytest.mark.parametrize("name", LAYERS)
def test_the_kernel_is_used(name, monkeypatch):
    build, shape = LAYERS[name]
    layer, x, taken = build(), paddle.to_tensor(normal(*shape)), []
    owner = next(kernel for kernel in kernels.KERNELS if kernel.owner is type(layer))
    chosen = owner.run

    def count(*args: Tensor) -> Tensor:
        taken.append(args)
        return chosen(*args)

    monkeypatch.setitem(owner.__dict__, "run", count)
    layer(x)
    assert len(taken) == 1
