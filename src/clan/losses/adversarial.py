"""Category-level adversarial losses: where the heads disagree, the discriminator counts more (SPEC section 3)."""

from paddle import Tensor
from paddle.nn import functional as F

SOURCE, TARGET = 0.0, 1.0
"""The discriminator's labels of the two domains."""


def discrepancy_map(prob1_BCHW: Tensor, prob2_BCHW: Tensor) -> Tensor:
    """M = 1 − cosine of the two heads' class probabilities at each pixel, in [0, 1]: [B, 1, H, W]."""
    product = (prob1_BCHW * prob2_BCHW).sum(axis=1, keepdim=True)
    # Not `** 2`, which Paddle computes as a general power, twenty times slower on the CPU.
    squares = prob1_BCHW.square().sum(axis=1, keepdim=True) * prob2_BCHW.square().sum(axis=1, keepdim=True)
    return 1.0 - product / squares.sqrt()


def adaptive_weight(discrepancy_B1HW: Tensor, *, epsilon: float, lambda_local: float) -> Tensor:
    """A = ε + λ_local · M."""
    return epsilon + lambda_local * discrepancy_B1HW


def adversarial_loss(domain_logits_B1HW: Tensor, domain: float, weight_B1HW: Tensor | None = None) -> Tensor:
    """Mean over pixels of a · BCE-with-logits(D, domain).

    Args:
        domain_logits_B1HW: the discriminator's logits, upsampled to base size.
        domain: `SOURCE` or `TARGET`.
        weight_B1HW: the adaptive weight a; None: 1 everywhere.
    """
    # BCE-with-logits against a constant label: softplus(x) for 0 and softplus(−x) for 1.
    signed = domain_logits_B1HW if domain == SOURCE else -domain_logits_B1HW
    loss = F.softplus(signed)
    return loss.mean() if weight_B1HW is None else (loss * weight_B1HW).mean()
