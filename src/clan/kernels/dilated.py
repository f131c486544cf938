"""Sums of dilated 3×3 convolutions on the CPU, for several heads at once, by one matrix product.

All taps of all dilations of all heads are one product of features [pixels, K] with [K, taps·heads·C]; its results
are then shifted and added. The sums are those of the convolutions in another order.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import paddle
from numba import prange
from paddle import Tensor
from paddle.autograd import PyLayer

from clan.core.compilation import compiled
from clan.core.precision import bf16_on_cpu
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.halves import handed_on, narrow
from clan.kernels.product import multiply
from clan.kernels.scratch import scratch
from clan.kernels.structure import is_convolution, is_ordinary, same_code
from clan.models.heads import Head


def replaced(heads: Sequence[Head], features: Tensor) -> list[Tensor]:
    """`Head.run_together` as this module computes it."""
    return [head(features) for head in heads]


def replaced_head(self: Head, features: Tensor) -> Tensor:
    """`Head.forward` as this module computes it."""
    first, *others = self.conv2d_list
    logits = first(features)
    for branch in others:
        logits = logits + branch(features)
    return logits


def fits(heads: Sequence[Head], features: Tensor) -> bool:
    """Whether all heads are built as this module expects, and alike."""
    if features.ndim != 4 or not heads or not same_code(Head.forward, replaced_head):
        return False
    if not all(is_ordinary(head, Head) for head in heads):
        return False
    dilations = heads[0].dilations
    if not all(head.dilations == dilations and len(head.conv2d_list) == len(dilations) for head in heads):
        return False
    branches = [branch for head in heads for branch in head.conv2d_list]
    return len({len(branch.weight) for branch in branches}) == 1 and all(
        is_convolution(branch, (None, features.shape[1], 3, 3), padding=dilation, dilation=dilation, bias=True)
        for branch, dilation in zip(branches, dilations * len(heads), strict=True)
    )


def run_together(heads: Sequence[Head], features: Tensor) -> list[Tensor]:
    """Instead of `Head.run_together`: [B, K, h, w] → [B, C, h, w] for each head."""
    branches: list[Any] = [branch for head in heads for branch in head.conv2d_list]
    weights = [branch.weight for branch in branches]
    sums = dilated_sums(features.transpose([0, 2, 3, 1]), weights, heads[0].dilations)
    bias = paddle.stack([branch.bias for branch in branches]).reshape([len(heads), len(heads[0].dilations), -1])
    logits = (sums + bias.sum(axis=1).flatten()).transpose([0, 3, 1, 2])
    return paddle.split(logits, len(heads), axis=1)


def dilated_sums(features: Tensor, weights: Sequence[Tensor], dilations: tuple[int, ...]) -> Tensor:
    """Sum over dilations of 3×3 convolutions without bias, padded by their dilation, for every head.

    Args:
        features: [B, h, w, K].
        weights: [C, K, 3, 3] each: those of the first head, one per dilation, then those of the next.
        dilations: of a head's convolutions.

    Returns:
        [B, h, w, heads·C].
    """
    if paddle.is_grad_enabled():
        return _DilatedSums.apply(features, *weights, dilations=dilations)
    return as_tensor(_forward(_read(features), [as_array(weight) for weight in weights], dilations))


class _DilatedSums(PyLayer):
    """`dilated_sums` with its gradients."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, *weights: Tensor, dilations: tuple[int, ...]) -> Tensor:
        array, kernels = _read(features), [as_array(weight) for weight in weights]
        ctx.kept, ctx.dilations, ctx.wanted = [(array, kernels)], dilations, trained([features, *weights])
        return as_tensor(_forward(array, kernels, dilations))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        array, kernels = ctx.kept.pop()
        to_features, to_weights = _backward(as_array(gradient), array, kernels, ctx.dilations)
        return as_gradients([to_features, *to_weights], ctx.wanted)


def _read(features: Tensor) -> np.ndarray:
    """What the product reads, and its gradient again."""
    array = as_array(features)
    return handed_on(array) if bf16_on_cpu.get() else array


class _Taps(NamedTuple):
    """The distinct shifts of all kernels that reach into an h × w map.

    Args:
        shifts: rows and columns, int64 [taps, 2].
        kernels: for every dilation and kernel entry its tap, −1 if it reads only padding; int64 [dilations, 9].
    """

    shifts: np.ndarray
    kernels: np.ndarray


@functools.lru_cache(maxsize=64)
def _taps(dilations: tuple[int, ...], height: int, width: int) -> _Taps:
    shifts: dict[tuple[int, int], int] = {}
    kernels = np.full((len(dilations), 9), -1)
    for index, dilation in enumerate(dilations):
        for entry, (row, column) in enumerate(itertools.product((-1, 0, 1), repeat=2)):
            shift = row * dilation, column * dilation
            if abs(shift[0]) < height and abs(shift[1]) < width:
                kernels[index, entry] = shifts.setdefault(shift, len(shifts))
    return _Taps(np.array([*shifts]), kernels)


def _forward(features: np.ndarray, weights: list[np.ndarray], dilations: tuple[int, ...]) -> np.ndarray:
    batch, height, width, channels = features.shape
    taps = _taps(dilations, height, width)
    matrix = _matrix(weights, taps)
    products = scratch("dilated products", (batch * height * width, matrix[..., 0].size))
    multiply(features.reshape(-1, channels), matrix.reshape(-1, channels).T, products)
    out = aligned((batch, height, width, matrix.shape[1]))
    _add_shifted(products.reshape(batch, height, width, len(taps.shifts), -1), taps.shifts, out)
    return out


def _backward(
    gradient: np.ndarray, features: np.ndarray, weights: list[np.ndarray], dilations: tuple[int, ...]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The gradients of the features and of every weight."""
    batch, height, width, channels = features.shape
    taps = _taps(dilations, height, width)
    matrix = _matrix(weights, taps)
    spread = scratch("dilated products", (batch * height * width, matrix[..., 0].size), features.dtype.type)
    _shift(gradient, taps.shifts, spread.reshape(batch, height, width, len(taps.shifts), -1))
    to_features = aligned(features.shape)
    multiply(spread, matrix.reshape(-1, channels), to_features.reshape(-1, channels))
    # The matrix has served; its gradient takes its place.
    multiply(spread.T, features.reshape(-1, channels), matrix.reshape(-1, channels))
    to_weights = []
    for number, weight in enumerate(weights):
        head, index = divmod(number, len(dilations))
        classes = len(weight)
        to_weights.append(aligned(weight.shape))
        rows = matrix[:, head * classes : (head + 1) * classes]
        _to_weight(rows, taps.kernels[index], to_weights[-1].reshape(classes, channels, 9))
    return to_features, to_weights


def _matrix(weights: list[np.ndarray], taps: _Taps) -> np.ndarray:
    """All kernel entries by tap, [taps, heads·C, K], entries that share a tap added up."""
    dilations, classes, channels = len(taps.kernels), *weights[0].shape[:2]
    heads = len(weights) // dilations
    matrix = scratch("dilated matrix", (len(taps.shifts), heads * classes, channels))
    matrix[...] = 0.0
    for number, weight in enumerate(weights):
        head, index = divmod(number, dilations)
        rows = matrix[:, head * classes : (head + 1) * classes]
        _from_weight(weight.reshape(classes, channels, 9), taps.kernels[index], rows)
    return matrix


@compiled
def _from_weight(weight: np.ndarray, taps: np.ndarray, rows: np.ndarray) -> None:
    """Adds a weight [C, K, 9] to its taps' rows [taps, C, K]."""
    classes, channels, entries = weight.shape
    for c in prange(classes):
        for k in range(channels):
            for entry in range(entries):
                if taps[entry] >= 0:
                    rows[taps[entry], c, k] += weight[c, k, entry]


@compiled
def _to_weight(rows: np.ndarray, taps: np.ndarray, weight: np.ndarray) -> None:
    """The transpose of `_from_weight`, into `weight`."""
    classes, channels, entries = weight.shape
    for c in prange(classes):
        for k in range(channels):
            for entry in range(entries):
                weight[c, k, entry] = rows[taps[entry], c, k] if taps[entry] >= 0 else np.float32(0.0)


@compiled
def _add_shifted(products: np.ndarray, shifts: np.ndarray, result: np.ndarray) -> None:
    """Every pixel's sum over taps of what lies a shift away, 0 beyond the map: [B, h, w, taps, C] → [B, h, w, C]."""
    batch, height, width, taps, channels = products.shape
    for row in prange(batch * height):
        image, y = row // height, row % height
        for x in range(width):
            result[image, y, x] = np.float32(0.0)
            for tap in range(taps):
                source_y, source_x = y + shifts[tap, 0], x + shifts[tap, 1]
                if 0 <= source_y < height and 0 <= source_x < width:
                    for c in range(channels):
                        result[image, y, x, c] += products[image, source_y, source_x, tap, c]


@compiled
def _shift(gradient: np.ndarray, shifts: np.ndarray, result: np.ndarray) -> None:
    """The transpose of `_add_shifted`: [B, h, w, C] → [B, h, w, taps, C]."""
    batch, height, width, taps, channels = result.shape
    for row in prange(batch * height):
        image, y = row // height, row % height
        for x in range(width):
            for tap in range(taps):
                target_y, target_x = y - shifts[tap, 0], x - shifts[tap, 1]
                if 0 <= target_y < height and 0 <= target_x < width:
                    for c in range(channels):
                        result[image, y, x, tap, c] = narrow(gradient[image, target_y, target_x, c], result)
                else:
                    for c in range(channels):
                        result[image, y, x, tap, c] = narrow(np.float32(0.0), result)
