"""Kernels of transformers compute what Paddle's operators do, forward and backward."""

from collections.abc import Callable

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import Tensor, nn

from clan import kernels
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
        assert np.abs(fast - plain).max() <= 1e-5 * np.abs(plain).max() + 1e-6


@given(batch=st.integers(1, 2), height=st.integers(1, 9), width=st.integers(1, 9), channels=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_local_mixing_is_a_convolution_and_gelu(batch, height, width, channels):
    agree(LocalMixing(channels), 2 * normal(batch, height, width, channels))


LAYERS: dict[str, tuple[Callable[[], nn.Layer], tuple[int, ...]]] = {
    "local mixing": (lambda: LocalMixing(8), (2, 5, 6, 8)),
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
