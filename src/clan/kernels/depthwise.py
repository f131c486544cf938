"""Depthwise 3×3 convolution on the CPU, on maps in Paddle's layout, [B, K, h, w].

Paddle's CPU kernel goes through one small matrix product per channel and image; where the convolution is dilated,
that makes it slower than all else in a MobileNet together. Here a padded plane is one long line, of which the output is
the sum of nine shifted and scaled copies: loops long enough for vector instructions whatever the image's width.
"""

from typing import Any

import numba
import numpy as np
import paddle
from paddle import Tensor
from paddle.autograd import PyLayer

from clan.core.compilation import compiled, compiled_part
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.structure import has_settings
from clan.models.mobilenet import Depthwise


def fits(layer: Depthwise, x: Tensor) -> bool:
    """Whether a layer is a 3×3 convolution of every channel, padded by its dilation, with one stride for both axes."""
    stride, dilation = layer._stride[0], layer._dilation[0]
    return (
        x.ndim == 4
        and x.shape[1] == len(layer.weight)
        and has_settings(
            layer, (None, 1, 3, 3), stride=stride, padding=dilation, dilation=dilation, groups=len(layer.weight)
        )
    )


def forward(layer: Depthwise, x: Tensor) -> Tensor:
    """Instead of `Depthwise.forward`: [B, K, h, w] → [B, K, ⌈h/stride⌉, ⌈w/stride⌉]."""
    stride, dilation = layer._stride[0], layer._dilation[0]
    if paddle.is_grad_enabled():
        return _Depthwise.apply(x, layer.weight, stride=stride, dilation=dilation)
    return as_tensor(_forward(as_array(x), as_array(layer.weight), stride, dilation))


class _Depthwise(PyLayer):
    """A depthwise convolution with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *, stride: int, dilation: int) -> Tensor:
        array, kernels = as_array(x), as_array(weight)
        ctx.kept, ctx.shape, ctx.wanted = [(array, kernels)], (stride, dilation), trained([x, weight])
        return as_tensor(_forward(array, kernels, stride, dilation))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Taken off the context, which lives as long as the loss does: Paddle lets go of it no sooner.
        x, weight = ctx.kept.pop()
        stride, dilation = ctx.shape
        to_x, per_plane = aligned(x.shape), np.zeros((x.shape[0] * x.shape[1], 9), np.float32)
        planes = _planes(x), weight.reshape(-1, 9), _planes(as_array(gradient))
        _convolve_backward(*planes, stride, dilation, _planes(to_x), per_plane)
        to_weight = per_plane.reshape(x.shape[0], *weight.shape).sum(axis=0)
        return as_gradients([to_x, to_weight], ctx.wanted)


def _forward(x: np.ndarray, weight: np.ndarray, stride: int, dilation: int) -> np.ndarray:
    batch, channels, height, width = x.shape
    result = aligned((batch, channels, -(-height // stride), -(-width // stride)))
    _convolve(_planes(x), weight.reshape(-1, 9), stride, dilation, _planes(result))
    return result


def _planes(maps: np.ndarray) -> np.ndarray:
    """[B, K, h, w] → [B·K, h, w], on the same memory."""
    return maps.reshape(-1, *maps.shape[2:])


@compiled
def _convolve(planes: np.ndarray, kernels: np.ndarray, stride: int, dilation: int, out: np.ndarray) -> None:
    """Out[y, x] = Σ kernel[r, c] · plane[stride·y + (r−1)·dilation, stride·x + (c−1)·dilation], in each plane."""
    height, width = planes.shape[1:]
    line = width + 2 * dilation
    for index in numba.prange(len(planes)):
        padded = np.zeros((height + 2 * dilation) * line + 2 * dilation, np.float32)
        _spread(planes[index], 1, dilation, line, padded)
        dense = np.empty(height * line, np.float32)
        _nine_taps(padded, kernels[index % len(kernels)], line, dilation, dense)
        for y in range(out.shape[1]):
            row = dense[stride * y * line :][: stride * out.shape[2] : stride]
            for x in range(out.shape[2]):
                out[index, y, x] = row[x]


@compiled
def _convolve_backward(
    planes: np.ndarray, kernels: np.ndarray, gradients: np.ndarray, stride: int, dilation: int, to_planes: np.ndarray,
    to_kernels: np.ndarray,
) -> None:  # fmt: skip
    """Gradients of `_convolve`: of its planes, and of the kernel for each plane."""
    height, width = planes.shape[1:]
    line = width + 2 * dilation
    for index in numba.prange(len(planes)):
        padded = np.zeros((height + 2 * dilation) * line + 2 * dilation, np.float32)
        gradient = np.zeros_like(padded)
        _spread(planes[index], 1, dilation, line, padded)
        _spread(gradients[index], stride, dilation, line, gradient)
        dense = np.empty(height * line, np.float32)
        _nine_taps(gradient, kernels[index % len(kernels)][::-1].copy(), line, dilation, dense)
        for y in range(height):
            row = dense[y * line :]
            for x in range(width):
                to_planes[index, y, x] = row[x]
        _nine_products(padded, gradient[dilation * (line + 1) :], line, dilation, to_kernels[index])


@compiled_part
def _spread(plane: np.ndarray, stride: int, dilation: int, line: int, padded: np.ndarray) -> None:
    """Writes a plane's entries `stride` apart into a padded plane that is zero elsewhere."""
    for y in range(plane.shape[0]):
        row = padded[(stride * y + dilation) * line + dilation :][: stride * plane.shape[1] : stride]
        for x in range(plane.shape[1]):
            row[x] = plane[y, x]


@compiled_part
def _nine_taps(padded: np.ndarray, kernel: np.ndarray, line: int, dilation: int, out: np.ndarray) -> None:
    """Correlates a padded plane with a kernel; entries beyond a row's width come out as nonsense, to be left alone."""
    k0, k1, k2, k3, k4, k5, k6, k7, k8 = kernel
    # Slices, all indexed alike: of an index that is a sum, the compiler cannot tell that it is not negative.
    b, c = dilation, 2 * dilation
    a0, a1, a2 = padded, padded[b:], padded[c:]
    a3, a4, a5 = a0[b * line :], a1[b * line :], a2[b * line :]
    a6, a7, a8 = a0[c * line :], a1[c * line :], a2[c * line :]
    for i in range(len(out)):
        top = k0 * a0[i] + k1 * a1[i] + k2 * a2[i]
        middle = k3 * a3[i] + k4 * a4[i] + k5 * a5[i]
        out[i] = top + middle + k6 * a6[i] + k7 * a7[i] + k8 * a8[i]


@compiled_part
def _nine_products(padded: np.ndarray, gradient: np.ndarray, line: int, dilation: int, out: np.ndarray) -> None:
    """Products of a padded plane, at each of the nine shifts, with the gradient of what was made of it."""
    for r in range(3):
        left = padded[r * dilation * line :]
        middle, right = left[dilation:], left[2 * dilation :]
        sum0 = sum1 = sum2 = np.float32(0)
        for i in range(len(padded) - 2 * dilation * (line + 1)):
            sum0 += gradient[i] * left[i]
            sum1 += gradient[i] * middle[i]
            sum2 += gradient[i] * right[i]
        out[3 * r : 3 * r + 3] = sum0, sum1, sum2
