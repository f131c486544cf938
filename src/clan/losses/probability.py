"""From logits to class probabilities."""

from paddle import Tensor
from paddle.nn import functional as F

from clan.cpu.bridge import available


def class_probabilities(logits_BCHW: Tensor) -> Tensor:
    """Softmax over classes: [B, C, H, W] → [B, C, H, W], 0…1."""
    if not available(logits_BCHW):
        return F.softmax(logits_BCHW, axis=1)
    from clan.cpu.softmax import ClassSoftmax

    return ClassSoftmax.apply(logits_BCHW)
