"""Attention on the CPU: products by MKL, softmax in place, one step of autograd."""

from typing import Any

import numpy as np
import paddle
from numba import prange
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from clan.core.compilation import compiled
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.elementary import exp
from clan.kernels.product import multiply_each
from clan.models.attention import has_fused

LANES = 16
"""Numbers that are compared side by side."""


def replaced(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`attend` as this module computes it."""
    if has_fused(query):
        return F.scaled_dot_product_attention(query, key, value)
    query, key, value = (x.transpose([0, 2, 1, 3]) for x in (query, key, value))
    scores = paddle.matmul(query * query.shape[-1] ** -0.5, key, transpose_y=True)
    return paddle.matmul(F.softmax(scores, axis=-1), value).transpose([0, 2, 1, 3])


def fits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether all three are [B, N, heads, d] of float32 with one number of heads and one d."""
    shape = query.shape
    return all(x.dtype == paddle.float32 and x.ndim == 4 and x.shape[2:] == shape[2:] for x in (query, key, value))


def forward(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Instead of `attend`: [B, N, heads, d] and twice [B, M, heads, d] → [B, N, heads, d]."""
    if paddle.is_grad_enabled():
        return _Attention.apply(query, key, value)
    heads = query.shape[2]
    _, out = _forward(*(_by_head(as_array(x)) for x in (query, key, value)))
    return as_tensor(_by_token(out, heads))


class _Attention(PyLayer):
    """Softmax(q·kᵀ/√d)·v with its gradients."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        arrays = [_by_head(as_array(x)) for x in (query, key, value)]
        prob, out = _forward(*arrays)
        ctx.kept, ctx.heads, ctx.wanted = [(prob, *arrays)], query.shape[2], trained([query, key, value])
        return as_tensor(_by_token(out, ctx.heads))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        prob, query, key, value = ctx.kept.pop()
        to_out = _by_head(as_array(gradient))
        to_value, to_scores = np.empty_like(value), np.empty_like(prob)
        multiply_each(prob.transpose(0, 2, 1), to_out, to_value)
        multiply_each(to_out, value.transpose(0, 2, 1), to_scores)
        size = prob.shape[-1]
        _softmax_backward(prob.reshape(-1, size), to_scores.reshape(-1, size), np.float32(_scale(query)))
        to_query, to_key = np.empty_like(query), np.empty_like(key)
        multiply_each(to_scores, key, to_query)
        multiply_each(to_scores.transpose(0, 2, 1), query, to_key)
        return as_gradients([_by_token(x, ctx.heads) for x in (to_query, to_key, to_value)], ctx.wanted)


def _forward(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [G, N, M] and result [G, N, d] for query [G, N, d], key and value [G, M, d]."""
    prob = np.empty((len(query), query.shape[1], key.shape[1]), np.float32)
    multiply_each(query, key.transpose(0, 2, 1), prob)
    _softmax(prob.reshape(-1, prob.shape[-1]), np.float32(_scale(query)))
    out = np.empty_like(query)
    multiply_each(prob, value, out)
    return prob, out


def _scale(query: np.ndarray) -> float:
    return query.shape[-1] ** -0.5


def _by_head(x: np.ndarray) -> np.ndarray:
    """[B, N, heads, d] → [B·heads, N, d]."""
    batch, tokens, heads, size = x.shape
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(batch * heads, tokens, size)


def _by_token(x: np.ndarray, heads: int) -> np.ndarray:
    """[B·heads, N, d] → [B, N, heads, d], in memory for `as_tensor`."""
    groups, tokens, size = x.shape
    result = aligned((groups // heads, tokens, heads, size))
    result[...] = x.reshape(-1, heads, tokens, size).transpose(0, 2, 1, 3)
    return result


@compiled
def _softmax(scores: np.ndarray, scale: np.float32) -> None:
    """Replaces every row of scores s by softmax(scale·s), for a scale above 0."""
    rows, size = scores.shape
    whole = size // LANES * LANES
    for p in prange(rows):
        row = scores[p]
        largest = np.full(LANES, -np.inf, np.float32)
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                largest[lane] = max(largest[lane], row[start + lane])
        top = row[size - 1]
        for lane in range(LANES):
            top = max(top, largest[lane])
        for c in range(whole, size):
            top = max(top, row[c])
        total = np.float32(0)
        for c in range(size):
            value = exp(scale * (row[c] - top))
            row[c] = value
            total += value
        share = np.float32(1) / total
        for c in range(size):
            row[c] *= share


@compiled
def _softmax_backward(prob: np.ndarray, gradient: np.ndarray, scale: np.float32) -> None:
    """Replaces the gradient of every row of softmax(scale·s) by that of s."""
    rows, size = prob.shape
    for p in prange(rows):
        row, g = prob[p], gradient[p]
        total = np.float32(0)
        for c in range(size):
            total += row[c] * g[c]
        for c in range(size):
            g[c] = scale * row[c] * (g[c] - total)
