"""Reading one image or label file, strictly: what is damaged or of another kind is named, never guessed at."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from clan.core import png
from clan.core.errors import DataError
from clan.core.untrusted import UnfitFile, require_ordinary
from clan.data.headers import DAMAGED, Header, pages, read_header, turned, without_orientation

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""What data sets are made of; Pillow's many other readers, one of which starts Ghostscript, are left alone."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""What files of these formats are called, whatever the case."""
LARGEST_FILE = 1 << 30

RGB_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes of at most 8 bits a channel that it converts to RGB."""
DEEP_GREY = ("I", "I;16", "I;16L", "I;16B")
"""Those of grey with more bits; the first is also that of 16-bit PNGs in older versions."""
ID_MODES = ("1", "L", "P", *DEEP_GREY)
"""Those whose pixels are one number each."""

# Pillow's own limit on pixels lies beyond the one here, and it only warns.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class LossyLabel(DataError):
    """A label whose compression has changed its ids."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is left out when a folder is searched: hidden, or what a Mac adds to an archive."""
    return name.startswith(".") or name == "__MACOSX"


def open_image(path: Path) -> Image.Image:
    """Decodes an image file completely with Pillow, in the mode it is stored in, not turned.

    Raises:
        DataError: the file is missing, damaged or not an image, or holds several.
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
            check.verify()  # decoding alone lets a few flipped bits pass as other values
        image = open_header(path)
        header, several = read_header(image, path), pages(image)
        if image.format == "TIFF" and header.orientation != 1:
            # Some versions of Pillow turn these themselves, and OpenCV some of them.
            image = Image.open(BytesIO(without_orientation(path.read_bytes())), formats=("TIFF",))
        image.load()
    except FileNotFoundError:
        raise missing(path) from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path} cannot be decoded (damaged, or no {', '.join(FORMATS)} of a kind that is read here): "
            "write or download it again, as an 8-bit PNG"
        ) from None
    except DAMAGED as error:
        raise DataError(f"{path} cannot be decoded ({error}): write or download it again") from None
    if several > 1:
        raise DataError(f"{path} holds {several} images, pages or frames: save each as a file of its own")
    return image, header


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
    """Width and height of an image file when it is upright, from its header alone.

    Raises:
        DataError: the file is missing or not an image.
    """
    return _header(path).size


def orientation(path: Path) -> int:
    """How an image has to be turned to be upright, 1…8 as in EXIF; 1: not at all.

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
    """An image file in RGB mode, 8 bits a channel, turned upright: see `read_photograph`."""
    return read_photograph(path).image


class Photograph(NamedTuple):
    """An image file as networks and people see it.

    Args:
        image: in RGB mode, upright.
        orientation: how EXIF says that it had to be turned, 1…8; 1: not at all.
        transparent: whether some pixels are not opaque in the file.
    """

    image: Image.Image
    orientation: int = 1
    transparent: bool = False


def read_photograph(path: Path) -> Photograph:
    """The one way from an image file to 8-bit RGB, for training, evaluation, prediction and all that is shown.

    16-bit pixels are scaled by 65535 or by the range that the file states. Transparency is left out: the colours
    below it count. Colour profiles and gamma are not applied.

    Raises:
        DataError: the file is missing, damaged or not an image, holds several, or numbers of unknown range.
    """
    pixels = plain_png(path)
    if pixels and pixels.color_type == png.RGB and pixels.values.dtype == np.uint8:
        return Photograph(Image.fromarray(pixels.values))
    image, header = _decode(path)
    if header.bits > 8:
        image = Image.fromarray(_eight_bits(path, _deep_values(path, image, header), header))
    elif image.mode not in RGB_MODES or header.signed:
        raise DataError(f"{path} has pixels of a kind that is not read here ({image.mode}): save it as 8-bit RGB")
    may_be_transparent = "A" in image.mode or "transparency" in image.info
    transparent = may_be_transparent and np.asarray(image.convert("RGBA"))[:, :, 3].min() < 255
    rgb = image.convert("RGB")
    if header.orientation != 1:
        rgb = Image.fromarray(turned(np.asarray(rgb), header.orientation))
    return Photograph(rgb, header.orientation, transparent)


def size_conflict(image_path: Path, image: tuple[int, int], label_path: Path, label: tuple[int, int]) -> str | None:
    """What is wrong if an upright image and its label differ in width and height; None if they do not."""
    if image == label:
        return None
    sizes = f"{image_path} is {image[0]}x{image[1]} but its label {label_path} is {label[0]}x{label[1]}"
    turns = {path: turn for path in (image_path, label_path) if (turn := orientation(path)) >= 5}
    if label != image[::-1] or not turns:
        return f"{sizes}: they must agree"
    said = " and ".join(f"{path.name} is turned upright by its EXIF orientation {turn}" for path, turn in turns.items())
    return f"{sizes}, since {said}: turn the other one too, or remove the orientation if it should not be turned"


def _deep_values(path: Path, image: Image.Image, header: Header) -> np.ndarray:
    """More than 8 bits a channel, as they are stored and not turned: uint16 [H, W] or [H, W, 3].

    Raises:
        DataError: they are no numbers of 9 to 16 bits.
    """
    if header.bits > 16 or header.signed or image.mode == "F":
        kind = "floating-point numbers" if image.mode == "F" else f"{header.bits}-bit integers"
        raise DataError(
            f"{path} holds {kind}, of which black and white are unknown: save it with 8 or 16 bits a channel, "
            "all images of the data set scaled alike"
        )
    if image.mode in DEEP_GREY:
        return np.asarray(image).astype(np.uint16)
    if image.mode not in ("RGB", "RGBA"):
        raise DataError(f"{path} has {header.bits} bits a channel of mode {image.mode}: save it as 8-bit RGB")
    return _read_deep_rgb(path, image)


def _read_deep_rgb(path: Path, image: Image.Image) -> np.ndarray:
    """uint16 [H, W, 3] by OpenCV, since Pillow keeps of each number the high byte alone, which must agree."""
    content = np.frombuffer(without_orientation(path.read_bytes()), np.uint8)
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if values is not None and values.ndim == 3 and values.dtype == np.uint16:
        rgb = values[:, :, 2::-1].astype(np.uint16)
        if np.array_equal(rgb // 256, np.asarray(image)[:, :, :3]):
            return rgb
    raise DataError(f"{path} has 16 bits a channel, stored in an unusual way: save it as 8-bit RGB or as PNG")


def _eight_bits(path: Path, values: np.ndarray, header: Header) -> np.ndarray:
    """uint16 of any shape → uint8, scaled by the range that the file states, or else by that of its bits."""
    highest, largest = 2**header.bits - 1, int(values.max(initial=0))
    stated = header.stated
    if stated and stated < highest:
        spare = header.bits - stated.bit_length()
        # PNG wants numbers of fewer bits shifted up. Many writers do not: they set bits that shifting leaves empty.
        shifted = header.shifted and (largest > stated or not np.any(values & (2**spare - 1)))
        if not shifted:
            if stated & (stated + 1) or largest > stated:
                raise DataError(
                    f"{path} states {stated} as its largest value and holds up to {largest}, so that its white is "
                    "unknown: save it with 8 bits a channel, all images of the data set scaled alike"
                )
            highest = stated
    scaled = np.round(np.arange(65536) * (255 / highest)).clip(0, 255).astype(np.uint8)
    return (scaled[::-1][65535 - highest :] if header.inverted else scaled)[values]


def read_ids(path: Path, advice: str = "") -> tuple[np.ndarray, int]:
    """A label of one id a pixel, grey or with a palette: the numbers that are stored in the file, never scaled.

    Args:
        path: the file.
        advice: the end of what is said of colours.

    Returns:
        uint8 or uint16 [H, W], turned if the label has an EXIF orientation itself; its bits per pixel.

    Raises:
        DataError: the file is missing, damaged, compressed with loss, or holds anything else.
    """
    pixels = plain_png(path)
    if pixels and pixels.color_type in (png.GREY, png.PALETTE):
        return pixels.values, 8
    image, header = decode_label(path)
    if image.mode == "F":
        raise DataError(f"label {path} holds floating-point numbers: save its ids as 8- or 16-bit PNG")
    if image.mode not in ID_MODES:
        raise DataError(
            f"label {path} has mode {image.mode}, not 8-bit ids or 16-bit ones: "
            f"is this the colour picture instead of the ids?{advice}"
        )
    values = np.asarray(image)
    if header.bits > 8:
        if (beyond := values[(values < 0) | (values > 65535)]).size:
            raise DataError(f"label {path} holds {beyond[0]}, but ids are 0…65535: save it with other ids")
        return turned(values.astype(np.uint16), header.orientation), header.bits
    # Pillow stretches grey of 1, 2 and 4 bits to black and white, and turns round what has 0 as white.
    white = 1 if image.mode == "1" else 255
    values = values.astype(np.uint8)
    if image.mode != "P":
        values = (white - values if header.inverted else values) // max(1, white // (2**header.bits - 1))
    if header.signed and values.max(initial=0) > 127:
        raise DataError(f"label {path} holds negative numbers, but ids are 0…65535: save it with other ids")
    return turned(values, header.orientation), header.bits


def read_id_label(path: Path) -> np.ndarray:
    """A label of ids of at most 8 bits: uint8 [H, W]; see `read_ids`.

    Raises:
        DataError: the file is missing, damaged, or holds colours or larger numbers instead.
    """
    values, bits = read_ids(path)
    if bits > 8:
        raise DataError(f"label {path} has mode I;{bits}, not 8-bit ids: is this another picture, such as depth?")
    return values


def read_channels(path: Path) -> np.ndarray:
    """The red, green and blue that a label stores: uint8 or uint16 [H, W, 3], turned as in `read_ids`.

    Raises:
        DataError: the file is missing, damaged, compressed with loss, or has no three channels.
    """
    pixels = plain_png(path)
    if pixels and pixels.color_type == png.RGB:
        return pixels.values.astype(pixels.values.dtype.newbyteorder("="), copy=False)
    image, header = decode_label(path)
    if image.mode not in ("RGB", "RGBA", "P", "PA"):
        raise DataError(f"label {path} has one channel ({image.mode}), not colours: describe it with encoding ids")
    deep = header.bits > 8
    values = _read_deep_rgb(path, image) if deep else np.asarray(image.convert("RGB"))
    return turned(values, header.orientation)


def decode_label(path: Path) -> tuple[Image.Image, Header]:
    """A label as Pillow decodes it, not turned.

    Raises:
        DataError: the file is missing or damaged, or its compression has changed ids.
    """
    image, header = _decode(path)
    if header.lossy:
        raise LossyLabel(
            f"label {path} is compressed with loss ({image.format}), which invents ids along every edge: "
            "export the labels again as PNG, from what they were drawn with"
        )
    return image, header


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
