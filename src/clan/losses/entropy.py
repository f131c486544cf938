"""Entropy of predictions (Vu et al., CVPR 2019, section 3)."""

import math

from paddle import Tensor

TINY = 1e-30
"""Added to probabilities before the logarithm."""


def self_information(prob_BCHW: Tensor) -> Tensor:
    """I = −p log p / log C, in [0, 1/(e log C)]: [B, C, H, W]."""
    return prob_BCHW * (prob_BCHW + TINY).log() * (-1.0 / math.log(prob_BCHW.shape[1]))


def mean_entropy(prob_BCHW: Tensor) -> Tensor:
    """Mean over pixels of the sum of `self_information` over classes, in [0, 1]."""
    return self_information(prob_BCHW).sum(axis=1).mean()
