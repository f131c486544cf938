"""Attention, linear layers, layer norm and stochastic depth of transformers."""

from importlib.util import find_spec

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

CHOOSES = find_spec("paddle.nn.functional.sdpa") is not None
"""Whether Paddle's fused function chooses an implementation by type and card; before 3.3 a GPU had one alone."""

FLASH = (8, 0)
"""The compute capability (Ampere) that it took, in half precision."""


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax(q·kᵀ/√d)·v for every head (Vaswani et al., NIPS 2017), in one fused call where Paddle has it.

    Args:
        query: float [B, N, heads, d].
        key: float [B, M, heads, d].
        value: float [B, M, heads, d].

    Returns:
        Float [B, N, heads, d].
    """
    if has_fused(query):
        return F.scaled_dot_product_attention(query, key, value)
    query, key, value = (x.transpose([0, 2, 1, 3]) for x in (query, key, value))
    scores = paddle.matmul(query * query.shape[-1] ** -0.5, key, transpose_y=True)
    return paddle.matmul(F.softmax(scores, axis=-1), value).transpose([0, 2, 1, 3])


def has_fused(query: Tensor) -> bool:
    """Whether Paddle's fused function computes tensors of this type and place; of a program's there is no place."""
    if CHOOSES or (query.place is not None and query.place.is_cpu_place()):
        return True
    return query.dtype != paddle.float32 and paddle.device.cuda.get_device_capability() >= FLASH


class Linear(nn.Layer):
    """x·Wᵀ + b with W of [out, in] as in PyTorch, where Paddle's own layer has [in, out].

    So weights have one shape in every file, whoever wrote it. Initially W is N(0, 0.02) and b is 0, as usual in vision
    transformers.

    Args:
        in_features: length of the input's last axis.
        out_features: length of the output's.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        normal, zero = nn.initializer.TruncatedNormal(0.0, 0.02), nn.initializer.Constant(0.0)
        self.weight = self.create_parameter([out_features, in_features], default_initializer=normal)
        self.bias = self.create_parameter([out_features], is_bias=True, default_initializer=zero)

    def forward(self, x: Tensor) -> Tensor:
        """[…, in_features] → […, out_features]."""
        out = paddle.matmul(x, self.weight, transpose_y=True)
        # In less than float32 a sum with the bias would be float32 again.
        return out + (self.bias if self.bias.dtype == out.dtype else self.bias.astype(out.dtype))


class TokenNorm(nn.LayerNorm):
    """Normalises every token over its channels, with a factor and a summand per channel.

    Args:
        width: number of channels.
        epsilon: added to the variance.
    """

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__(width, epsilon=epsilon)


class StochasticDepth(nn.Layer):
    """Leaves a residual branch out for some images of a batch while training (Huang et al., ECCV 2016).

    What remains is scaled up, so that its expectation stays. Draws from Paddle's generator, as dropout does: the
    learner seeds it for every pass from the step's generator.

    Args:
        rate: probability of leaving out, 0…1, 1 excluded.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """[B, …] → [B, …]."""
        if not (self.training and self.rate):
            return branch
        kept = paddle.rand([branch.shape[0], *[1] * (branch.ndim - 1)], dtype="float32") >= self.rate
        return branch * (kept.astype(branch.dtype) / (1.0 - self.rate))
