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
    confidence, label = prob_BCHW.max(axis=1).flatten(), prob_BCHW.argmax(axis=1).flatten()
    # By class, and within a class the surest first: two stable sorts, which never ask for a number on the host.
    order = confidence.argsort(descending=True, stable=True)
    order = order.gather(label.gather(order).argsort(stable=True))
    by_class, classes = label.gather(order), paddle.arange(prob_BCHW.shape[1])
    # Not bincount, which waits for the largest label on a GPU.
    first = paddle.searchsorted(by_class, classes)
    sizes = paddle.searchsorted(by_class, classes, right=True) - first
    kept = (share * sizes.astype("float64")).round().astype("int64").clip(min=1)
    last = first + paddle.minimum(kept, sizes) - 1
    threshold = confidence.gather(order.gather(last.clip(min=0)))
    sure = confidence >= threshold.gather(label)
    labels = paddle.where(sure, label, paddle.full_like(label, IGNORED))
    return labels.reshape([-1, *prob_BCHW.shape[2:]]).astype("uint8")
