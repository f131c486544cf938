"""Strict reading of one image or label file: damaged files and unknown formats are errors."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from clan.core import png
from clan.core.errors import DataError
from clan.core.files import UnfitFile, require_ordinary
from clan.data.image_headers import DAMAGED, Header, pages, read_header, require_all_rows, turned, without_orientation

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""Supported formats. Pillow's other readers stay off: one of them starts Ghostscript."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""File suffixes of these formats, in lower case."""
LARGEST_FILE = 1 << 30

RGB_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow modes of at most 8 bits a channel that convert to RGB."""
DEEP_GREY = ("I", "I;16", "I;16L", "I;16B")
"""Pillow modes of grey with more than 8 bits; older versions use "I" for 16-bit PNGs."""
ID_MODES = ("1", "L", "P", *DEEP_GREY)
"""Pillow modes with one number per pixel."""

# Pillow's own pixel limit is higher than the one here and only warns.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class LossyLabel(DataError):
    """A label with lossy compression, which changes ids."""


def is_hidden(name: str) -> bool:
    """Whether a search skips a file or folder: hidden, or added to an archive by macOS."""
    return name.startswith(".") or name == "__MACOSX"


def open_image(path: Path) -> Image.Image:
    """Decodes an image file completely with Pillow, in its stored mode and orientation.

    Raises:
        DataError: the file is missing, damaged or not an image, or contains several images.
    """
    return _decode(path)[0]


def missing(path: Path) -> DataError:
    """What is said of a file that is not there, or of a link to one."""
    if path.is_symlink():
        return DataError(f"{path} is a link to {path.readlink()}, which does not exist: mend or remove the link")
    return DataError(f"{path} does not exist: check the list and the data folder")


def _decode(path: Path) -> tuple[Image.Image, Header]:
    try:
        with open_header(path) as check:
            check.verify()  # decoding alone does not detect all flipped bits
        image = open_header(path)
        header, several = read_header(image, path), pages(image)
        if image.format == "TIFF" and header.orientation != 1:
            # Some versions of Pillow, and OpenCV for some files, apply the orientation themselves.
            image = Image.open(BytesIO(without_orientation(path.read_bytes())), formats=("TIFF",))
        image.load()
        if image.format == "PNG":
            require_all_rows(path)
    except FileNotFoundError:
        raise missing(path) from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path} cannot be decoded (damaged, or not a supported {', '.join(FORMATS)}): "
            "save or download it again, as an 8-bit PNG"
        ) from None
    except DAMAGED as error:
        raise DataError(f"{path} cannot be decoded ({error}): save or download it again") from None
    if several > 1:
        raise DataError(f"{path} holds {several} images, pages or frames: save each as a separate file")
    return image, header


def open_header(path: Path) -> Image.Image:
    """Opens an image file and reads only its header; no memory for pixels is allocated.

    Raises:
        DataError: the image exceeds the size limits, or the path is not a regular file.
        OSError, …: see `DAMAGED`.
    """
    _check_file(path)
    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > png.MOST_PIXELS or max(image.size) > png.LONGEST_SIDE:
        raise DataError(
            f"{path} has {image.width}x{image.height} pixels, over the limit of {png.MOST_PIXELS} in all and "
            f"{png.LONGEST_SIDE} a side: downscale or tile it"
        )
    return image


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright image, from its header.

    Raises:
        DataError: the file is missing or not an image.
    """
    return _header(path).size


def orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 1…8; 1 is upright.

    Raises:
        DataError: the file is missing or not an image.
    """
    return _header(path).orientation


def _header(path: Path) -> Header:
    try:
        with open_header(path) as image:
            return read_header(image, path)
    except FileNotFoundError:
        raise missing(path) from None
    except DAMAGED as error:
        raise DataError(f"{path} cannot be read ({error}): copy it again from the data set") from None


def read_rgb(path: Path) -> Image.Image:
    """Reads an image file as upright 8-bit RGB; see `read_photograph`."""
    return read_photograph(path).image


class Photograph(NamedTuple):
    """A decoded image file.

    Args:
        image: in RGB mode, 8 bits a channel, upright.
        orientation: the file's EXIF orientation, 1…8; 1 is upright.
        transparent: whether the file has pixels that are not opaque.
    """

    image: Image.Image
    orientation: int = 1
    transparent: bool = False


def read_photograph(path: Path) -> Photograph:
    """Reads an image file as 8-bit RGB, for training, evaluation, prediction and display alike.

    16-bit pixels are scaled by 65535 or by the range that the file states. Transparency, colour profiles and gamma
    are ignored.

    Raises:
        DataError: the file is missing, damaged or not an image, contains several images, or values of unknown range.
    """
    pixels = plain_png(path)
    if pixels and pixels.color_type == png.RGB and pixels.values.dtype == np.uint8:
        return Photograph(Image.fromarray(pixels.values))
    image, header = _decode(path)
    if header.bits > 8:
        image = Image.fromarray(_eight_bits(path, _deep_values(path, image, header), header))
    elif image.mode not in RGB_MODES or header.signed:
        raise DataError(f"{path} has the unsupported pixel format {image.mode}: save it as 8-bit RGB")
    may_be_transparent = "A" in image.mode or "transparency" in image.info
    transparent = may_be_transparent and np.asarray(image.convert("RGBA"))[:, :, 3].min() < 255
    rgb = image.convert("RGB")
    if header.orientation != 1:
        rgb = Image.fromarray(turned(np.asarray(rgb), header.orientation))
    return Photograph(rgb, header.orientation, transparent)


def size_conflict(image_path: Path, image: tuple[int, int], label_path: Path, label: tuple[int, int]) -> str | None:
    """An error message if an upright image and its label differ in size (width, height); None if they agree."""
    if image == label:
        return None
    sizes = f"{image_path} is {image[0]}x{image[1]} but its label {label_path} is {label[0]}x{label[1]}"
    turns = {path: turn for path in (image_path, label_path) if (turn := orientation(path)) >= 5}
    if label != image[::-1] or not turns:
        return f"{sizes}: they must agree"
    said = " and ".join(f"{path.name} is turned upright by its EXIF orientation {turn}" for path, turn in turns.items())
    return f"{sizes}, since {said}: rotate the other file too, or remove the orientation if it is wrong"


def _deep_values(path: Path, image: Image.Image, header: Header) -> np.ndarray:
    """The stored pixels of an image of 9 to 16 bits a channel: uint16 [H, W] or [H, W, 3], orientation not applied.

    Raises:
        DataError: the pixels are floating-point, signed or have more than 16 bits.
    """
    if header.bits > 16 or header.signed or image.mode == "F":
        kind = "floating-point numbers" if image.mode == "F" else f"{header.bits}-bit integers"
        raise DataError(
            f"{path} holds {kind}, whose black and white values are unknown: save it with 8 or 16 bits a channel, "
            "with one scale for all images of the data set"
        )
    if image.mode in DEEP_GREY:
        return np.asarray(image).astype(np.uint16)
    if image.mode not in ("RGB", "RGBA"):
        raise DataError(f"{path} has {header.bits} bits a channel of mode {image.mode}: save it as 8-bit RGB")
    return _read_deep_rgb(path, image)


def _read_deep_rgb(path: Path, image: Image.Image) -> np.ndarray:
    """Reads 16-bit RGB with OpenCV, uint16 [H, W, 3]: Pillow keeps only high bytes, which must agree."""
    content = np.frombuffer(without_orientation(path.read_bytes()), np.uint8)
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if values is not None and values.ndim == 3 and values.dtype == np.uint16:
        rgb = values[:, :, 2::-1].astype(np.uint16)
        if np.array_equal(rgb // 256, np.asarray(image)[:, :, :3]):
            return rgb
    raise DataError(f"{path} has 16 bits a channel in an unsupported layout: save it as 8-bit RGB or as PNG")


def _eight_bits(path: Path, values: np.ndarray, header: Header) -> np.ndarray:
    """uint16 of any shape → uint8, scaled by the largest value that the file states, else by that of its bits."""
    highest, largest = 2**header.bits - 1, int(values.max(initial=0))
    stated = header.stated
    if stated and stated < highest:
        spare = header.bits - stated.bit_length()
        # PNG requires values of fewer bits to be shifted up. Values that are not shifted have low bits set.
        shifted = header.shifted and (largest > stated or not np.any(values & (2**spare - 1)))
        if not shifted:
            if stated & (stated + 1) or largest > stated:
                raise DataError(
                    f"{path} states {stated} as its largest value but holds up to {largest}, so its white is "
                    "unknown: save it with 8 bits a channel, with one scale for all images of the data set"
                )
            highest = stated
    scaled = np.round(np.arange(65536) * (255 / highest)).clip(0, 255).astype(np.uint8)
    return (scaled[::-1][65535 - highest :] if header.inverted else scaled)[values]


def read_ids(path: Path, advice: str = "") -> tuple[np.ndarray, int]:
    """Reads a label with one id per pixel, grey or palette: the stored numbers, not scaled.

    Args:
        path: the file.
        advice: appended to the error message about colours.

    Returns:
        uint8 or uint16 [H, W], turned upright if the label has an EXIF orientation; bits per pixel.

    Raises:
        DataError: the file is missing, damaged, lossy, or does not hold one integer 0…65535 per pixel.
    """
    pixels = plain_png(path)
    if pixels and pixels.color_type in (png.GREY, png.PALETTE):
        return pixels.values, 8
    image, header = decode_label(path)
    if image.mode == "F":
        raise DataError(f"label {path} holds floating-point numbers: save its ids as 8- or 16-bit PNG")
    if image.mode not in ID_MODES:
        raise DataError(
            f"label {path} has mode {image.mode}, not 8-bit ids or 16-bit ids: "
            f"use the file of ids if this one holds colours.{advice}"
        )
    values = np.asarray(image)
    if header.bits > 8:
        if (beyond := values[(values < 0) | (values > 65535)]).size:
            raise DataError(f"label {path} holds {beyond[0]}, but ids are 0…65535: renumber the ids")
        return turned(values.astype(np.uint16), header.orientation), header.bits
    # Pillow scales grey of 1, 2 and 4 bits to 0…255, and inverts it if 0 is white.
    white = 1 if image.mode == "1" else 255
    values = values.astype(np.uint8)
    if image.mode != "P":
        values = (white - values if header.inverted else values) // max(1, white // (2**header.bits - 1))
    if header.signed and values.max(initial=0) > 127:
        raise DataError(f"label {path} holds negative numbers, but ids are 0…65535: renumber the ids")
    return turned(values, header.orientation), header.bits


def read_id_label(path: Path) -> np.ndarray:
    """Reads a label of ids of at most 8 bits: uint8 [H, W]; see `read_ids`.

    Raises:
        DataError: the file is missing, damaged, or holds colours or more than 8 bits.
    """
    values, bits = read_ids(path)
    if bits > 8:
        raise DataError(f"label {path} has mode I;{bits}, not 8-bit ids: check that it is not a depth map or the like")
    return values


def read_channels(path: Path) -> np.ndarray:
    """Reads a label with three channels: uint8 or uint16 RGB [H, W, 3], upright.

    Raises:
        DataError: the file is missing, damaged, lossy, or has fewer than three channels.
    """
    pixels = plain_png(path)
    if pixels and pixels.color_type == png.RGB:
        return pixels.values.astype(pixels.values.dtype.newbyteorder("="), copy=False)
    image, header = decode_label(path)
    if image.mode not in ("RGB", "RGBA", "P", "PA"):
        raise DataError(f"label {path} has one channel ({image.mode}), not colours: set encoding to ids")
    deep = header.bits > 8
    values = _read_deep_rgb(path, image) if deep else np.asarray(image.convert("RGB"))
    return turned(values, header.orientation)


def decode_label(path: Path) -> tuple[Image.Image, Header]:
    """Decodes a label with Pillow, in its stored orientation.

    Raises:
        LossyLabel: the file has lossy compression.
        DataError: the file is missing or damaged.
    """
    image, header = _decode(path)
    if header.lossy:
        raise LossyLabel(
            f"label {path} has lossy compression ({image.format}), which creates wrong ids along every edge: "
            "export the labels again as PNG from their source"
        )
    return image, header


def plain_png(path: Path) -> png.Pixels | None:
    """Decodes common PNGs in half the time of `open_image`; None for any other file."""
    try:
        _check_file(path)
        return png.decode(path.read_bytes())
    except OSError:
        return None


def _check_file(path: Path) -> None:
    """Refuses paths that cannot be read in bounded time and memory.

    Raises:
        DataError: the path is a folder, a pipe or a device, or exceeds `LARGEST_FILE`.
        OSError: the file is missing.
    """
    status = path.stat()
    try:
        require_ordinary(status.st_mode)
    except UnfitFile as error:
        raise DataError(f"{path} {error}") from None
    if status.st_size > LARGEST_FILE:
        raise DataError(f"{path} has {status.st_size} bytes, over the limit of {LARGEST_FILE}: downscale or tile it")
