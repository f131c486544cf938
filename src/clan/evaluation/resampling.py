"""From coarse logits to label maps and maps of confidence and discrepancy, in bounded memory, without Paddle."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from clan.evaluation.argmax import label_map
from clan.models.options import Upsampling

CUBIC = -0.75
"""Parameter a of Paddle's and PyTorch's bicubic interpolation."""

BLOCK = 1 << 22
"""Upsampled logits that are held at once."""


@lru_cache(maxsize=32)
def interpolation(coarse: int, fine: int, mode: Upsampling = "bilinear", align_corners: bool = True) -> np.ndarray:
    """The weights of `coarse` values in `fine` ones along an axis, float32 [fine, coarse], as Paddle's `interpolate`.

    Args:
        coarse: length of the input.
        fine: length of the result.
        mode: "bilinear": of two values; "bicubic": of four (Keys, IEEE TASSP 1981), border values continued.
        align_corners: the first and last values of both lie upon each other; otherwise the borders do.
    """
    index = np.arange(fine)
    if align_corners:
        positions = index * ((coarse - 1) / (fine - 1) if fine > 1 else 0.0)
    else:
        positions = (index + 0.5) * coarse / fine - 0.5
        positions = positions if mode == "bicubic" else positions.clip(0)
    before = np.floor(positions).astype(int)
    weights = np.zeros((fine, coarse))
    for tap in (-1, 0, 1, 2) if mode == "bicubic" else (0, 1):
        distance = np.abs(before + tap - positions)
        share = _cubic(distance) if mode == "bicubic" else 1 - distance
        np.add.at(weights, (index, (before + tap).clip(0, coarse - 1)), share)
    weights = weights.astype(np.float32)
    weights.setflags(write=False)  # shared by all callers
    return weights


def _cubic(x: np.ndarray) -> np.ndarray:
    """Cubic convolution at distances 0…2 with a = `CUBIC`."""
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x**2 + 1
    far = CUBIC * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, far)


def upsampled(
    logits: np.ndarray, size: tuple[int, int], mode: Upsampling = "bilinear", align_corners: bool = True
) -> Iterator[tuple[slice, np.ndarray]]:
    """Logits at another size, some rows at a time.

    Args:
        logits: float32 [K, h, w].
        size: height and width (H, W).
        mode: interpolation.
        align_corners: see `interpolation`.

    Yields:
        Rows of the result and their values, float32 [K, rows, W].
    """
    vertical = interpolation(logits.shape[1], size[0], mode, align_corners)
    horizontal = interpolation(logits.shape[2], size[1], mode, align_corners)
    step = max(1, BLOCK // (len(logits) * size[1]))
    for first in range(0, size[0], step):
        rows = slice(first, min(first + step, size[0]))
        yield rows, np.matmul(np.matmul(vertical[rows], logits), horizontal.T)


def labels_of(
    logits: np.ndarray, size: tuple[int, int], *, mode: Upsampling = "bilinear", align_corners: bool = True
) -> np.ndarray:
    """The class with the largest logit after upsampling, uint8 [H, W]; the first of equal ones.

    Args:
        logits: the sum of all heads' logits, float32 [C, h, w].
        size: height and width (H, W).
        mode: interpolation.
        align_corners: see `interpolation`.
    """
    if mode == "bilinear" and align_corners:
        return label_map(logits, size)
    labels = np.empty(size, np.uint8)
    for rows, values in upsampled(logits, size, mode, align_corners):
        labels[rows] = values.argmax(axis=0)
    return labels


def sureness(
    logits: np.ndarray, size: tuple[int, int], *, align_corners: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """How sure a network is, and where its heads disagree, of logits upsampled bilinearly as in training.

    Args:
        logits: of every head, float32 [heads, C, h, w].
        size: height and width (H, W).
        align_corners: see `interpolation`.

    Returns:
        Float32 [H, W] each: the largest probability of the softmax of all heads' sum; and 1 − cosine of two heads'
        probabilities, as `clan.losses.adversarial.discrepancy_map`, None unless there are two.
    """
    heads, classes = logits.shape[:2]
    confidence = np.empty(size, np.float32)
    discrepancy = np.empty(size, np.float32) if heads == 2 else None
    for rows, values in upsampled(logits.reshape(-1, *logits.shape[2:]), size, "bilinear", align_corners):
        each = values.reshape(heads, classes, *values.shape[1:])
        total = each.sum(axis=0)
        total -= total.max(axis=0)
        confidence[rows] = 1 / np.exp(total, out=total).sum(axis=0)
        if discrepancy is not None:
            each -= each.max(axis=1, keepdims=True)
            first, second = np.exp(each, out=each)  # the cosine of probabilities is that of what they are shares of
            squares = np.einsum("chw,chw->hw", first, first) * np.einsum("chw,chw->hw", second, second)
            cosine = np.einsum("chw,chw->hw", first, second) / np.sqrt(squares)
            discrepancy[rows] = (1 - cosine).clip(0, 1)
    return confidence, discrepancy
