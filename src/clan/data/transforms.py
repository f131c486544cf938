"""From decoded files to network inputs: pure functions, with every random draw passed in (SPEC section 5)."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
"""Channel means of the ImageNet training set that DeepLab's weights were trained with, in BGR, 0…255."""


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


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest resize of uint8 [H, W] to `size` (width, height)."""
    return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))


def normalize(image: Image.Image, *, mirrored: bool = False, out: np.ndarray | None = None) -> np.ndarray:
    """RGB image → float32 [3, H, W] in BGR order minus `MEAN_BGR`, in one pass.

    Args:
        image: in RGB mode.
        mirrored: flip it left to right, as `mirror` does.
        out: where to write, such as an image's place in a batch; without it, a new array.
    """
    rgb = np.asarray(image)
    if mirrored:
        rgb = rgb[:, ::-1]
    planes = np.empty((3, *rgb.shape[:2]), np.float32) if out is None else out
    for channel, mean in enumerate(MEAN_BGR):
        np.subtract(rgb[:, :, 2 - channel], np.float32(mean), out=planes[channel])
    return planes


def mirror(array: np.ndarray) -> np.ndarray:
    """Flips the last axis, contiguous; twice is the identity."""
    return np.ascontiguousarray(array[..., ::-1])


def denormalize(planes: np.ndarray) -> np.ndarray:
    """Inverse of `normalize`: float32 [3, H, W] → uint8 RGB [H, W, 3]."""
    bgr = planes.transpose(1, 2, 0) + np.asarray(MEAN_BGR, np.float32)
    return cv2.cvtColor(np.clip(np.rint(bgr), 0, 255).astype(np.uint8), cv2.COLOR_BGR2RGB)
