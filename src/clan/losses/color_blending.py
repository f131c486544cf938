"""Colour jitter as in torchvision, which VFM-UDA uses: images are blended with black or with grey values.

`clan.losses.augmentation` has the formulas of kornia, which DACS, DAFormer and MIC use.
"""

import paddle
from paddle import Tensor

from clan.losses.augmentation import adjust_hue

GRAY = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in a grey value (ITU-R BT.601)."""


def blend_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies by the factor: a blend with black."""
    return (factor * images).clip(0.0, 1.0)


def blend_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """factor·image + (1 − factor)·its mean grey value."""
    return _blend(images, gray(images).mean(axis=[1, 2, 3], keepdim=True), factor)


def blend_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """factor·image + (1 − factor)·its grey values."""
    return _blend(images, gray(images), factor)


BLENDS = (blend_brightness, blend_contrast, blend_saturation, adjust_hue)
"""Functions of images [B, 3, H, W], RGB in 0…1, and a factor [B, 1, 1, 1]; hue's is a share of a full turn.

In BGR, red and blue exchange their shares of grey, and hue turns the other way.
"""


def gray(images: Tensor) -> Tensor:
    """RGB [B, 3, H, W] → grey values [B, 1, H, W]."""
    return (images * paddle.to_tensor(GRAY).reshape([1, 3, 1, 1])).sum(axis=1, keepdim=True)


def _blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    return (factor * images + (1.0 - factor) * others).clip(0.0, 1.0)
