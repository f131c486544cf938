"""Layer norm over channels on the CPU, with its gradients in two passes."""

from typing import Any

import numpy as np
import paddle
from numba import prange
from paddle import Tensor
from paddle.autograd import PyLayer

from clan.core.compilation import compiled
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.models.attention import TokenNorm

BLOCK = 64
"""Rows whose gradients of parameters are summed up in float32."""


def fits(layer: TokenNorm, x: Tensor) -> bool:
    """Whether the layer normalises the last axis alone, with a factor and a summand of float32."""
    parameters = (layer.weight, layer.bias)
    return list(layer._normalized_shape) == [x.shape[-1]] and all(
        own is not None and own.dtype == paddle.float32 for own in parameters
    )


def forward(layer: TokenNorm, x: Tensor) -> Tensor:
    """Instead of `TokenNorm.forward`: […, C] → […, C]."""
    weight, bias = layer.weight, layer.bias
    assert weight is not None
    assert bias is not None
    if paddle.is_grad_enabled():
        return _Norm.apply(x, weight, bias, epsilon=layer._epsilon)
    return as_tensor(_forward(as_array(x), as_array(weight), as_array(bias), layer._epsilon)[0])


class _Norm(PyLayer):
    """(x − mean) / √(variance + ε) · γ + β of every row, with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *, epsilon: float) -> Tensor:
        array, gamma = as_array(x), as_array(weight)
        result, moments = _forward(array, gamma, as_array(bias), epsilon)
        ctx.kept, ctx.wanted = [(array, gamma, moments)], trained([x, weight, bias])
        return as_tensor(result)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        x, gamma, moments = ctx.kept.pop()
        to_x = aligned(x.shape)
        sums = _backward(_rows(as_array(gradient)), _rows(x), gamma, moments, _rows(to_x)).sum(axis=0)
        return as_gradients([to_x, *sums.astype(np.float32)], ctx.wanted)


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def _forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The result, and mean and 1/√(variance + ε) of every row, float32 [P, 2]."""
    result, moments = aligned(x.shape), np.empty((x.size // x.shape[-1], 2), np.float32)
    _normalize(_rows(x), gamma, beta, np.float32(epsilon), _rows(result), moments)
    return result, moments


@compiled
def _normalize(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: np.float32, result: np.ndarray, moments: np.ndarray
) -> None:
    rows, channels = x.shape
    count = np.float32(channels)
    for p in prange(rows):
        row, out = x[p], result[p]
        total = np.float32(0)
        for c in range(channels):
            total += row[c]
        mean = total / count
        squares = np.float32(0)
        for c in range(channels):
            squares += (row[c] - mean) * (row[c] - mean)
        inverse = np.float32(1) / np.sqrt(squares / count + epsilon)
        for c in range(channels):
            out[c] = (row[c] - mean) * inverse * gamma[c] + beta[c]
        moments[p, 0] = mean
        moments[p, 1] = inverse


@compiled
def _backward(
    gradient: np.ndarray, x: np.ndarray, gamma: np.ndarray, moments: np.ndarray, to_x: np.ndarray
) -> np.ndarray:
    """Writes the gradient of x; returns those of γ and β of every block of rows, float64 [blocks, 2, C]."""
    rows, channels = x.shape
    blocks = (rows + BLOCK - 1) // BLOCK
    sums = np.empty((blocks, 2, channels))
    count = np.float32(channels)
    for block in prange(blocks):
        own = np.zeros((2, channels), np.float32)
        to_gamma, to_beta = own[0], own[1]
        for p in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            g, row, out, mean, inverse = gradient[p], x[p], to_x[p], moments[p, 0], moments[p, 1]
            slope, product = np.float32(0), np.float32(0)
            for c in range(channels):
                normal, scaled = (row[c] - mean) * inverse, g[c] * gamma[c]
                slope += scaled
                product += scaled * normal
                to_gamma[c] += g[c] * normal
                to_beta[c] += g[c]
            slope, product = slope / count, product / count
            for c in range(channels):
                out[c] = inverse * (g[c] * gamma[c] - slope - (row[c] - mean) * inverse * product)
        sums[block] = own
    return sums
