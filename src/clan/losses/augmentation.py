"""Colour jitter and Gaussian blur of images on the device, as functions of what was drawn.

The formulas are those of kornia 0.5, which DACS, DAFormer and MIC use: brightness is added, contrast multiplied, and
each of the four steps ends in 0…1.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

TINY = 1e-8


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Adds factor − 1."""
    return (images + (factor - 1.0)).clip(0.0, 1.0)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies by the factor."""
    return (images * factor).clip(0.0, 1.0)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies saturation in HSV, up to 1; hue and value stay."""
    # With fixed hue and value the distance of each channel from the value is proportional to saturation.
    value = images.max(axis=1, keepdim=True)
    saturation = (value - images.min(axis=1, keepdim=True)) / (value + TINY)
    return value - (value - images) * paddle.minimum(factor, 1.0 / saturation.clip(min=TINY))


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Adds a share of a full turn to hue in HSV; saturation and value stay."""
    red, green, blue = images.unbind(axis=1)
    value, least = images.max(axis=1), images.min(axis=1)
    range_ = value - least
    divisor = paddle.where(range_ > 0, range_, paddle.ones_like(range_))
    # Hue in sixths of a turn; of several largest channels the first one counts.
    hue = paddle.where(
        red == value,
        (green - blue) / divisor,
        paddle.where(green == value, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    hue = hue.unsqueeze(1) + 6.0 * turn
    start = paddle.to_tensor([5.0, 3.0, 1.0]).reshape([1, 3, 1, 1])
    distance = paddle.remainder(hue + start, paddle.to_tensor(6.0))
    share = paddle.minimum(distance, 4.0 - distance).clip(0.0, 1.0)
    return value.unsqueeze(1) - range_.unsqueeze(1) * share


Formulas = Sequence[Callable[[Tensor, Tensor], Tensor]]
"""Functions of images and a factor [B, 1, 1, 1], for brightness, contrast, saturation and hue."""

ADJUSTMENTS: Formulas = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


def jitter_colors(
    images_B3HW: Tensor, factors_B4: Tensor, order: Sequence[int], formulas: Formulas = ADJUSTMENTS
) -> Tensor:
    """Changes brightness, contrast, saturation and hue.

    Args:
        images_B3HW: RGB or BGR in 0…1; in BGR hue turns the other way.
        factors_B4: for each image the factors of brightness, contrast and saturation, 1 for none, and the turn of hue
            as a share of a full turn, −0.5…0.5.
        order: in which to apply these, a permutation of 0…3.
        formulas: the four functions.

    Returns:
        float32 [B, 3, H, W] in 0…1.
    """
    for which in order:
        images_B3HW = formulas[which](images_B3HW, factors_B4[:, which].reshape([-1, 1, 1, 1]))
    return images_B3HW


def blur_kernel_size(side: int) -> int:
    """The odd number of a tenth of a side: the kernel's extent in DACS, DAFormer and MIC."""
    tenth = math.ceil(0.1 * side)
    return math.floor(tenth - 0.5 + tenth % 2)


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """Weights that sum to 1, float32 [at most `size`]; taps below float32's precision are left out."""
    radius = min(size // 2, math.ceil(6.0 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def blur(images_BCHW: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with reflected borders.

    Args:
        images_BCHW: float32.
        sigma: standard deviation in pixels, above 0.

    Returns:
        float32 [B, C, H, W].
    """
    batch, channels, height, width = images_BCHW.shape
    planes = images_BCHW.reshape([batch * channels, 1, height, width])
    for axis, side in ((2, height), (3, width)):
        kernel = gaussian_kernel(blur_kernel_size(side), sigma)
        shape, padding = [1, 1, 1, 1], [0, 0, 0, 0]
        shape[axis] = len(kernel)
        padding[2 * (3 - axis) : 2 * (3 - axis) + 2] = [len(kernel) // 2] * 2
        with paddle.amp.auto_cast(enable=False):  # a picture, in float32, whatever networks compute in
            planes = F.conv2d(F.pad(planes, padding, mode="reflect"), paddle.to_tensor(kernel).reshape(shape))
    return planes.reshape([batch, channels, height, width])
