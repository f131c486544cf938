"""A linear layer on the CPU: its bias is where the product is added to, and summed up in one pass."""

from typing import Any

import numpy as np
import paddle
from numba import prange
from paddle import Tensor
from paddle.autograd import PyLayer

from clan.core.compilation import compiled
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.product import multiply
from clan.models.attention import Linear

BLOCK = 64
"""Rows that are summed up in float32."""


def replaced(self: Linear, x: Tensor) -> Tensor:
    """`Linear.forward` as this module computes it."""
    out = paddle.matmul(x, self.weight, transpose_y=True)
    # In less than float32 a sum with the bias would be float32 again.
    return out + (self.bias if self.bias.dtype == out.dtype else self.bias.astype(out.dtype))


def fits(layer: Linear, x: Tensor) -> bool:
    """Whether the layer is of float32 and for the input's last axis."""
    return (
        layer.weight.dtype == layer.bias.dtype == paddle.float32 and x.ndim > 1 and x.shape[-1] == layer.weight.shape[1]
    )


def forward(layer: Linear, x: Tensor) -> Tensor:
    """Instead of `Linear.forward`: […, in] → […, out]."""
    if paddle.is_grad_enabled():
        return _Linear.apply(x, layer.weight, layer.bias)
    return as_tensor(_forward(as_array(x), as_array(layer.weight), as_array(layer.bias)))


class _Linear(PyLayer):
    """x·Wᵀ + b with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        arrays = as_array(x), as_array(weight)
        ctx.kept, ctx.wanted = [arrays], trained([x, weight, bias])
        return as_tensor(_forward(*arrays, as_array(bias)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        x, weight = ctx.kept.pop()
        rows = as_array(gradient).reshape(-1, len(weight))
        to_x, to_weight = aligned(x.shape), aligned(weight.shape)
        if ctx.wanted[0]:
            multiply(rows, weight, to_x.reshape(-1, x.shape[-1]))
        multiply(rows.T, x.reshape(-1, x.shape[-1]), to_weight)
        return as_gradients([to_x, to_weight, column_sums(rows)], ctx.wanted)


def _forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    result = aligned((*x.shape[:-1], len(weight)))
    result[...] = bias
    multiply(x.reshape(-1, x.shape[-1]), weight.T, result.reshape(-1, len(weight)), accumulate=True)
    return result


def column_sums(rows: np.ndarray) -> np.ndarray:
    """Float32 [P, C] → [C]; the same with any number of threads."""
    return _block_sums(rows).sum(axis=0).astype(np.float32)


@compiled
def _block_sums(rows: np.ndarray) -> np.ndarray:
    """The sum of every block of rows, float64 [blocks, C]."""
    count, columns = rows.shape
    blocks = (count + BLOCK - 1) // BLOCK
    sums = np.empty((blocks, columns))
    for block in prange(blocks):
        total = np.zeros(columns, np.float32)
        for p in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            for c in range(columns):
                total[c] += rows[p, c]
        sums[block] = total
    return sums
