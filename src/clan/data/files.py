"""Reading one image or label file, strictly: what is damaged or of another kind is named, never guessed at."""

from pathlib import Path

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
    pixels = plain_png(path)
    if pixels and pixels.color_type == png.RGB and pixels.values.dtype == np.uint8:
        return Image.fromarray(pixels.values)
    return open_image(path).convert("RGB")


def read_id_label(path: Path) -> np.ndarray:
    """An 8-bit label of ids, grey or with a palette: uint8 [H, W].

    Raises:
        DataError: the file is missing, damaged, or holds colours instead of ids.
    """
    pixels = plain_png(path)
    if pixels and pixels.color_type in (png.GREY, png.PALETTE):
        return pixels.values
    image = open_image(path)
    if image.mode not in ("L", "P"):
        raise DataError(
            f"label {path} has mode {image.mode}, not 8-bit ids (L or P): "
            "is this the colour picture instead of the ids?"
        )
    return np.asarray(image)


def plain_png(path: Path) -> png.Pixels | None:
    """The pixels of most PNGs at half the time of `open_image`; None for any other file, which that must judge."""
    try:
        return png.decode(path.read_bytes())
    except OSError:
        return None
