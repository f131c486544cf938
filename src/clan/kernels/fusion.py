"""A 3×3 convolution with batch norm and ReLU on the CPU, as one step of autograd: DAFormer's bottleneck.

It has most of the products of a network with that head; Winograd's algorithm leaves 2.25 times fewer.
"""

from typing import Any

import numpy as np
import paddle
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from clan.kernels import norm, winograd
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.halves import operands
from clan.kernels.norm import Norm
from clan.kernels.residual import normed_by, pixels_of
from clan.kernels.structure import is_convolution, is_norm
from clan.models.daformer_head import Unit


def replaced(self: Unit, x: Tensor) -> Tensor:
    """`Unit.forward` as this module computes it."""
    return F.relu(self.bn(self.conv(x)))


def fits(unit: Unit, x: Tensor) -> bool:
    """Whether the convolution is a 3×3 one padded by its dilation, and the norm a plain one."""
    if x.ndim != 4:
        return False
    dilation = unit.conv._dilation[0]
    shape = (None, x.shape[1], 3, 3)
    return is_convolution(unit.conv, shape, padding=dilation, dilation=dilation) and is_norm(
        unit.bn, len(unit.conv.weight)
    )


def forward(unit: Unit, x: Tensor) -> Tensor:
    """Instead of `Unit.forward`: [B, C, h, w] → [B, O, h, w]."""
    maps = x.transpose([0, 2, 3, 1])
    if paddle.is_grad_enabled():
        out = _FusedUnit.apply(maps, unit.conv.weight, unit.bn.weight, unit.bn.bias, unit=unit)
    else:
        out = as_tensor(_forward(unit, as_array(maps), operands())[0])
    return out.transpose([0, 3, 1, 2])


class _FusedUnit(PyLayer):
    """Convolution, norm and ReLU with their gradients, on channels-last maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor, unit: Unit) -> Tensor:
        array = as_array(x)
        kind = operands()
        out, convolved, applied = _forward(unit, array, kind)
        ctx.unit, ctx.kept, ctx.wanted = unit, [(array, convolved, applied, kind)], trained([x, *parameters])
        return as_tensor(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        x, convolved, applied, kind = ctx.kept.pop()
        weight, dilation = as_array(ctx.unit.conv.weight), ctx.unit.conv._dilation[0]
        of_norm = norm.backward(pixels_of(as_array(gradient)), pixels_of(convolved), applied, relu=True)
        to_weight, to_x = aligned(weight.shape), aligned(x.shape)
        winograd.weight_gradient(x, convolved, dilation, to_weight, kind=kind)
        winograd.input_gradient(convolved, weight, dilation, to_x, kind)
        return as_gradients([to_x, to_weight, *of_norm], ctx.wanted)


def _forward(unit: Unit, x: np.ndarray, kind: type[np.generic]) -> tuple[np.ndarray, np.ndarray, Norm]:
    """[B, h, w, C] → [B, h, w, O], and for backward the convolution's result and the norm after it.

    Args:
        unit: the layers.
        x: the maps.
        kind: the type to multiply in, float32 or bf16.
    """
    weight = as_array(unit.conv.weight)
    convolved = np.empty((*x.shape[:3], len(weight)), np.float32)
    winograd.convolve(x, weight, unit.conv._dilation[0], convolved, kind=kind)
    convolved, applied = normed_by(unit.bn, convolved, None)
    out = aligned(convolved.shape)
    norm.affine(pixels_of(convolved), *applied.affine(), None, True, pixels_of(out))
    return out, convolved, applied
