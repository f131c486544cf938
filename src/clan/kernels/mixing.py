"""A depthwise 3×3 convolution with bias and exact GELU on the CPU, as one step of autograd.

Maps are channels-last as MiT has them, so nothing is transposed, and the inner loops run over a pixel's channels.
"""

from typing import Any

import numpy as np
import paddle
from numba import prange
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from clan.core.compilation import compiled, compiled_part
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.elementary import erf, exp
from clan.kernels.structure import is_convolution
from clan.models.mit import LocalMixing, channels_first, channels_last


def replaced(self: LocalMixing, x: Tensor) -> Tensor:
    """`LocalMixing.forward` as this module computes it."""
    return F.gelu(channels_last(self.dwconv(channels_first(x))))


def fits(layer: LocalMixing, x: Tensor) -> bool:
    """Whether the layer's convolution is the one that this module computes."""
    own = layer.dwconv
    return (
        x.ndim == 4
        and is_convolution(own, (x.shape[3], 1, 3, 3), padding=1, groups=x.shape[3], bias=True)
        and own.bias.dtype == paddle.float32
    )


def forward(layer: LocalMixing, x: Tensor) -> Tensor:
    """Instead of `LocalMixing.forward`: [B, h, w, C] → [B, h, w, C]."""
    weight, bias = layer.dwconv.weight, layer.dwconv.bias
    if paddle.is_grad_enabled():
        return _Mixing.apply(x, weight, bias)
    array = as_array(x)
    result = aligned(array.shape)
    _convolve(array, _taps(as_array(weight)), as_array(bias), result)
    _gelu(result.reshape(-1, array.shape[3]), result.reshape(-1, array.shape[3]))
    return as_tensor(result)


class _Mixing(PyLayer):
    """The convolution and GELU with their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        array, taps = as_array(x), _taps(as_array(weight))
        convolved, result = aligned(array.shape), aligned(array.shape)
        _convolve(array, taps, as_array(bias), convolved)
        _gelu(convolved.reshape(-1, array.shape[3]), result.reshape(-1, array.shape[3]))
        ctx.kept, ctx.wanted = [(array, taps, convolved)], trained([x, weight, bias])
        return as_tensor(result)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        x, taps, convolved = ctx.kept.pop()
        batch, height, _, channels = x.shape
        _gelu_backward(as_array(gradient).reshape(-1, channels), convolved.reshape(-1, channels))
        to_x, sums = aligned(x.shape), np.zeros((batch * height, 10, channels), np.float32)
        _convolve(convolved, np.ascontiguousarray(taps[::-1]), np.zeros(channels, np.float32), to_x)
        _parameter_sums(x, convolved, sums)
        total = sums.sum(axis=0, dtype=np.float64).astype(np.float32)
        to_weight = np.ascontiguousarray(total[:9].T).reshape(channels, 1, 3, 3)
        return as_gradients([to_x, to_weight, total[9].copy()], ctx.wanted)


def _taps(weight: np.ndarray) -> np.ndarray:
    """[C, 1, 3, 3] → [9, C]."""
    return np.ascontiguousarray(weight.reshape(-1, 9).T)


@compiled
def _convolve(x: np.ndarray, taps: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Out[y, x] = bias + Σ taps[3r + c] · x[y + r − 1, x + c − 1], of each channel, in each image."""
    batch, height, width, channels = x.shape
    for line in prange(batch * height):
        image, row = line // height, line % height
        for column in range(width):
            result = out[image, row, column]
            if 0 < row < height - 1 and 0 < column < width - 1:
                above, own, below = x[image, row - 1], x[image, row], x[image, row + 1]
                _nine_taps(above, own, below, column, taps, bias, result)
                continue
            for c in range(channels):
                result[c] = bias[c]
            for tap in range(9):
                r, k = row + tap // 3 - 1, column + tap % 3 - 1
                if 0 <= r < height and 0 <= k < width:
                    seen, factor = x[image, r, k], taps[tap]
                    for c in range(channels):
                        result[c] += factor[c] * seen[c]


@compiled_part
def _nine_taps(
    above: np.ndarray, own: np.ndarray, below: np.ndarray, column: int, taps: np.ndarray, bias: np.ndarray,
    result: np.ndarray,
) -> None:  # fmt: skip
    """A pixel's result away from the border: `above`, `own` and `below` are rows of pixels."""
    a0, a1, a2 = above[column - 1], above[column], above[column + 1]
    a3, a4, a5 = own[column - 1], own[column], own[column + 1]
    a6, a7, a8 = below[column - 1], below[column], below[column + 1]
    t0, t1, t2, t3, t4, t5, t6, t7, t8 = (
        taps[0], taps[1], taps[2], taps[3], taps[4], taps[5], taps[6], taps[7], taps[8],
    )  # fmt: skip
    for c in range(len(result)):
        top = t0[c] * a0[c] + t1[c] * a1[c] + t2[c] * a2[c]
        middle = t3[c] * a3[c] + t4[c] * a4[c] + t5[c] * a5[c]
        result[c] = bias[c] + top + middle + t6[c] * a6[c] + t7[c] * a7[c] + t8[c] * a8[c]


@compiled
def _parameter_sums(x: np.ndarray, gradient: np.ndarray, sums: np.ndarray) -> None:
    """Adds up for each row of pixels the gradients of the nine taps and of the bias, [rows, 10, C]."""
    batch, height, width, channels = x.shape
    for line in prange(batch * height):
        image, row = line // height, line % height
        for tap in range(9):
            r, shift, total = row + tap // 3 - 1, tap % 3 - 1, sums[line, tap]
            if 0 <= r < height:
                for column in range(max(0, -shift), min(width, width - shift)):
                    seen, g = x[image, r, column + shift], gradient[image, row, column]
                    for c in range(channels):
                        total[c] += g[c] * seen[c]
        total = sums[line, 9]
        for column in range(width):
            g = gradient[image, row, column]
            for c in range(channels):
                total[c] += g[c]


_ROOT_HALF, _HALF, _ONE = np.float32(0.5**0.5), np.float32(0.5), np.float32(1)
_DENSITY = np.float32((2 * np.pi) ** -0.5)
"""The normal distribution's density at 0."""


@compiled
def _gelu(x: np.ndarray, result: np.ndarray) -> None:
    """x·Φ(x), float32 [P, C], into `result`, which may be x itself."""
    for p in prange(len(x)):
        row, out = x[p], result[p]
        for c in range(len(row)):
            out[c] = _HALF * row[c] * (_ONE + erf(row[c] * _ROOT_HALF))


@compiled
def _gelu_backward(gradient: np.ndarray, x: np.ndarray) -> None:
    """Replaces x by the gradient of x, float32 [P, C]."""
    for p in prange(len(x)):
        row, g = x[p], gradient[p]
        for c in range(len(row)):
            v = row[c]
            distribution = _HALF * (_ONE + erf(v * _ROOT_HALF))
            row[c] = g[c] * (distribution + v * _DENSITY * exp(-_HALF * v * v))
