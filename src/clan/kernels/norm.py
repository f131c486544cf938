"""Batch norm with what follows it, residual and ReLU: arrays [P, C], a row a pixel, float32 or bf16 (`halves`).

Sums run over blocks of `BLOCK` rows in float32 and over blocks in float64. They do not depend on the number of threads.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from clan.core.compilation import compiled
from clan.kernels.halves import narrow, wide

BLOCK = 64
"""Rows that are summed up in float32."""


class Norm(NamedTuple):
    """A batch norm γ·(x − mean)/√(variance + ε) + β as it is applied to one batch.

    Args:
        mean: float32 [C].
        inverse: 1/√(variance + ε), float64 [C].
        gamma, beta: float32 [C].
        batch: whether mean and variance are the batch's own, and so depend on it.
    """

    mean: np.ndarray
    inverse: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    batch: bool

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The norm as x·scale + shift, float32 [C] each."""
        scale = self.gamma * self.inverse
        return scale.astype(np.float32), (self.beta - self.mean * scale).astype(np.float32)


class ParameterGradients(NamedTuple):
    """Gradients of γ and β, float32 [C]."""

    gamma: np.ndarray
    beta: np.ndarray


def statistics(x: np.ndarray, rounded: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over pixels, float32 [P, C] → float32 [C] each; x itself goes to `rounded`, in bf16.

    Every block is centred at its own mean; then their moments are merged (Chan, Golub and LeVeque, 1979): the
    accuracy of two passes through memory at the cost of one.
    """
    means, moments = _block_moments(x, rounded)
    counts = np.full((len(means), 1), BLOCK)
    counts[-1] = len(x) - BLOCK * (len(means) - 1)
    mean = (counts * means).sum(axis=0) / len(x)
    variance = (moments + counts * (means - mean) ** 2).sum(axis=0) / len(x)
    return mean.astype(np.float32), variance.astype(np.float32)


@compiled
def _block_moments(x: np.ndarray, rounded: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sum of squared deviations of every block of rows, float64 [blocks, C]."""
    pixels, channels = x.shape
    blocks = (pixels + BLOCK - 1) // BLOCK
    means, moments = np.empty((blocks, channels)), np.empty((blocks, channels))
    for block in prange(blocks):
        start, stop = block * BLOCK, min(pixels, (block + 1) * BLOCK)
        mean, moment = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        for p in range(start, stop):
            for c in range(channels):
                mean[c] += x[p, c]
        mean /= np.float32(stop - start)
        for p in range(start, stop):
            for c in range(channels):
                moment[c] += (x[p, c] - mean[c]) * (x[p, c] - mean[c])
            if rounded is not None:
                for c in range(channels):
                    rounded[p, c] = narrow(x[p, c], rounded)
        means[block] = mean
        moments[block] = moment
    return means, moments


@compiled
def affine(
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    residual: np.ndarray | None,
    relu: bool,
    result: np.ndarray,
    rounded: np.ndarray | None = None,
) -> None:
    """x·scale + shift + residual, then ReLU if `relu`, into `result`, which may be x itself, and into `rounded`."""
    pixels, channels = x.shape
    floor = np.float32(0.0 if relu else -np.inf)
    for p in prange(pixels):
        if residual is None:
            for c in range(channels):
                result[p, c] = narrow(max(wide(x[p, c]) * scale[c] + shift[c], floor), result)
        else:
            for c in range(channels):
                value = max(wide(x[p, c]) * scale[c] + shift[c] + wide(residual[p, c]), floor)
                result[p, c] = narrow(value, result)
                if rounded is not None:
                    rounded[p, c] = narrow(value, rounded)


@compiled
def mask(gradient: np.ndarray, output: np.ndarray, result: np.ndarray) -> None:
    """What a ReLU that gave `output` lets pass of a gradient, into `result`, which may be the gradient itself."""
    pixels, channels = gradient.shape
    for p in prange(pixels):
        for c in range(channels):
            result[p, c] = gradient[p, c] if wide(output[p, c]) > 0 else np.float32(0.0)


def backward(gradient: np.ndarray, x: np.ndarray, norm: Norm, *, relu: bool) -> ParameterGradients:
    """Replaces x by the gradient of x.

    Args:
        gradient: of the norm's result, or of the ReLU after it, float32 [P, C].
        x: the norm's input, float32 or bf16 [P, C]; overwritten.
        norm: what was applied.
        relu: whether a ReLU came right after the norm.
    """
    scale, shift = norm.affine()
    sums, products = _block_sums(gradient, x, norm.mean, scale, shift, relu)
    beta, gamma = sums.sum(axis=0), products.sum(axis=0) * norm.inverse
    slope, offset = np.zeros_like(gamma), np.zeros_like(gamma)
    if norm.batch:
        # scale·(g − mean(g) − x̂·mean(g·x̂)), written as g·scale + x·slope + offset.
        slope = -scale * gamma * norm.inverse / len(x)
        offset = -scale * beta / len(x) - slope * norm.mean
    _combine(gradient, x, scale, shift, slope.astype(np.float32), offset.astype(np.float32), relu)
    return ParameterGradients(gamma.astype(np.float32), beta.astype(np.float32))


@compiled
def _block_sums(
    gradient: np.ndarray, x: np.ndarray, mean: np.ndarray, scale: np.ndarray, shift: np.ndarray, relu: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of g and g·(x − mean) over every block, float64 [blocks, C]; g is what the ReLU lets pass."""
    pixels, channels = x.shape
    blocks = (pixels + BLOCK - 1) // BLOCK
    sums, products = np.empty((blocks, channels)), np.empty((blocks, channels))
    floor = np.float32(0.0 if relu else -np.inf)
    for block in prange(blocks):
        total, product = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        for p in range(block * BLOCK, min(pixels, (block + 1) * BLOCK)):
            for c in range(channels):
                value = wide(x[p, c])
                g = gradient[p, c] if value * scale[c] + shift[c] > floor else np.float32(0.0)
                total[c] += g
                product[c] += g * (value - mean[c])
        sums[block] = total
        products[block] = product
    return sums, products


@compiled
def _combine(
    gradient: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
    offset: np.ndarray,
    relu: bool,
) -> None:
    """g·scale + x·slope + offset, in the place of x; g is what the ReLU lets pass."""
    pixels, channels = x.shape
    floor = np.float32(0.0 if relu else -np.inf)
    for p in prange(pixels):
        for c in range(channels):
            value = wide(x[p, c])
            g = gradient[p, c] if value * scale[c] + shift[c] > floor else np.float32(0.0)
            x[p, c] = narrow(g * scale[c] + value * slope[c] + offset[c], x)
