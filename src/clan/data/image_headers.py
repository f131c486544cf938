"""What an image file says of its pixels before they are decoded: bits, range, orientation, pages, loss."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged EXIF, to standard error

DAMAGED = (
    *(OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError),
    *(EOFError, LookupError, ArithmeticError, TypeError, AttributeError, struct.error, zlib.error),
)
"""What Pillow raises on a truncated, damaged or absurdly large file, or on EXIF that is damaged."""

ORIENTATION = 0x0112
"""EXIF's and TIFF's tag of how the camera was held."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SUBFILE = 256, 257, 258, 259, 262, 254
_SAMPLE_FORMAT, _S_MAX, _MAX = 339, 341, 281
_LOSSY_COMPRESSIONS = (6, 7, 34887, 34892, 50001)
"""TIFF's numbers of JPEG, twice, of LERC, of DNG's JPEG and of WebP."""
_PNG_CHUNKS, _LARGEST_CHUNK = 1 << 20, 1 << 20


@dataclass(frozen=True)
class Header:
    """How a file stores its pixels.

    Args:
        mode: Pillow's mode of the decoded pixels.
        size: width and height of the upright image.
        bits: per channel, as stored.
        stated: the largest value that the file says its channels can have, such as 4095; None: it says nothing.
        shifted: values may have been shifted up to fill all bits, as PNG demands.
        inverted: 0 is white.
        signed: values may be negative.
        lossy: compression has changed values.
        orientation: 1…8, as in EXIF; 1 is upright.
    """

    mode: str
    size: tuple[int, int]
    bits: int = 8
    stated: int | None = None
    shifted: bool = False
    inverted: bool = False
    signed: bool = False
    lossy: bool = False
    orientation: int = 1


def read_header(image: Image.Image, path: Path) -> Header:
    """What the header of a file says.

    Args:
        image: opened, not yet decoded.
        path: the file.

    Raises:
        OSError, …: see `DAMAGED`.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _tiff(image)
    if image.format == "PNG":
        return _png(image, path)
    fields: dict[str, Any] = {"lossy": image.format in ("JPEG", "MPO")}
    if image.format == "WEBP":
        fields["lossy"] = b"VP8 " in path.open("rb").read(4096)
    if image.format == "BMP":
        fields["bits"] = min(8, struct.unpack("<H", path.open("rb").read(30)[28:])[0])
        if image.mode == "1" and fields["bits"] != 1:
            raise UnidentifiedImageError("a BMP with fewer colours than its bits can number")
    orientation = _exif_orientation(image.info.get("exif"))
    return Header(image.mode, _upright_size(image.size, orientation), orientation=orientation, **fields)


def pages(image: Image.Image) -> int:
    """How many images of their own a file holds: frames of an animation, pages; a TIFF's thumbnails do not count.

    Raises:
        OSError, …: see `DAMAGED`.
    """
    if image.format == "MPO":  # a photograph and what telephones add to it
        return 1
    count = getattr(image, "n_frames", 1)
    if count == 1 or not isinstance(image, TiffImagePlugin.TiffImageFile):
        return count
    full = 0
    for page in range(min(count, 100)):
        image.seek(page)
        full += not int(image.tag_v2.get(_SUBFILE, 0)) & 0b101  # a smaller copy, a mask
    image.seek(0)
    return full


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as they are stored, [H, W, …], turned upright by an EXIF orientation, 1…8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def without_orientation(content: bytes) -> bytes:
    """The bytes of a TIFF that says nothing of its orientation any more; any other bytes as they are."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return content
    big = struct.unpack_from(order + "H", content, 2)[0] == 43
    first, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (position,) = struct.unpack_from(order + first, content, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count, content, position)
    position += struct.calcsize(order + count)
    changed = bytearray(content)
    for start in range(position, min(position + entries * entry, len(content) - entry + 1), entry):
        if struct.unpack_from(order + "H", content, start)[0] == ORIENTATION:
            struct.pack_into(order + "H", changed, start + entry - (8 if big else 4), 1)
    return bytes(changed)


def _upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size if orientation < 5 else (size[1], size[0])


def _exif_orientation(data: bytes | None) -> int:
    """1…8; 1 if there is no EXIF, or a damaged one, which viewers leave out of account too."""
    if not data:
        return 1
    exif = Image.Exif()
    try:
        exif.load(data)
        return _valid(exif.get(ORIENTATION, 1))
    except DAMAGED:
        return 1


def _valid(orientation: Any) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _tiff(image: TiffImagePlugin.TiffImageFile) -> Header:
    tags = image.tag_v2
    bits = int(np.max(tags.get(_BITS, 1)))
    orientation = _valid(tags.get(ORIENTATION, 1))
    largest = int(np.max(tags.get(_MAX, 0)))
    stated = int(np.max(tags[_S_MAX])) if _S_MAX in tags else None
    if stated is None and 255 < largest < 2**bits - 1 and _all_ones(largest):
        stated = largest  # other numbers there are an image's own maximum
    return Header(
        image.mode,
        _upright_size((int(tags[_WIDTH]), int(tags[_HEIGHT])), orientation),
        bits=bits,
        stated=2**bits - 1 if stated is None and 8 < bits < 16 else stated,
        inverted=tags.get(_PHOTOMETRIC) == 0,
        signed=2 in np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1)),
        lossy=tags.get(_COMPRESSION) in _LOSSY_COMPRESSIONS,
        orientation=orientation,
    )


def _png(image: Image.Image, path: Path) -> Header:
    chunks = dict(_png_chunks(path, (b"IHDR", b"sBIT", b"eXIf")))
    header, significant = chunks[b"IHDR"], chunks.get(b"sBIT")
    color_channels = 3 if header[9] & 2 else 1
    orientation = _exif_orientation(chunks.get(b"eXIf"))
    return Header(
        image.mode,
        _upright_size(image.size, orientation),
        bits=header[8],
        stated=2 ** max(significant[:color_channels]) - 1 if significant else None,
        shifted=True,
        orientation=orientation,
    )


def _png_chunks(path: Path, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of some kinds: EXIF may stand behind the pixels, which are passed over."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_PNG_CHUNKS):
            start = file.read(8)
            if len(start) < 8:
                return
            length, kind = struct.unpack(">I4s", start)
            if kind in kinds and length <= _LARGEST_CHUNK:
                yield kind, file.read(length)
                length = 0
            file.seek(length + 4, 1)


def _all_ones(value: int) -> bool:
    """Whether a number is 2ⁿ − 1."""
    return value & (value + 1) == 0
