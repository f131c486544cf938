"""Reading one image or label file, strictly: what is damaged or of another kind is named, never guessed at."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clan import png
from clan.errors import DataError
from clan.untrusted import UnfitFile, require_ordinary

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""What data sets are made of; Pillow's many other readers, one of which starts Ghostscript, are left alone."""
LARGEST_FILE = 1 << 30

# Pillow's own limit on pixels lies beyond the one here, and it only warns.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

DAMAGED = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)
"""What Pillow raises on a truncated, damaged or absurdly large file."""


def open_image(path: Path) -> Image.Image:
    """Decodes an image file completely with Pillow, in the mode it is stored in.

    Raises:
        DataError: the file is missing, damaged or not an image.
    """
    try:
        with open_header(path) as check:
            check.verify()  # decoding alone lets a few flipped bits pass as other values
        image = open_header(path)
        image.load()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: check the list and the data folder") from None
    except DAMAGED as error:
        raise DataError(f"{path} cannot be decoded ({error}): write or download it again") from None
    return image


def open_header(path: Path) -> Image.Image:
    """An image file of which only the header is read, so that nothing of the size that it claims is made yet.

    Raises:
        DataError: it claims to be larger than any image of a data set, or is no file at all.
        OSError, …: see `DAMAGED`.
    """
    _check_file(path)
    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > png.MOST_PIXELS or max(image.size) > png.LONGEST_SIDE:
        raise DataError(
            f"{path} has {image.width}x{image.height} pixels, over the limit of {png.MOST_PIXELS} in all and "
            f"{png.LONGEST_SIDE} a side: scale it down or cut it up"
        )
    return image


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, from its header alone.

    Raises:
        DataError: the file is missing or not an image.
    """
    try:
        with open_header(path) as image:
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
        _check_file(path)
        return png.decode(path.read_bytes())
    except OSError:
        return None


def _check_file(path: Path) -> None:
    """Refuses what reading might not come to the end of.

    Raises:
        DataError: it is a folder, a pipe, a device, or larger than any image.
        OSError: it is missing.
    """
    status = path.stat()
    try:
        require_ordinary(status.st_mode)
    except UnfitFile as error:
        raise DataError(f"{path} {error}") from None
    if status.st_size > LARGEST_FILE:
        raise DataError(f"{path} has {status.st_size} bytes, over the limit of {LARGEST_FILE}: is it an image?")
