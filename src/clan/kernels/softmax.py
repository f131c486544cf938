"""Softmax over classes on the CPU, in one pass over maps in Paddle's layout, [B, C, H, W]."""

from typing import Any

import numpy as np
from numba import prange
from paddle import Tensor
from paddle.autograd import PyLayer

from clan.core.compilation import compiled
from clan.kernels.bridge import aligned, as_array, as_tensor

STRIP = 256
"""Pixels taken at a time: few enough that all their classes stay in the processor's cache."""


def fits(x: Tensor, axis: int = -1, dtype: object = None, name: str | None = None) -> bool:
    """Whether `softmax` is asked for over the classes of maps."""
    return x.ndim == 4 and axis == 1 and dtype is None


def softmax(x: Tensor, axis: int = -1, dtype: object = None, name: str | None = None) -> Tensor:
    """Instead of Paddle's `softmax`: [B, C, H, W] → [B, C, H, W]."""
    return ClassSoftmax.apply(x)


class ClassSoftmax(PyLayer):
    """Softmax over axis 1 of logits [B, C, H, W]; Paddle's own is made for the last axis."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        """[B, C, H, W] → probabilities [B, C, H, W]."""
        array = as_array(logits)
        ctx.kept, ctx.shape = [aligned(array.shape)], array.shape
        _softmax(_rows(array), _rows(ctx.kept[0]))
        return as_tensor(ctx.kept[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """p·(g − Σ g·p)."""
        array = as_array(gradient)
        result = aligned(array.shape)
        _gradient(_rows(array), _rows(ctx.kept.pop()), _rows(result))
        return as_tensor(result)


def _rows(maps: np.ndarray) -> np.ndarray:
    """[B, C, H, W] → [B, C, pixels], on the same memory."""
    return maps.reshape(*maps.shape[:2], -1)


@compiled
def _softmax(logits: np.ndarray, result: np.ndarray) -> None:
    batch, classes, pixels = logits.shape
    strips = (pixels + STRIP - 1) // STRIP
    for strip in prange(batch * strips):
        image, start = strip // strips, strip % strips * STRIP
        stop = min(start + STRIP, pixels)
        largest, total = np.full(STRIP, -np.inf, np.float32), np.zeros(STRIP, np.float32)
        for c in range(classes):
            for p in range(stop - start):
                largest[p] = max(largest[p], logits[image, c, start + p])
        for c in range(classes):
            for p in range(stop - start):
                result[image, c, start + p] = np.exp(logits[image, c, start + p] - largest[p])
                total[p] += result[image, c, start + p]
        for c in range(classes):
            for p in range(stop - start):
                result[image, c, start + p] /= total[p]


@compiled
def _gradient(gradient: np.ndarray, prob: np.ndarray, result: np.ndarray) -> None:
    batch, classes, pixels = gradient.shape
    strips = (pixels + STRIP - 1) // STRIP
    for strip in prange(batch * strips):
        image, start = strip // strips, strip % strips * STRIP
        stop = min(start + STRIP, pixels)
        total = np.zeros(STRIP, np.float32)
        for c in range(classes):
            for p in range(stop - start):
                total[p] += gradient[image, c, start + p] * prob[image, c, start + p]
        for c in range(classes):
            for p in range(stop - start):
                q = prob[image, c, start + p]
                result[image, c, start + p] = q * (gradient[image, c, start + p] - total[p])
