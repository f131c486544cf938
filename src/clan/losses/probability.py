"""Class probabilities from logits."""

from paddle import Tensor
from paddle.nn.functional import softmax


def class_probabilities(logits_BCHW: Tensor) -> Tensor:
    """Softmax over classes: [B, C, H, W] → [B, C, H, W], 0…1."""
    return softmax(logits_BCHW, axis=1)
