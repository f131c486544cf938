"""From decoded files to network inputs: pure functions; random draws are arguments.

They compute what the official code does (https://github.com/RoyalVane/CLAN); `docs/deviations.md` lists exceptions.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance

from clan.models.normalization import CAFFE, Normalization

_ENHANCEMENTS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def choose_scale(draw: float, scales: Sequence[tuple[float, float]]) -> float:
    """The ratio selected by a uniform draw in [0, 1) from pairs of ratio and probability.

    The official code scales by 0.8 below 0.3 and by 1.1 above 0.7: the same order, the same thresholds.
    """
    threshold = 0.0
    for ratio, probability in scales[:-1]:
        threshold += probability
        if draw < threshold:
            return ratio
    return scales[-1][0]


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Width and height of the result of `resize_image`: int(width·scale) × int(height·scale), at least one pixel."""
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def resize_image(image: Image.Image, size: tuple[int, int], scale: float = 1.0) -> Image.Image:
    """Bicubic resize to the `scaled` size, in one step from the stored size.

    Pillow's bicubic filter antialiases when shrinking, unlike OpenCV's. Rows come first, as in earlier Pillows: those
    of today begin with either, which rounds some values otherwise.
    """
    width, height = scaled(size, scale)
    rows = image.resize((width, image.height), Image.Resampling.BICUBIC) if width != image.width else image
    return rows.resize((width, height), Image.Resampling.BICUBIC)


def jitter_color(image: Image.Image, factors: Sequence[float]) -> Image.Image:
    """Multiplies brightness, contrast and saturation by one factor each, in that order."""
    for enhance, factor in zip(_ENHANCEMENTS, factors, strict=True):
        image = enhance(image).enhance(factor)
    return image


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest resize of uint8 [H, W] to `size` (width, height)."""
    return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))


def normalize(
    image: Image.Image, how: Normalization = CAFFE, *, mirrored: bool = False, out: np.ndarray | None = None
) -> np.ndarray:
    """RGB image → float32 [3, H, W], (value − mean) / std, in the network's channel order.

    Args:
        image: in RGB mode.
        how: mean, standard deviation and channel order.
        mirrored: flip left to right, like `mirror`.
        out: float32 [3, H, W] to write to, such as a slice of a batch; None: a new array.
    """
    rgb = np.asarray(image)
    if mirrored:
        rgb = rgb[:, ::-1]
    planes = np.empty((3, *rgb.shape[:2]), np.float32) if out is None else out
    for plane, channel in enumerate(how.order):
        np.subtract(rgb[:, :, channel], np.float32(how.mean[channel]), out=planes[plane])
        if how.std[channel] != 1:
            planes[plane] *= np.float32(1.0 / how.std[channel])
    return planes


def normalized_black(how: Normalization) -> np.ndarray:
    """The normalised value of black, float32 [3]."""
    return normalize(Image.new("RGB", (1, 1)), how)[:, 0, 0]


def mirror(array: np.ndarray) -> np.ndarray:
    """Flips the last axis; the result is contiguous."""
    return np.ascontiguousarray(array[..., ::-1])


def denormalize(planes: np.ndarray, how: Normalization = CAFFE) -> np.ndarray:
    """Inverse of `normalize`: float32 [3, H, W] → uint8 RGB [H, W, 3]."""
    rgb = planes[list(how.order)].transpose(1, 2, 0) * np.asarray(how.std, np.float32) + np.asarray(
        how.mean, np.float32
    )
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
