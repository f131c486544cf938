"""A 3×3 convolution with many channels on the CPU, before batch norm and ReLU: by Winograd, in memory of its size.

Paddle's lays out the nine taps of all channels first, nine times the maps' memory.
"""

from typing import Any

import numpy as np
import paddle
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from clan.kernels import winograd
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.structure import is_convolution
from clan.models.daformer_head import Unit


def replaced(self: Unit, x: Tensor) -> Tensor:
    """`Unit.forward` as this module computes it."""
    return F.relu(self.bn(self.conv(x)))


def fits(unit: Unit, x: Tensor) -> bool:
    """Whether the unit's convolution is 3×3 of stride 1, not grouped, padded by its dilation."""
    dilation = unit.conv._dilation[0]
    shape = (None, x.shape[1], 3, 3)
    return x.ndim == 4 and is_convolution(unit.conv, shape, padding=dilation, dilation=dilation)


def forward(unit: Unit, x: Tensor) -> Tensor:
    """Instead of `Unit.forward`: [B, C, h, w] → [B, O, h, w]."""
    return F.relu(unit.bn(convolve(x, unit.conv.weight, unit.conv._dilation[0])))


def convolve(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """[B, C, h, w] and [O, C, 3, 3] → [B, O, h, w]."""
    pixels = x.transpose([0, 2, 3, 1])
    if paddle.is_grad_enabled():
        out = _Convolution.apply(pixels, weight, dilation=dilation)
    else:
        out = as_tensor(_forward(as_array(pixels), as_array(weight), dilation))
    return out.transpose([0, 3, 1, 2])


class _Convolution(PyLayer):
    """The convolution with its gradients, on channels-last maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *, dilation: int) -> Tensor:
        arrays = as_array(x), as_array(weight)
        ctx.kept, ctx.dilation, ctx.wanted = [arrays], dilation, trained([x, weight])
        return as_tensor(_forward(*arrays, dilation))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        x, weight = ctx.kept.pop()
        array, to_weight = as_array(gradient), aligned(weight.shape)
        winograd.weight_gradient(x, array, ctx.dilation, to_weight)
        shape = x.shape
        del x
        to_x = aligned(shape)
        if ctx.wanted[0]:
            winograd.input_gradient(array, weight, ctx.dilation, to_x)
        return as_gradients([to_x, to_weight], ctx.wanted)


def _forward(x: np.ndarray, weight: np.ndarray, dilation: int) -> np.ndarray:
    result = aligned((*x.shape[:3], len(weight)))
    winograd.convolve(x, weight, dilation, result)
    return result
