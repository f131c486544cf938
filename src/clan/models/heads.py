"""DeepLab-v2's classifier heads, and a fast way to compute both of them on the CPU.

A head sums four dilated 3×3 convolutions of the same features. Paddle's CPU kernel for a dilated convolution
with few outputs runs at a tenth of the speed of a matrix product, so on the CPU all taps of all
dilations of both heads are one product of [taps·C, K] with the features, whose results are then
shifted and added. The nine-tap sums are those of the convolutions in another order.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from clan.models.resnet import convolution

DILATIONS = (6, 12, 18, 24)
"""Dilations of the four branches of a head."""


class Head(nn.Layer):
    """The sum of one 3×3 convolution per dilation, K features → C logits at the features' resolution."""

    def __init__(self, in_channels: int, num_classes: int, dilations: tuple[int, ...] = DILATIONS) -> None:
        super().__init__()
        self.dilations = dilations
        self.conv2d_list = nn.LayerList(
            convolution(in_channels, num_classes, 3, padding=dilation, dilation=dilation, bias=True)
            for dilation in dilations
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, K, h, w] → [B, C, h, w]."""
        first, *others = self.conv2d_list
        logits = first(features)
        for branch in others:
            logits = logits + branch(features)
        return logits


def both_heads(head1: Head, head2: Head, features: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of two heads of the same shape on the same features [B, K, h, w], each [B, C, h, w]."""
    if not features.place.is_cpu_place():
        return head1(features), head2(features)
    weights = [branch.weight for head in (head1, head2) for branch in head.conv2d_list]
    biases = [branch.bias for head in (head1, head2) for branch in head.conv2d_list]
    bias = paddle.stack(biases).reshape([2, len(head1.dilations), -1]).sum(axis=1).reshape([1, -1, 1, 1])
    logits = _DilatedSum.apply(features, *weights, dilations=head1.dilations) + bias
    logits1, logits2 = paddle.split(logits, 2, axis=1)
    return logits1, logits2


def _overlap(offset: int, length: int) -> tuple[slice, slice]:
    """What a shift by `offset` reads, and where it lands, on an axis with zeros beyond its ends."""
    return slice(max(0, offset), length + min(0, offset)), slice(max(0, -offset), length - max(0, offset))


@dataclass(frozen=True)
class _Tap:
    """One weight position of one or more dilated 3×3 kernels, and its shift of an h × w map.

    Args:
        kernels: (dilation index, row, column) of the kernel entries that share this shift.
        source, target: rows and columns read, and where they are added.
    """

    kernels: tuple[tuple[int, int, int], ...]
    source: tuple[slice, slice]
    target: tuple[slice, slice]


@functools.lru_cache(maxsize=64)
def _taps(dilations: tuple[int, ...], height: int, width: int) -> tuple[_Tap, ...]:
    """The distinct shifts of all kernels; those that fall wholly outside the map add nothing and are left out."""
    shifts: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for index, dilation in enumerate(dilations):
        for row, column in itertools.product(range(3), repeat=2):
            shift = ((row - 1) * dilation, (column - 1) * dilation)
            shifts.setdefault(shift, []).append((index, row, column))
    taps = []
    for (dy, dx), kernels in shifts.items():
        if abs(dy) < height and abs(dx) < width:
            rows, columns = _overlap(dy, height), _overlap(dx, width)
            taps.append(_Tap(tuple(kernels), (rows[0], columns[0]), (rows[1], columns[1])))
    return tuple(taps)


def _tap_matrix(kernels: np.ndarray, taps: tuple[_Tap, ...]) -> np.ndarray:
    """Kernels [heads, dilations, C, K, 3, 3] → [taps·heads·C, K]."""
    rows = [sum(kernels[:, index, :, :, row, column] for index, row, column in tap.kernels) for tap in taps]
    return np.stack(rows).reshape(-1, kernels.shape[3])


class _DilatedSum(PyLayer):
    """Sum of dilated 3×3 convolutions, for several heads at once, by one matrix product."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, *weights: Tensor, dilations: tuple[int, ...]) -> Tensor:
        """Features [B, K, h, w] and the heads' weights, each [C, K, 3, 3] → [B, heads·C, h, w], no bias."""
        batch, channels, height, width = features.shape
        taps = _taps(dilations, height, width)
        kernels = np.stack([weight.numpy() for weight in weights])
        kernels = kernels.reshape(-1, len(dilations), *kernels.shape[1:])
        matrix = paddle.to_tensor(_tap_matrix(kernels, taps))
        ctx.save_for_backward(features, matrix)
        ctx.taps, ctx.kernel_shape = taps, kernels.shape
        products = paddle.matmul(matrix, features.reshape([batch, channels, height * width]))
        products = products.numpy().reshape(batch, len(taps), -1, height, width)
        total = np.zeros((batch, products.shape[2], height, width), np.float32)
        for number, tap in enumerate(taps):
            total[(..., *tap.target)] += products[(slice(None), number, ..., *tap.source)]
        return paddle.to_tensor(total)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradient [B, heads·C, h, w] → those of the features and of every weight."""
        features, matrix = ctx.saved_tensor()
        batch, channels, height, width = features.shape
        gradient_array = gradient.numpy()
        spread = np.zeros((batch, len(ctx.taps), gradient_array.shape[1], height, width), np.float32)
        for number, tap in enumerate(ctx.taps):
            spread[(slice(None), number, ..., *tap.source)] = gradient_array[(..., *tap.target)]
        spread_tensor = paddle.to_tensor(spread.reshape(batch, -1, height * width))
        flat = features.reshape([batch, channels, height * width])
        to_features = paddle.matmul(matrix, spread_tensor, transpose_x=True).reshape(features.shape)
        to_matrix = paddle.matmul(spread_tensor, flat, transpose_y=True).sum(axis=0).numpy()
        heads, _, classes, *_ = ctx.kernel_shape
        to_matrix = to_matrix.reshape(len(ctx.taps), heads, classes, channels)
        to_kernels = np.zeros(ctx.kernel_shape, np.float32)
        for number, tap in enumerate(ctx.taps):
            for index, row, column in tap.kernels:
                to_kernels[:, index, :, :, row, column] = to_matrix[number]
        to_weights = to_kernels.reshape(-1, *ctx.kernel_shape[2:])
        return to_features, *(paddle.to_tensor(array) for array in to_weights)
