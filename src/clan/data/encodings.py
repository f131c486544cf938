"""Reads label files as ids or colours, in the encoding that a description states."""

from pathlib import Path

import numpy as np

from clan.core.errors import DataError
from clan.data.image_files import open_header, read_channels, read_ids
from clan.data.image_headers import DAMAGED, read_header
from clan.datasets import Description

CHANNELS = {"red": 0, "green": 1, "blue": 2}
"""Index of each channel in RGB."""


def read_codes(path: Path, description: Description) -> np.ndarray:
    """Reads a label.

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
    values, bits = read_ids(path, " If not, set encoding to colors, red, green or blue")
    # Ids of 1, 2 and 4 bits are read as 8 bits.
    _check_bits(path, next(whole for whole in (8, 16, 32) if bits <= whole), description)
    return values


def _read_colors(path: Path) -> np.ndarray:
    rgb = read_channels(path)
    if rgb.dtype != np.uint8:
        raise DataError(f"label {path} has 16 bits a channel, not colours: set encoding to red, green or blue")
    red, green, blue = (rgb[:, :, channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _read_channel(path: Path, description: Description) -> np.ndarray:
    rgb = read_channels(path)
    _check_bits(path, 8 * rgb.dtype.itemsize, description)
    return rgb[:, :, CHANNELS[description.encoding]]


def _check_bits(path: Path, bits: int, description: Description) -> None:
    if description.bits not in (None, bits):
        raise DataError(
            f"label {path} has {bits} bits a channel, but the description of {description.name} states "
            f"{description.bits}: use the original file, or correct bits"
        )


def stored_mode(path: Path) -> tuple[str, int]:
    """Pillow's mode of a label file and its bits per channel, at least 8, from the header.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with open_header(path) as image:
            header = read_header(image, path)
            return header.mode, max(8, header.bits)
    except DAMAGED as error:
        raise DataError(f"{path} cannot be read ({error}): is it an image?") from None


def describe_code(code: int, description: Description) -> str:
    """An id, or a colour as "#rrggbb"."""
    return f'"#{code:06x}"' if description.encoding == "colors" else str(code)
