"""Reading one image or label file, strictly: what is damaged or of another kind is named, never guessed at."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from clan import png
from clan.errors import DataError

DAMAGED = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)
"""What Pillow raises on a truncated, damaged or absurdly large file."""


def open_image(path: Path) -> Image.Image:
    """Decodes an image file completely with Pillow, in the mode it is stored in.

    Raises:
        DataError: the file is missing, damaged or not an image.
    """
    try:
        with Image.open(path) as check:
            check.verify()  # decoding alone lets a few flipped bits pass as other values
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: check the list and the data folder") from None
    except DAMAGED as error:
        raise DataError(f"{path} cannot be decoded ({error}): write or download it again") from None
    return image


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, from its header alone.

    Raises:
        DataError: the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except DAMAGED as error:
        raise DataError(f"{path} cannot be read ({error}): copy it again from the data set") from None


def read_rgb(path: Path) -> Image.Image:
    """An image file in RGB mode.

    Raises:
        DataError: the file is missing, damaged or not an image.
    """
    pixels = _plain_png(path)
    if pixels and pixels.color_type == png.RGB and pixels.values.dtype == np.uint8:
        return Image.fromarray(pixels.values)
    return open_image(path).convert("RGB")


def read_id_label(path: Path) -> np.ndarray:
    """An 8-bit label of ids, grey or with a palette: uint8 [H, W].

    Raises:
        DataError: the file is missing, damaged, or holds colours instead of ids.
    """
    pixels = _plain_png(path)
    if pixels and pixels.color_type in (png.GREY, png.PALETTE):
        return pixels.values
    image = open_image(path)
    if image.mode not in ("L", "P"):
        raise DataError(
            f"label {path} has mode {image.mode}, not 8-bit ids (L or P): "
            "is this the colour picture instead of the ids?"
        )
    return np.asarray(image)


def read_synthia_label(path: Path) -> np.ndarray:
    """The class channel of a SYNTHIA-RAND-CITYSCAPES label: uint8 [H, W].

    These are 16-bit RGB PNGs with the class in R. Pillow silently decodes them to zeros, so OpenCV reads them;
    it yields BGR, which puts the class at index 2.

    Raises:
        DataError: the file is missing, damaged, or not a 16-bit RGB PNG.
    """
    pixels = _plain_png(path)
    if pixels and pixels.color_type == png.RGB and pixels.values.dtype != np.uint8:
        classes = pixels.values[:, :, 0]
    else:
        classes = _general_synthia_label(path)
    # Class numbers end at 22; anything beyond 8 bits is clamped to an id that no class has.
    return np.minimum(classes, 255).astype(np.uint8)


def _general_synthia_label(path: Path) -> np.ndarray:
    """The class channel of a 16-bit RGB PNG of any make, uint16 [H, W]."""
    open_image(path)  # OpenCV does not tell of every damage
    label = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if label is None:
        raise DataError(f"{path} cannot be decoded: copy it again from the data set")
    if label.dtype != np.uint16 or label.ndim != 3:
        channels = 1 if label.ndim == 2 else label.shape[2]
        raise DataError(
            f"SYNTHIA label {path} has {channels} × {label.dtype.itemsize * 8} bit, but RAND_CITYSCAPES ships "
            "3 × 16-bit PNGs: was it converted?"
        )
    return label[:, :, 2]


def _plain_png(path: Path) -> png.Pixels | None:
    """The pixels of most PNGs at half the time of `open_image`; None for any other file, which that must judge."""
    try:
        return png.decode(path.read_bytes())
    except OSError:
        return None
