"""Class probabilities, and the supervised segmentation loss (focal loss: Lin et al., ICCV 2017; docs/method.md)."""

from typing import Literal

import paddle
from paddle import Tensor
from paddle.nn.functional import softmax


def class_probabilities(logits_BCHW: Tensor) -> Tensor:
    """Softmax over classes: [B, C, H, W] → [B, C, H, W], 0…1."""
    return softmax(logits_BCHW, axis=1)


PROBABILITY_FLOOR = 1e-9
"""Probabilities are clamped to [floor, 1 − floor] before the logarithm, as in the official code of CLAN."""


def segmentation_loss(
    logits_BCHW: Tensor,
    labels_BHW: Tensor,
    *,
    gamma: float,
    ignore_label: int,
    class_weights: Tensor | None = None,
    weight_BHW: Tensor | None = None,
    mean_over: Literal["weights", "pixels"] = "weights",
    clamped: bool = True,
) -> Tensor:
    """Focal loss, mean over pixels of −w·(1−p_y)^γ log p_y; γ = 0 is cross entropy.

    Args:
        logits_BCHW: float [B, C, H, W].
        labels_BHW: integer trainIds [B, H, W]; valid are 0…C−1 other than `ignore_label`.
        gamma: focusing exponent γ ≥ 0.
        ignore_label: trainId of ignored pixels.
        class_weights: float [C], weight of each class; None: 1.
        weight_BHW: float [B, H, W] ≥ 0, weight of each pixel, times the class weight; None: 1.
        mean_over: divide the sum over valid pixels by the sum of their weights, or by the number B·H·W of all pixels.
        clamped: whether p_y is clamped, so that a pixel of p_y < 1e-9 has no gradient; False applies to γ = 0 alone.

    Returns:
        A scalar; 0 with zero gradients if no pixel is valid.
    """
    num_classes = logits_BCHW.shape[1]
    labels = labels_BHW.astype("int64")
    valid = (labels >= 0) & (labels < num_classes) & (labels != ignore_label)
    index = paddle.where(valid, labels, paddle.zeros_like(labels)).unsqueeze(1)
    if gamma == 0 and not clamped:  # Paddle's cross_entropy is no more than 64 on CPUs
        logits = logits_BCHW.astype("float32")  # automatic mixed precision does not know logsumexp
        loss = paddle.logsumexp(logits, axis=1) - paddle.take_along_axis(
            logits, index, axis=1, broadcast=False
        ).squeeze(1)
    else:
        prob = paddle.take_along_axis(class_probabilities(logits_BCHW), index, axis=1, broadcast=False).squeeze(1)
        prob = prob.clip(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
        loss = -prob.log() if gamma == 0 else -((1.0 - prob) ** gamma) * prob.log()
    weight = valid.astype(loss.dtype)
    if class_weights is not None:
        weight = weight * class_weights.gather(index.flatten()).reshape(weight.shape)
    if weight_BHW is not None:
        weight = weight * weight_BHW
    if mean_over == "pixels":
        return (loss * weight).sum() / weight.size
    total = weight.sum()
    return (loss * weight).sum() / paddle.where(total > 0, total, paddle.ones_like(total))
