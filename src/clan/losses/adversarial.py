"""Category-level adversarial loss, weighted by the heads' discrepancy (Luo et al., CVPR 2019; docs/method.md)."""

from collections.abc import Iterable

import paddle
from paddle import Tensor
from paddle.nn import functional as F

SOURCE, TARGET = 0.0, 1.0
"""Labels of the two domains for the discriminator."""


def discrepancy_map(prob1_BCHW: Tensor, prob2_BCHW: Tensor) -> Tensor:
    """M = 1 − cosine of the two heads' class probabilities per pixel.

    Args:
        prob1_BCHW: class probabilities of head 1, float [B, C, H, W].
        prob2_BCHW: those of head 2.

    Returns:
        M in [0, 1], [B, 1, H, W].
    """
    product = (prob1_BCHW * prob2_BCHW).sum(axis=1, keepdim=True)
    # square() instead of `** 2`, which is 20 times slower on the CPU.
    squares = prob1_BCHW.square().sum(axis=1, keepdim=True) * prob2_BCHW.square().sum(axis=1, keepdim=True)
    return 1.0 - product / squares.sqrt()


def adaptive_weight(discrepancy_B1HW: Tensor, *, epsilon: float, lambda_local: float) -> Tensor:
    """A = ε + λ_local · M, [B, 1, H, W]."""
    return epsilon + lambda_local * discrepancy_B1HW


def adversarial_loss(domain_logits_B1HW: Tensor, domain: float, weight_B1HW: Tensor | None = None) -> Tensor:
    """Mean over pixels of weight · BCE-with-logits(logits, domain).

    Args:
        domain_logits_B1HW: the discriminator's logits, upsampled to base size.
        domain: `SOURCE` or `TARGET`.
        weight_B1HW: the adaptive weight; None: 1.

    Returns:
        A scalar.
    """
    # BCE-with-logits against a constant label: softplus(x) for 0 and softplus(−x) for 1.
    signed = domain_logits_B1HW if domain == SOURCE else -domain_logits_B1HW
    loss = F.softplus(signed)
    return loss.mean() if weight_B1HW is None else (loss * weight_B1HW).mean()


def weight_divergence(head1: Iterable[Tensor], head2: Iterable[Tensor]) -> Tensor:
    """L_w = 1 + cosine of all weights and biases of the two heads, flattened.

    Args:
        head1: parameters of one head.
        head2: those of the other, in the same order.

    Returns:
        A float32 scalar in [0, 2].
    """
    # float64: the heads are nearly orthogonal at first, so almost all of a million products cancel.
    w1 = paddle.concat([parameter.flatten() for parameter in head1]).astype("float64")
    w2 = paddle.concat([parameter.flatten() for parameter in head2]).astype("float64")
    # Not Tensor.norm, whose gradient is 100 times slower on the CPU.
    squares = paddle.dot(w1, w1) * paddle.dot(w2, w2)
    return (1.0 + paddle.dot(w1, w2) / squares.sqrt()).astype("float32")
