"""Depthwise 3×3 convolution, with a loop of its own for the CPU.

Paddle's CPU kernel goes through one small matrix product per channel and image; where the convolution is dilated,
that makes it slower than all else in a MobileNet together. Here a padded plane is one long line, of which the output is
the sum of nine shifted and scaled copies: loops long enough for vector instructions whatever the image's width.
"""

from typing import Any

import numba
import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from clan.compiled import compiled, compiled_part


class Depthwise(nn.Conv2D):
    """A 3×3 convolution of every channel with its own kernel, no bias, zeros beyond the border.

    Args:
        channels: of the input and of the output.
        stride: 1 or 2.
        dilation: of the kernel, and the padding.
    """

    def __init__(self, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, groups=channels, bias_attr=False
        )
        self.stride, self.dilation = stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, h, w] → [B, K, ⌈h/stride⌉, ⌈w/stride⌉]."""
        if x.place.is_cpu_place() and x.dtype == paddle.float32:
            return _Depthwise.apply(x, self.weight, stride=self.stride, dilation=self.dilation)
        return super().forward(x)


class _Depthwise(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = stride, dilation
        batch, channels, height, width = x.shape
        # Written through a view: an array handed over to Paddle would be copied.
        result = paddle.empty([batch, channels, -(-height // stride), -(-width // stride)])
        _convolve(_planes(x), _kernels(weight), stride, dilation, _planes(result))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensor()
        stride, dilation = ctx.shape
        to_x = paddle.empty(x.shape)
        per_plane = np.zeros((x.shape[0] * x.shape[1], 9), np.float32)
        planes = _planes(x), _kernels(weight), _planes(gradient)
        _convolve_backward(*planes, stride, dilation, _planes(to_x), per_plane)
        to_weight = per_plane.reshape(x.shape[0], *weight.shape).sum(axis=0)
        return None if x.stop_gradient else to_x, None if weight.stop_gradient else paddle.to_tensor(to_weight)


def _planes(tensor: Tensor) -> np.ndarray:
    """A view of [B, K, h, w] as [B·K, h, w]."""
    array = np.from_dlpack(tensor.detach().contiguous())  # pyright: ignore[reportArgumentType]
    return array.reshape(-1, *array.shape[2:])


def _kernels(weight: Tensor) -> np.ndarray:
    """A view of [K, 1, 3, 3] as [K, 9]."""
    return _planes(weight).reshape(-1, 9)


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
