"""Self-training: pseudo-labels of two kinds, their weights, and the pace of a teacher."""

from collections.abc import Sequence

import paddle
from paddle import Tensor

IGNORED = 255


def teacher_decay(iteration: int, decay: float) -> float:
    """α_i = min(1 − 1/(i + 1), α) of iteration i from 0: at first the teacher is the mean of all students so far.

    Source: Tranheden et al., WACV 2021.
    """
    return min(1.0 - 1.0 / (iteration + 1), decay)


def teacher_labels(prob_BCHW: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """What the teacher predicts, and how sure it is of the whole batch (Tranheden et al., WACV 2021).

    Args:
        prob_BCHW: its class probabilities, detached; at most 255 classes.
        threshold: τ, 0…1.

    Returns:
        TrainIds of all pixels, uint8 [B, H, W], and the share q of the batch's pixels whose class has at least
        probability τ, a float32 scalar.
    """
    labels, confidence = prob_BCHW.argmax(axis=1), prob_BCHW.max(axis=1)
    return labels.astype("uint8"), (confidence >= threshold).astype("float32").mean()


def pseudo_weight(share: Tensor, shape: Sequence[int], *, top: int = 0, bottom: int = 0) -> Tensor:
    """The weight w of pseudo-labels: q, and 0 in the uppermost and lowest rows.

    Args:
        share: q, a scalar.
        shape: (B, H, W).
        top: number of rows without weight at the top, where rectification distorts images.
        bottom: number of those at the bottom, where the bonnet of the car is.

    Returns:
        float32 [B, H, W].
    """
    height = shape[1]
    rows = paddle.arange(height)
    kept = ((rows >= top) & (rows < height - bottom)).astype("float32")
    return (share * kept).reshape([1, height, 1]).expand(list(shape))


def pseudo_labels(prob_BCHW: Tensor, *, share: float) -> Tensor:
    """Labels the most confident pixels with their predicted class: the same share of each class.

    A common threshold would keep only easy and frequent classes (Zou et al., ECCV 2018).

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
