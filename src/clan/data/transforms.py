"""From decoded files to network inputs: pure functions, with every random draw passed in (SPEC section 5)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
"""Channel means of the ImageNet training set that DeepLab's weights were trained with, in BGR, 0…255."""

Normalization = Literal["caffe-bgr", "imagenet-rgb"]
"""What a network's weights were trained on."""


class _Scheme(NamedTuple):
    """Channel order as indices into RGB, and mean and deviation of those channels, for 0…255."""

    order: tuple[int, int, int]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


_SCHEMES: dict[Normalization, _Scheme] = {
    "caffe-bgr": _Scheme((2, 1, 0), MEAN_BGR, (1.0, 1.0, 1.0)),
    # Mean and deviation of ImageNet's training set that PyTorch's classifiers share, there for 0…1.
    "imagenet-rgb": _Scheme((0, 1, 2), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}

_ENHANCEMENTS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def choose_scale(draw: float, scales: Sequence[tuple[float, float]]) -> float:
    """The ratio that a uniform draw in [0, 1) selects from pairs of ratio and probability.

    The official code scales by 0.8 below 0.3 and by 1.1 above 0.7: the same order, the same thresholds.
    """
    threshold = 0.0
    for ratio, probability in scales[:-1]:
        threshold += probability
        if draw < threshold:
            return ratio
    return scales[-1][0]


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Width and height that `resize_image` gives."""
    return int(size[0] * scale), int(size[1] * scale)


def resize_image(image: Image.Image, size: tuple[int, int], scale: float = 1.0) -> Image.Image:
    """Bicubic resize to int(width·scale) × int(height·scale), in one step from the stored size.

    Pillow antialiases when it shrinks, OpenCV does not: the pixels differ.
    """
    return image.resize(scaled(size, scale), Image.Resampling.BICUBIC)


def jitter_color(image: Image.Image, factors: Sequence[float]) -> Image.Image:
    """The image with brightness, contrast and saturation times a factor each, in that order."""
    for enhance, factor in zip(_ENHANCEMENTS, factors, strict=True):
        image = enhance(image).enhance(factor)
    return image


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest resize of uint8 [H, W] to `size` (width, height)."""
    return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))


def normalize(
    image: Image.Image,
    normalization: Normalization = "caffe-bgr",
    *,
    mirrored: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """RGB image → float32 [3, H, W]: BGR minus `MEAN_BGR`, or RGB by ImageNet's mean and deviation.

    Args:
        image: in RGB mode.
        normalization: which of the two.
        mirrored: flip it left to right, as `mirror` does.
        out: where to write, such as an image's place in a batch; without it, a new array.
    """
    rgb = np.asarray(image)
    if mirrored:
        rgb = rgb[:, ::-1]
    planes = np.empty((3, *rgb.shape[:2]), np.float32) if out is None else out
    for index, (channel, mean, deviation) in enumerate(zip(*_SCHEMES[normalization], strict=True)):
        np.subtract(rgb[:, :, channel], np.float32(mean), out=planes[index])
        if deviation != 1.0:
            planes[index] *= np.float32(1.0 / deviation)
    return planes


def normalized_black(normalization: Normalization) -> np.ndarray:
    """What `normalize` makes of black, [3]."""
    return normalize(Image.new("RGB", (1, 1)), normalization)[:, 0, 0]


def mirror(array: np.ndarray) -> np.ndarray:
    """Flips the last axis, contiguous; twice is the identity."""
    return np.ascontiguousarray(array[..., ::-1])


def denormalize(planes: np.ndarray, normalization: Normalization = "caffe-bgr") -> np.ndarray:
    """Inverse of `normalize`: float32 [3, H, W] → uint8 RGB [H, W, 3]."""
    scheme = _SCHEMES[normalization]
    rgb = np.empty((*planes.shape[1:], 3), np.uint8)
    for plane, channel, mean, deviation in zip(planes, *scheme, strict=True):
        rgb[:, :, channel] = np.clip(np.rint(plane * np.float32(deviation) + np.float32(mean)), 0, 255)
    return rgb
