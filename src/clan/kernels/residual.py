"""A bottleneck on the CPU, forward and backward, as one step of autograd.

Written out by hand, because that is where time and memory go: batch norm and ReLU are applied while the next
convolution reads its input, gradients overwrite what they are computed from, and every map is let go as soon as it
has served.

In bf16, a block reads and keeps bf16 (`halves`), including the gradients that overwrite what is kept; products, sums,
the block's result and its gradient are float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from clan.core.precision import bf16_on_cpu
from clan.kernels import norm, winograd
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.halves import BF16, hand_on, handed_on, rounded, widened
from clan.kernels.norm import Norm
from clan.kernels.product import multiply
from clan.kernels.scratch import scratch
from clan.kernels.structure import is_convolution, is_norm, is_ordinary
from clan.models.resnet import Bottleneck

Gradients = dict[str, np.ndarray]
"""Gradients by parameter name."""


def replaced(self: Bottleneck, x: Tensor) -> Tensor:
    """`Bottleneck.forward` as this module computes it."""
    out = F.relu(self.bn1(self.conv1(x)))
    out = F.relu(self.bn2(self.conv2(out)))
    out = self.bn3(self.conv3(out))
    shortcut = x if self.downsample is None else self.downsample(x)
    return F.relu(out + shortcut)


def fits(block: Bottleneck, x: Tensor) -> bool:
    """Whether a block and its layers are built as this module expects."""
    if x.ndim != 4 or not is_convolution(block.conv1, (None, wide := x.shape[1], 1, 1), stride=block.stride):
        return False
    narrow, dilation = len(block.conv1.weight), block.dilation
    return (
        is_convolution(block.conv2, (narrow, narrow, 3, 3), padding=dilation, dilation=dilation)
        and is_convolution(block.conv3, (None, narrow, 1, 1))
        and is_norm(block.bn1, narrow)
        and is_norm(block.bn2, narrow)
        and is_norm(block.bn3, output := len(block.conv3.weight))
        and _shortcut_fits(block.downsample, block.stride, wide, output)
    )


def _shortcut_fits(shortcut: Any, stride: int, inputs: int, outputs: int) -> bool:
    if shortcut is None:
        return stride == 1 and inputs == outputs
    return (
        is_ordinary(shortcut, nn.Sequential)
        and len(shortcut) == 2
        and is_convolution(shortcut[0], (outputs, inputs, 1, 1), stride=stride, bias=None)
        and is_norm(shortcut[1], outputs)
    )


def forward(block: Bottleneck, x: Tensor) -> Tensor:
    """Instead of `Bottleneck.forward`: [B, C, h, w] → [B, C', h', w']."""
    # Transposing makes a view; what one block returns, the next one reads without a copy.
    pixels = x.transpose([0, 2, 3, 1])
    if paddle.is_grad_enabled():
        out = _Bottleneck.apply(pixels, *_parameters(block).values(), block=block)
    else:
        out = as_tensor(_forward(block, as_array(pixels), keep=False)[0])
    return out.transpose([0, 3, 1, 2])


class _Bottleneck(PyLayer):
    """A bottleneck with its gradients, on channels-last maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor, block: Bottleneck) -> Tensor:
        out, kept = _forward(block, as_array(x), keep=True)
        ctx.block, ctx.kept, ctx.wanted = block, [kept], trained([x, *parameters])
        return as_tensor(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        to_x, found = _backward(ctx.block, ctx.kept.pop(), as_array(gradient))
        return as_gradients([to_x, *(found[name] for name in _parameters(ctx.block))], ctx.wanted)


@dataclass
class _Kept:
    """What a block's backward needs.

    Args:
        size: height and width of the block's input.
        x: the pixels of the input that its 1×1 convolutions read, [B, h', w', C].
        maps: the results of its three convolutions, each with the norm after it.
        projected: likewise of the shortcut's convolution, if there is one.
        out: what the block gave.
    """

    size: tuple[int, int]
    x: np.ndarray
    maps: list[tuple[np.ndarray, Norm]]
    projected: tuple[np.ndarray, Norm] | None
    out: np.ndarray


def _forward(block: Bottleneck, x: np.ndarray, *, keep: bool) -> tuple[np.ndarray, _Kept]:
    """[B, h, w, C] → [B, h/stride, w/stride, C'], and what backward needs, which is valid only if it is to be kept."""
    weights = _weights(block)
    size = x.shape[1], x.shape[2]
    # Stride sits in 1×1 convolutions, which simply do not read the other pixels.
    shortcut = x = np.ascontiguousarray(x[:, :: block.stride, :: block.stride])
    if bf16_on_cpu.get():
        x = handed_on(x) if keep else rounded(x, "input")
    kind = x.dtype.type
    narrow = (*x.shape[:3], len(weights["conv1.weight"]))
    wide = (*x.shape[:3], len(weights["conv3.weight"]))
    # Memory for a convolution's result; not for long, if nothing of it is kept, or only what it is in bf16.
    new = (lambda name, shape: np.empty(shape, np.float32)) if keep and kind == np.float32 else scratch

    first = new("first", narrow)
    multiply(pixels_of(x), _matrix(weights["conv1.weight"]).T, pixels_of(first))
    first, norm1 = normed_by(block.bn1, first, kind if keep else None)

    second = new("second", narrow)
    winograd.convolve(first, weights["conv2.weight"], block.dilation, second, norm1.affine(), kind)
    second, norm2 = normed_by(block.bn2, second, kind if keep else None)

    normed = scratch("normed", pixels_of(second).shape, kind)
    norm.affine(pixels_of(second), *norm2.affine(), None, True, normed)
    out = aligned(wide)
    third = out if not keep else new("third", wide)
    multiply(normed, _matrix(weights["conv3.weight"]).T, pixels_of(third))
    third, norm3 = normed_by(block.bn3, third, kind if keep else None)

    projected = None
    if block.downsample is not None:
        projected = _project(block, weights, x, keep=keep)
        maps, norm0 = projected
        shortcut = maps if not keep else scratch("shortcut", wide)
        norm.affine(pixels_of(maps), *norm0.affine(), None, False, pixels_of(shortcut))
    out16 = np.empty(wide, BF16) if keep and kind == BF16 else None
    copy = None if out16 is None else pixels_of(out16)
    norm.affine(pixels_of(third), *norm3.affine(), pixels_of(shortcut), True, pixels_of(out), copy)
    if out16 is not None:
        hand_on(out, out16)
    maps = [(first, norm1), (second, norm2), (third, norm3)]
    return out, _Kept(size, x, maps, projected, out if out16 is None else out16)


def _project(
    block: Bottleneck, weights: Mapping[str, np.ndarray], x: np.ndarray, *, keep: bool
) -> tuple[np.ndarray, Norm]:
    """The shortcut's convolution, and the norm after it; the former in the type of x if it is to be kept."""
    assert block.downsample is not None
    weight = _matrix(weights["downsample.0.weight"])
    shape = (*x.shape[:3], len(weight))
    projected = np.empty(shape, np.float32) if keep and x.dtype == np.float32 else scratch("projected", shape)
    multiply(pixels_of(x), weight.T, pixels_of(projected))
    if "downsample.0.bias" in weights:
        projected += weights["downsample.0.bias"]
    layer = block.downsample[1]
    assert isinstance(layer, nn.BatchNorm2D)
    return normed_by(layer, projected, x.dtype.type if keep else None)


def _backward(block: Bottleneck, kept: _Kept, gradient: np.ndarray) -> tuple[np.ndarray, Gradients]:
    """The gradient of the block's input, from that of its output [B, h', w', C'], and those of its parameters.

    Overwrites the kept maps of convolutions, not the block's input or output.
    """
    weights = _weights(block)
    (first, norm1), (second, norm2), (third, norm3) = kept.maps
    x, found = kept.x, {name: aligned(weight.shape) for name, weight in weights.items()}

    passed = aligned(gradient.shape)
    norm.mask(pixels_of(gradient), pixels_of(kept.out), pixels_of(passed))
    found["bn3.weight"], found["bn3.bias"] = norm.backward(pixels_of(passed), pixels_of(third), norm3, relu=False)

    normed = scratch("normed", pixels_of(second).shape, second.dtype.type)
    norm.affine(pixels_of(second), *norm2.affine(), None, True, normed)
    multiply(pixels_of(third).T, normed, _matrix(found["conv3.weight"]))
    inner = scratch("inner", second.shape)
    multiply(pixels_of(third), _matrix(weights["conv3.weight"]), pixels_of(inner))
    found["bn2.weight"], found["bn2.bias"] = norm.backward(pixels_of(inner), pixels_of(second), norm2, relu=True)

    winograd.weight_gradient(first, second, block.dilation, found["conv2.weight"], norm1.affine())
    winograd.input_gradient(second, weights["conv2.weight"], block.dilation, inner)
    found["bn1.weight"], found["bn1.bias"] = norm.backward(pixels_of(inner), pixels_of(first), norm1, relu=True)

    multiply(pixels_of(first).T, pixels_of(x), _matrix(found["conv1.weight"]))
    to_x = passed
    if kept.projected is not None:
        to_x = _project_backward(kept.projected, passed, x, weights, found)
    multiply(pixels_of(first), _matrix(weights["conv1.weight"]), pixels_of(to_x), accumulate=True)
    if block.stride > 1:
        read, to_x = to_x, aligned((len(x), *kept.size, x.shape[3]))
        to_x[...] = 0.0
        to_x[:, :: block.stride, :: block.stride] = read
    return to_x, found


def _project_backward(
    projected: tuple[np.ndarray, Norm],
    gradient: np.ndarray,
    x: np.ndarray,
    weights: Mapping[str, np.ndarray],
    found: Gradients,
) -> np.ndarray:
    """The gradient that the shortcut gives the block's input; overwrites the projection."""
    maps, norm0 = projected
    norm_gradients = norm.backward(pixels_of(gradient), pixels_of(maps), norm0, relu=False)
    found["downsample.1.weight"], found["downsample.1.bias"] = norm_gradients
    if "downsample.0.bias" in found:
        found["downsample.0.bias"] = widened(pixels_of(maps)).sum(axis=0)
    multiply(pixels_of(maps).T, pixels_of(x), _matrix(found["downsample.0.weight"]))
    to_x = aligned(x.shape)
    multiply(pixels_of(maps), _matrix(weights["downsample.0.weight"]), pixels_of(to_x))
    return to_x


def normed_by(layer: nn.BatchNorm2D, maps: np.ndarray, kind: type[np.generic] | None) -> tuple[np.ndarray, Norm]:
    """Maps [B, h, w, C], and what a layer applies to them; in training, its running statistics move.

    The maps are those given or, where `kind` is bf16, rounded to it.
    """
    kept = np.empty(maps.shape, BF16) if kind == BF16 else None
    mean, variance = as_array(layer._mean), as_array(layer._variance)
    if layer.training:
        batch = norm.statistics(pixels_of(maps), None if kept is None else pixels_of(kept))
        for running, own in zip((mean, variance), batch, strict=True):
            running[...] = layer._momentum * running + (1.0 - layer._momentum) * own
        mean, variance = batch
    elif kept is not None:
        kept = rounded(maps)
    assert layer.weight is not None
    assert layer.bias is not None
    inverse = 1.0 / np.sqrt(variance.astype(np.float64) + layer._epsilon)
    return maps if kept is None else kept, Norm(
        mean, inverse, as_array(layer.weight), as_array(layer.bias), layer.training
    )


def _parameters(block: Bottleneck) -> dict[str, Tensor]:
    """The block's parameters by name; Paddle counts running statistics, "_mean" and "_variance", among them."""
    return {name: tensor for name, tensor in block.named_parameters() if "._" not in name}


def _weights(block: Bottleneck) -> dict[str, np.ndarray]:
    """The parameters of the block's convolutions by name."""
    named = _parameters(block).items()
    return {name: as_array(tensor) for name, tensor in named if "bn" not in name and "downsample.1" not in name}


def pixels_of(maps: np.ndarray) -> np.ndarray:
    """[B, h, w, channels] → [pixels, channels], on the same memory."""
    return maps.reshape(-1, maps.shape[-1])


def _matrix(weight: np.ndarray) -> np.ndarray:
    """The weight [O, C, 1, 1] of a 1×1 convolution → [O, C], on the same memory."""
    return weight.reshape(weight.shape[:2])
