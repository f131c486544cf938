"""Images made of others: ClassMix and block masks, as functions of what was drawn."""

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

LABELS = 256
"""Number of values of a label, the ignored one among them."""


def class_mask(labels_BHW: Tensor, classes: Sequence[Sequence[int]]) -> Tensor:
    """M: the pixels of the classes that were drawn (Olsson et al., WACV 2021).

    Args:
        labels_BHW: trainIds, uint8 [B, H, W].
        classes: trainIds drawn for each image; the ignored one may be among them.

    Returns:
        bool [B, H, W].
    """
    drawn = np.zeros((len(classes), LABELS), np.int32)  # before Paddle 3.2 a GPU takes no uint8 along an axis
    for row, chosen in zip(drawn, classes, strict=True):
        row[list(chosen)] = 1
    index = labels_BHW.astype("int64").flatten(1)
    found = paddle.take_along_axis(paddle.to_tensor(drawn), index, axis=1, broadcast=False)
    return found.reshape(labels_BHW.shape).astype("bool")


def mix(mask_BHW: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """M·source + (1 − M)·target.

    Args:
        mask_BHW: M, bool [B, H, W].
        source: images [B, 3, H, W], or something that broadcasts to them, or labels or weights [B, H, W].
        target: the same of the target.
    """
    if source.dtype == paddle.uint8:  # which Paddle's `where` does not know
        return mix(mask_BHW, source.astype("int32"), target.astype("int32")).astype("uint8")
    return paddle.where(mask_BHW if source.ndim == 3 else mask_BHW.unsqueeze(1), source, target)


def block_grid(size: tuple[int, int], block: int) -> tuple[int, int]:
    """Rows and columns of blocks of `block`² pixels of images of `size` (H, W), rounded."""
    return round(size[0] / block), round(size[1] / block)


def block_mask(uniform_B1hw: Tensor, size: tuple[int, int], *, ratio: float) -> Tensor:
    """Keeps the blocks whose draw exceeds `ratio` (Hoyer et al., CVPR 2023).

    Args:
        uniform_B1hw: a draw of 0…1 for each block, float32 [B, 1, h, w].
        size: (H, W) of the images.
        ratio: share of blocks to drop, 0…1.

    Returns:
        float32 [B, 1, H, W] of 0 and 1.
    """
    return F.interpolate((uniform_B1hw > ratio).astype("float32"), size=size, mode="nearest")
