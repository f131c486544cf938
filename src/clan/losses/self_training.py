"""Class-balanced pseudo-labels (after Zou et al., ECCV 2018)."""

import paddle
from paddle import Tensor

IGNORED = 255


def pseudo_labels(prob_BCHW: Tensor, *, share: float) -> Tensor:
    """Labels the most confident pixels with their predicted class: the same share of each class.

    A common threshold would keep only easy and frequent classes.

    Args:
        prob_BCHW: class probabilities, detached; at most 255 classes.
        share: share of each predicted class's pixels to label, 0…1; at least one pixel.

    Returns:
        TrainIds, uint8 [B, H, W]; `IGNORED` for other pixels.
    """
    confidence, label = prob_BCHW.max(axis=1), prob_BCHW.argmax(axis=1)
    sure = paddle.zeros_like(label, dtype="bool")
    for train_id in range(prob_BCHW.shape[1]):
        predicted = label == train_id
        own = confidence[predicted]
        if own.shape[0]:
            kept = max(1, round(share * own.shape[0]))
            sure = sure | (predicted & (confidence >= own.topk(kept)[0][-1]))
    return paddle.where(sure, label, paddle.full_like(label, IGNORED)).astype("uint8")
