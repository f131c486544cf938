"""What is done to many tensors, in one call of Paddle's for all of them where that is faster.

A GPU waits for Python when every tensor of a network is updated by calls of its own: a step of ResNet-101 was 1,300.
Paddle's kernels for lists of tensors take about a hundred of them in a launch. On the CPU their loops go through all
tensors at once, a number of each in turn, and are slower than tensor after tensor, each with Paddle's fastest loops.
"""

from collections.abc import Sequence
from typing import Any, Literal

import paddle
from paddle import Tensor, _C_ops

operators: Any = _C_ops  # whose annotations do not say what may be None


def in_one_call() -> bool:
    """Whether to do so: on GPUs."""
    return paddle.device.get_device() != "cpu"


def _dtype(tensor: Tensor) -> Literal["float32", "float64"]:
    return "float64" if tensor.dtype == paddle.float64 else "float32"


@paddle.no_grad()
def blend(left: Sequence[Tensor], right: Sequence[Tensor], keep: float, share: float) -> None:
    """Sets y ← keep·y + share·x, in place.

    Args:
        left: every y, of any shapes.
        right: every x, of the same shapes.
        keep: factor of y.
        share: factor of x.
    """
    if in_one_call():
        # The momentum rule v ← μ·v + share·g; p ← p − rate·v, with p = g = x and a rate of 0, which leaves x alone.
        _momentum(right, right, left, rate=0.0, momentum=keep, share=share)
        return
    for y, x in zip(left, right, strict=True):
        mix(y, x, keep, share)


def mix(y: Tensor, x: Tensor, keep: float, share: float) -> None:
    """Sets y ← keep·y + share·x, in place."""
    y.scale_(keep).add_(x * share)


def follow(p: Tensor, v: Tensor, g: Tensor, change: Sequence[float], kept: Sequence[float]) -> None:
    """Moves p and v by linear combinations of themselves and g, in place.

    Args:
        p: parameter, of any shape.
        v: velocity, of the same shape.
        g: gradient, of the same shape.
        change: factors of p, v and g in what is added to p.
        kept: factors of v, p and g in the new v.
    """
    moved = p * change[0] + v * change[1] + g * change[2]
    v.scale_(kept[0]).add_(p * kept[1]).add_(g * kept[2])
    p.add_(moved)


@paddle.no_grad()
def move(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], velocities: Sequence[Tensor], rate: float,
    momentum: float,
) -> None:  # fmt: skip
    """Sets v ← momentum·v + g, then p ← p − rate·v, in place and always in one call.

    Args:
        parameters: every p, of any shapes.
        gradients: every g, of the same shapes.
        velocities: every v.
        rate: how far.
        momentum: what is kept of v.
    """
    _momentum(parameters, gradients, velocities, rate=rate, momentum=momentum, share=1.0)


def _momentum(
    p: Sequence[Tensor], g: Sequence[Tensor], v: Sequence[Tensor], *, rate: float, momentum: float, share: float
) -> None:
    # One rate for all: with one for each Paddle launches a kernel for each tensor, and leaves out `share`.
    rates = [paddle.full([1], rate, _dtype(p[0]))]
    operators.merged_momentum_(list(p), list(g), list(v), rates, None, momentum, False, [], [], False, share)


@paddle.no_grad()
def adam(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], moments: Sequence[tuple[Tensor, Tensor]], *, rate: float,
    betas: tuple[float, float], powers: tuple[float, float], decoupled_decay: float | None,
) -> None:  # fmt: skip
    """A step of Adam, or of AdamW, in place and in one call.

    Args:
        parameters: of any shapes.
        gradients: of the same shapes.
        moments: means of each gradient and of its square.
        rate: how far.
        betas: what is kept of the two means.
        powers: betas to the power of the number of steps, this one counted.
        decoupled_decay: AdamW's weight decay; None: Adam.
    """
    dtype = _dtype(parameters[0])
    count = len(parameters)
    first, second = map(list, zip(*moments, strict=True))
    beta1_power, beta2_power = (paddle.full([1], power, dtype) for power in powers)
    operators.fused_adam_(
        list(parameters), list(gradients), paddle.full([1], rate, dtype), first, second, None, [beta1_power] * count,
        [beta2_power] * count, None, None, *betas, EPSILON, CHUNK, decoupled_decay or 0.0, decoupled_decay is not None,
        False, True, False,
    )  # fmt: skip


EPSILON = 1e-8
CHUNK = 2**16
"""Numbers that a block of a GPU's threads takes, as Paddle's own optimizers choose it."""


@paddle.no_grad()
def unscale(tensors: Sequence[Tensor], factor: float) -> Tensor:
    """Divides by a factor in place, always in one call.

    Returns:
        bool [1], on the device: whether something is not finite; then not all of the tensors are divided.
    """
    _, found = operators.check_finite_and_unscale_(list(tensors), paddle.full([1], factor, _dtype(tensors[0])))
    return found
