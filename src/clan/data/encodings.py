"""From a label file to what its pixels hold: ids or colours, as the description says they are stored."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clan import png
from clan.data.files import open_image, plain_png
from clan.domains import Description
from clan.errors import DataError

CHANNELS = {"red": 0, "green": 1, "blue": 2}
"""Where a pixel has which channel."""

ID_BITS = {"1": 1, "L": 8, "P": 8, "I;16": 16, "I;16L": 16, "I;16B": 16}
"""Pillow's modes whose pixels are one id each."""


def read_codes(path: Path, description: Description) -> np.ndarray:
    """What the pixels of a label hold.

    Returns:
        [H, W]: ids as uint8 or uint16, or colours as int32 0xRRGGBB.

    Raises:
        DataError: the file is missing, damaged, or not stored as described.
    """
    if description.encoding == "ids":
        return _read_ids(path, description)
    if description.encoding == "colors":
        return _read_colors(path)
    return _read_channel(path, description)


def _read_ids(path: Path, description: Description) -> np.ndarray:
    pixels = plain_png(path)
    if pixels and pixels.color_type in (png.GREY, png.PALETTE):
        _check_bits(path, 8, description)
        return pixels.values
    image = open_image(path)
    bits = ID_BITS.get(image.mode)
    if bits is None:
        raise DataError(
            f"label {path} has mode {image.mode}, not one id a pixel: is this the colour picture instead of the ids? "
            "If it is the label, describe it with encoding colors, or red, green or blue"
        )
    _check_bits(path, max(bits, 8), description)
    return np.asarray(image).astype(np.uint8 if bits <= 8 else np.uint16, copy=False)


def _read_colors(path: Path) -> np.ndarray:
    image = open_image(path)
    if image.mode not in ("RGB", "RGBA", "P"):
        raise DataError(f"label {path} has mode {image.mode}, not colours: describe it with encoding ids")
    rgb = np.asarray(image.convert("RGB")).astype(np.int32)
    return rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2]


def _read_channel(path: Path, description: Description) -> np.ndarray:
    """One channel, 8 or 16-bit."""
    pixels = plain_png(path)
    rgb = pixels.values if pixels and pixels.color_type == png.RGB else _read_any_rgb(path)
    if rgb.ndim != 3 or rgb.dtype.kind != "u":
        raise DataError(f"label {path} has one channel, not three with ids in {description.encoding}: try encoding ids")
    _check_bits(path, 8 * rgb.dtype.itemsize, description)
    return rgb[:, :, CHANNELS[description.encoding]].astype(rgb.dtype.newbyteorder("="))


def _read_any_rgb(path: Path) -> np.ndarray:
    """Pillow silently decodes 16-bit RGB to zeros, so OpenCV reads it; Pillow looks first, since it tells of damage."""
    open_image(path)
    label = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if label is None:
        raise DataError(f"{path} cannot be decoded: copy it again from the data set")
    return label[:, :, 2::-1] if label.ndim == 3 else label


def _check_bits(path: Path, bits: int, description: Description) -> None:
    if description.bits not in (None, bits):
        raise DataError(
            f"label {path} has {bits} bits a channel, but those of {description.name} have {description.bits}: "
            "was it converted?"
        )


def encodings(path: Path) -> tuple[str, int]:
    """Pillow's mode of a label file and its bits per channel, from the file alone.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ID_BITS:
                return image.mode, ID_BITS[image.mode]
            return image.mode, _png_bits(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): is it an image?") from None


def _png_bits(path: Path) -> int:
    """The bit depth in a PNG's header, which Pillow hides; 8 for other files."""
    header = path.open("rb").read(25)
    return header[24] if header[:4] == b"\x89PNG" else 8


def describe_code(code: int, description: Description) -> str:
    """An id, or a colour as "#rrggbb"."""
    return f'"#{code:06x}"' if description.encoding == "colors" else str(code)
