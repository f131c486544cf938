"""Keeping the two heads different views of the same features (SPEC section 3)."""

from collections.abc import Iterable

import paddle
from paddle import Tensor


def weight_divergence(head1: Iterable[Tensor], head2: Iterable[Tensor]) -> Tensor:
    """L_w = 1 + cosine of all weights and biases of the two heads, flattened; in [0, 2].

    Args:
        head1: parameters of one head.
        head2: those of the other, in the same order.
    """
    # Two heads are nearly orthogonal at first: of a million products almost all cancel, which needs float64.
    w1 = paddle.concat([parameter.flatten() for parameter in head1]).astype("float64")
    w2 = paddle.concat([parameter.flatten() for parameter in head2]).astype("float64")
    # Not Tensor.norm, whose gradient is a hundred times slower than this one's on the CPU.
    squares = paddle.dot(w1, w1) * paddle.dot(w2, w2)
    return (1.0 + paddle.dot(w1, w2) / squares.sqrt()).astype("float32")
