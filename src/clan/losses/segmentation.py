"""The supervised loss on the source domain (SPEC section 3)."""

import paddle
from paddle import Tensor

from clan.losses.probability import class_probabilities

PROBABILITY_FLOOR = 1e-9
"""Probabilities are clamped to [floor, 1 − floor] before their logarithm is taken, as in the official code."""


def segmentation_loss(
    logits_BCHW: Tensor, labels_BHW: Tensor, *, gamma: float, ignore_label: int, class_weights: Tensor | None = None
) -> Tensor:
    """Focal loss, mean over valid pixels of −(1−p_y)^γ log p_y; γ = 0 is cross entropy.

    Args:
        logits_BCHW: float [B, C, H, W].
        labels_BHW: integer trainIds [B, H, W]; valid are 0…C−1 other than `ignore_label`.
        gamma: focusing exponent γ ≥ 0.
        ignore_label: the trainId to leave out.
        class_weights: float [C]: how much a pixel of each class counts in the mean; None: all the same.

    Returns:
        A scalar; 0, with zero gradients, where no pixel is valid.
    """
    num_classes = logits_BCHW.shape[1]
    labels = labels_BHW.astype("int64")
    valid = (labels >= 0) & (labels < num_classes) & (labels != ignore_label)
    index = paddle.where(valid, labels, paddle.zeros_like(labels)).unsqueeze(1)
    prob = paddle.take_along_axis(class_probabilities(logits_BCHW), index, axis=1, broadcast=False).squeeze(1)
    prob = prob.clip(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
    loss = -prob.log() if gamma == 0 else -((1.0 - prob) ** gamma) * prob.log()
    weight = valid.astype(loss.dtype)
    if class_weights is not None:
        weight = weight * class_weights.gather(index.flatten()).reshape(weight.shape)
    total = weight.sum()
    return (loss * weight).sum() / paddle.where(total > 0, total, paddle.ones_like(total))
