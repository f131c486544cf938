"""Weight divergence of the two heads (Luo et al., CVPR 2019; docs/method.md)."""

from collections.abc import Iterable

import paddle
from paddle import Tensor


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
