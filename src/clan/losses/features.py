"""Distance of features from those of the initial weights, on things (Hoyer et al., CVPR 2022)."""

from collections.abc import Sequence

import paddle
from paddle import Tensor
from paddle.nn import functional as F

ROUNDING = 1e-6
"""Taken off shares of pixels before they are compared: means of zeros and ones are rounded."""


def cells_of(labels_BHW: Tensor, classes: Sequence[int], size: tuple[int, int], *, smallest_share: float) -> Tensor:
    """Cells of a feature map that belong to one of some classes.

    Args:
        labels_BHW: trainIds, uint8 [B, H, W].
        classes: the classes' trainIds, at least one.
        size: (h, w) of the feature map.
        smallest_share: share of a cell's pixels that must be of one class, above 0.5.

    Returns:
        bool [B, h, w].
    """
    wanted = paddle.to_tensor(list(classes), dtype=labels_BHW.dtype).reshape([1, -1, 1, 1])
    shares = F.adaptive_avg_pool2d((labels_BHW.unsqueeze(1) == wanted).astype("float32"), size)
    return shares.max(axis=1) >= smallest_share - ROUNDING


def feature_distance(features_BKhw: Tensor, reference_BKhw: Tensor, cells_Bhw: Tensor) -> Tensor:
    """Mean over the selected cells of the Euclidean distance over channels.

    Args:
        features_BKhw: features of the network in training.
        reference_BKhw: those of its initial weights, detached.
        cells_Bhw: the cells, bool.

    Returns:
        A scalar; 0 with zero gradients if no cell is selected.
    """
    squares = (features_BKhw - reference_BKhw).square().sum(axis=1)
    # Equal features, as in the first iteration, have distance 0 and gradient 0, not the root's infinite slope.
    counted = cells_Bhw & (squares > 0)
    distances = paddle.where(counted, squares, paddle.ones_like(squares)).sqrt() * counted.astype(squares.dtype)
    return distances.sum() / cells_Bhw.astype(squares.dtype).sum().clip(min=1.0)
