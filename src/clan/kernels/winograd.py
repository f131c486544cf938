"""Dilated 3×3 convolutions with 2.25 times fewer multiplications (Winograd's F(2×2, 3×3)).

Four neighbouring outputs of a 3×3 convolution share most of their inputs. Winograd's algorithm computes such a
2×2 tile from its 4×4 inputs d as Aᵀ[(G w Gᵀ) ⊙ (Bᵀ d B)]A: 16 products instead of 36. Over all channels and
tiles, each of the 16 is a matrix product. A and B hold only 0 and ±1, so rounding stays that of a direct
convolution (larger tiles save more, and lose digits). With dilation, the pixels of a tile are `dilation` apart.
Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

Maps that are read are float32 or bf16 [B, h, w, channels], results float32, weights float32 [O, C, 3, 3], all
C-contiguous; padding equals dilation, stride is 1. Transformed tiles [16, tiles, channels] and transformed kernels
[16, C, O] are of the type of the maps; all sums are float32.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from clan.core.compilation import compiled
from clan.kernels.halves import narrow, wide
from clan.kernels.product import multiply_each
from clan.kernels.scratch import scratch

SIZE = 2
"""Outputs of a tile along an axis."""

PRODUCTS = 16
"""Products that a tile takes per pair of channels."""

LARGEST = 4_000_000
"""Elements of transformed inputs, or of their products, at once, beyond a row of tiles: memory, and the cache."""

LARGEST_WHOLE = 16_000_000
"""Elements of transformed inputs at once in the gradient of a weight, which sums over all tiles."""

Affine = tuple[np.ndarray, np.ndarray]
"""Scale and shift, float32 [C] each."""


class Tiles(NamedTuple):
    """The first row and the first column of every tile's outputs on a map."""

    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, maps: np.ndarray, dilation: int) -> "Tiles":
        """The tiles that cover maps [B, h, w, channels]."""

        def starts(length: int) -> np.ndarray:
            phases = [np.arange(first, length, SIZE * dilation) for first in range(min(dilation, length))]
            return np.concatenate(phases)

        return cls(starts(maps.shape[1]), starts(maps.shape[2]))


def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    dilation: int,
    out: np.ndarray,
    before: Affine | None = None,
    kind: type[np.generic] | None = None,
) -> None:
    """The convolution of maps.

    Args:
        x: [B, h, w, C].
        weight: [O, C, 3, 3].
        dilation: distance of the kernel's taps, and the padding.
        out: [B, h, w, O], overwritten.
        before: what is applied to x first, followed by a ReLU; the padding around it is 0.
        kind: the type to multiply in, float32 or bf16; None: that of x.
    """
    kind = kind or x.dtype.type
    tiles = Tiles.of(x, dilation)
    kernels = scratch("winograd kernels", (PRODUCTS, x.shape[3], out.shape[3]), kind)
    _transform_weight(weight, kernels)
    row = PRODUCTS * len(tiles.columns) * max(x.shape[3], out.shape[3])
    parts = -(-len(tiles.rows) * row // LARGEST)
    for image in range(len(x)):
        for rows in np.array_split(tiles.rows, min(parts, len(tiles.rows))):
            part = Tiles(rows, tiles.columns)
            inputs = _transformed_inputs(x[image : image + 1], part, dilation, before, kind)
            products = scratch("winograd outputs", (PRODUCTS, inputs.shape[1], out.shape[3]))
            multiply_each(inputs, kernels, products)
            _gather_outputs(products, *part, dilation, out[image : image + 1])


def input_gradient(
    gradient: np.ndarray, weight: np.ndarray, dilation: int, out: np.ndarray, kind: type[np.generic] | None = None
) -> None:
    """The gradient that a gradient [B, h, w, O] of the result gives the input, into `out` [B, h, w, C].

    It is multiplied in `kind`, or in the type of the gradient given.
    """
    # It is the convolution with every kernel turned by 180° and the channels swapped.
    convolve(gradient, np.ascontiguousarray(weight[:, :, ::-1, ::-1].swapaxes(0, 1)), dilation, out, kind=kind)


def weight_gradient(
    x: np.ndarray,
    gradient: np.ndarray,
    dilation: int,
    out: np.ndarray,
    before: Affine | None = None,
    kind: type[np.generic] | None = None,
) -> None:
    """The gradient that a gradient [B, h, w, O] of the result gives the weight, into `out` [O, C, 3, 3].

    It is multiplied in `kind`, or in the type of x.
    """
    tiles = Tiles.of(x, dilation)
    elements = PRODUCTS * len(x) * len(tiles.rows) * len(tiles.columns) * max(x.shape[3], gradient.shape[3])
    parts = np.array_split(tiles.rows, min(-(-elements // LARGEST_WHOLE), len(tiles.rows)))
    total: np.ndarray | None = None
    products = np.empty(0, np.float32)
    for rows in parts:  # at least one
        part = Tiles(rows, tiles.columns)
        inputs = _transformed_inputs(x, part, dilation, before, kind or x.dtype.type)
        outputs = scratch("winograd outputs", (PRODUCTS, inputs.shape[1], gradient.shape[3]), inputs.dtype.type)
        _spread_outputs(gradient, *part, dilation, outputs)
        products = scratch("winograd kernels", (PRODUCTS, *out.shape[:2]))
        multiply_each(outputs.swapaxes(1, 2), inputs, products)
        if len(parts) > 1:
            total = products.copy() if total is None else np.add(total, products, out=total)
    _transform_products(products if total is None else total, out)


def _transformed_inputs(
    x: np.ndarray, tiles: Tiles, dilation: int, before: Affine | None, kind: type[np.generic]
) -> np.ndarray:
    count = len(x) * len(tiles.rows) * len(tiles.columns)
    result = scratch("winograd inputs", (PRODUCTS, count, x.shape[3]), kind)
    scale, shift = before or (None, None)
    _transform_inputs(x, scale, shift, tiles.rows, tiles.columns, dilation, result)
    return result


@compiled
def _transform_weight(weight: np.ndarray, result: np.ndarray) -> None:
    """G w Gᵀ of every kernel, [O, C, 3, 3] → [16, C, O]; G = [[1, 0, 0], [½, ½, ½], [½, −½, ½], [0, 0, 1]]."""
    out_channels, channels = weight.shape[:2]
    half = np.float32(0.5)
    for c in prange(channels):
        half_way = np.empty((4, 3, out_channels), np.float32)
        for o in range(out_channels):
            for k in range(3):
                w0, w1, w2 = weight[o, c, 0, k], weight[o, c, 1, k], weight[o, c, 2, k]
                half_way[0, k, o] = w0
                half_way[1, k, o] = half * (w0 + w1 + w2)
                half_way[2, k, o] = half * (w0 - w1 + w2)
                half_way[3, k, o] = w2
        for i in range(4):
            for o in range(out_channels):
                w0, w1, w2 = half_way[i, 0, o], half_way[i, 1, o], half_way[i, 2, o]
                result[4 * i, c, o] = narrow(w0, result)
                result[4 * i + 1, c, o] = narrow(half * (w0 + w1 + w2), result)
                result[4 * i + 2, c, o] = narrow(half * (w0 - w1 + w2), result)
                result[4 * i + 3, c, o] = narrow(w2, result)


@compiled
def _transform_products(products: np.ndarray, result: np.ndarray) -> None:
    """Gᵀ p G of the products of a weight's gradient: [16, O, C] → [O, C, 3, 3]."""
    _, out_channels, channels = products.shape
    half = np.float32(0.5)
    for o in prange(out_channels):
        half_way = np.empty((3, 4, channels), np.float32)
        for j in range(4):
            for c in range(channels):
                p0, p1, p2, p3 = products[j, o, c], products[4 + j, o, c], products[8 + j, o, c], products[12 + j, o, c]
                half_way[0, j, c] = p0 + half * (p1 + p2)
                half_way[1, j, c] = half * (p1 - p2)
                half_way[2, j, c] = half * (p1 + p2) + p3
        for c in range(channels):
            for i in range(3):
                p0, p1, p2, p3 = half_way[i, 0, c], half_way[i, 1, c], half_way[i, 2, c], half_way[i, 3, c]
                result[o, c, i, 0] = p0 + half * (p1 + p2)
                result[o, c, i, 1] = half * (p1 - p2)
                result[o, c, i, 2] = half * (p1 + p2) + p3


@compiled
def _transform_inputs(
    x: np.ndarray,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    rows: np.ndarray,
    columns: np.ndarray,
    dilation: int,
    result: np.ndarray,
) -> None:
    """Bᵀ d B of every tile's inputs d; Bᵀ = [[1, 0, −1, 0], [0, 1, 1, 0], [0, −1, 1, 0], [0, 1, 0, −1]]."""
    batch, height, width, channels = x.shape
    for row in prange(batch * len(rows)):
        image, top = row // len(rows), rows[row % len(rows)]
        d = np.empty((4, 4, channels), np.float32)
        for column in range(len(columns)):
            tile = row * len(columns) + column
            for i in range(4):
                for j in range(4):
                    y = top + (i - 1) * dilation
                    z = columns[column] + (j - 1) * dilation
                    if not (0 <= y < height and 0 <= z < width):
                        d[i, j] = np.float32(0.0)
                        continue
                    for c in range(channels):
                        value = wide(x[image, y, z, c])
                        if scale is not None and shift is not None:
                            value = max(value * scale[c] + shift[c], np.float32(0.0))
                        d[i, j, c] = value
            for i in range(4):
                # Row i of Bᵀ d, from two rows of d.
                first, second = (0, 1, 2, 1)[i], (2, 2, 1, 3)[i]
                sign = np.float32(1.0 if i == 1 else -1.0)
                for c in range(channels):
                    d0 = d[first, 0, c] + sign * d[second, 0, c]
                    d1 = d[first, 1, c] + sign * d[second, 1, c]
                    d2 = d[first, 2, c] + sign * d[second, 2, c]
                    d3 = d[first, 3, c] + sign * d[second, 3, c]
                    result[4 * i, tile, c] = narrow(d0 - d2, result)
                    result[4 * i + 1, tile, c] = narrow(d1 + d2, result)
                    result[4 * i + 2, tile, c] = narrow(d2 - d1, result)
                    result[4 * i + 3, tile, c] = narrow(d1 - d3, result)


@compiled
def _gather_outputs(
    products: np.ndarray, rows: np.ndarray, columns: np.ndarray, dilation: int, result: np.ndarray
) -> None:
    """Aᵀ p A of every tile's products p, into the map; Aᵀ = [[1, 1, 1, 0], [0, 1, −1, −1]]."""
    batch, height, width, channels = result.shape
    for row in prange(batch * len(rows)):
        image, top = row // len(rows), rows[row % len(rows)]
        sums = np.empty((2, 4, channels), np.float32)
        for column in range(len(columns)):
            tile = row * len(columns) + column
            for j in range(4):
                for c in range(channels):
                    p0, p1 = products[j, tile, c], products[4 + j, tile, c]
                    p2, p3 = products[8 + j, tile, c], products[12 + j, tile, c]
                    sums[0, j, c] = p0 + p1 + p2
                    sums[1, j, c] = p1 - p2 - p3
            for i in range(2):
                y = top + i * dilation
                left, right = columns[column], columns[column] + dilation
                if y < height:
                    for c in range(channels):
                        result[image, y, left, c] = sums[i, 0, c] + sums[i, 1, c] + sums[i, 2, c]
                    if right < width:
                        for c in range(channels):
                            result[image, y, right, c] = sums[i, 1, c] - sums[i, 2, c] - sums[i, 3, c]


@compiled
def _spread_outputs(
    gradient: np.ndarray, rows: np.ndarray, columns: np.ndarray, dilation: int, result: np.ndarray
) -> None:
    """A g Aᵀ of every tile's output gradients g: the transpose of `_gather_outputs`."""
    batch, height, width, channels = gradient.shape
    for row in prange(batch * len(rows)):
        image, top = row // len(rows), rows[row % len(rows)]
        g = np.empty((2, 2, channels), np.float32)
        for column in range(len(columns)):
            tile = row * len(columns) + column
            for i in range(2):
                for j in range(2):
                    y, z = top + i * dilation, columns[column] + j * dilation
                    if y < height and z < width:
                        for c in range(channels):
                            g[i, j, c] = wide(gradient[image, y, z, c])
                    else:
                        g[i, j] = np.float32(0.0)
            for i in range(4):
                # Row i of A g: g0, g0 + g1, g0 − g1, −g1.
                of_0 = np.float32((1.0, 1.0, 1.0, 0.0)[i])
                of_1 = np.float32((0.0, 1.0, -1.0, -1.0)[i])
                for c in range(channels):
                    left = of_0 * g[0, 0, c] + of_1 * g[1, 0, c]
                    right = of_0 * g[0, 1, c] + of_1 * g[1, 1, c]
                    result[4 * i, tile, c] = narrow(left, result)
                    result[4 * i + 1, tile, c] = narrow(left + right, result)
                    result[4 * i + 2, tile, c] = narrow(left - right, result)
                    result[4 * i + 3, tile, c] = narrow(-right, result)
