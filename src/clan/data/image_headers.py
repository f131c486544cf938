"""Reading image headers without decoding pixels: bits, value range, orientation, number of pages, compression."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # about damaged EXIF, on stderr

DAMAGED = (
    *(OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError),
    *(EOFError, LookupError, ArithmeticError, TypeError, AttributeError, struct.error, zlib.error),
)
"""Exceptions that Pillow raises on truncated, damaged or oversized files and on damaged EXIF."""

ORIENTATION = 0x0112
"""The EXIF and TIFF tag of the orientation."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SUBFILE = 256, 257, 258, 259, 262, 254
_SAMPLE_FORMAT, _S_MAX, _MAX = 339, 341, 281
_LOSSY_COMPRESSIONS = (6, 7, 34887, 34892, 50001)
"""TIFF compression tags: JPEG (two), LERC, DNG's JPEG, WebP."""
_PNG_CHUNKS, _LARGEST_CHUNK = 1 << 20, 1 << 20
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced PNG: first column and row, steps across and down."""
_PIECE = 1 << 16


@dataclass(frozen=True)
class Header:
    """How a file stores its pixels.

    Args:
        mode: Pillow's mode of the decoded pixels.
        size: width and height of the upright image.
        bits: stored bits per channel.
        stated: the largest channel value according to the file, such as 4095; None: not stated.
        shifted: values may be shifted up to fill all bits, as PNG requires.
        inverted: 0 is white.
        signed: values may be negative.
        lossy: the compression is lossy.
        orientation: EXIF orientation, 1…8; 1 is upright.
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
    """Reads the header of a file.

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
        fields["lossy"] = _is_lossy_webp(path)
    if image.format == "BMP":
        fields["bits"] = min(8, struct.unpack("<H", path.open("rb").read(30)[28:])[0])
        if image.mode == "1" and fields["bits"] != 1:
            raise UnidentifiedImageError("a BMP with fewer palette entries than its bits allow")
    orientation = _exif_orientation(image.info.get("exif"))
    return Header(image.mode, _upright_size(image.size, orientation), orientation=orientation, **fields)


def pages(image: Image.Image) -> int:
    """The number of images in a file: frames or pages, without a TIFF's thumbnails and masks.

    Raises:
        OSError, …: see `DAMAGED`.
    """
    if image.format == "MPO":  # a phone's photograph with auxiliary images
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
    """Turns stored pixels [H, W, …] upright by their EXIF orientation, 1…8; the result is contiguous."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def without_orientation(content: bytes) -> bytes:
    """The bytes of a TIFF with its orientation set to 1; any other bytes unchanged."""
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
    """The orientation, 1…8; 1 if EXIF is absent or damaged, as in image viewers."""
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
    if stated is None and 255 < largest < 2**bits - 1 and not largest & (largest + 1):  # 2ⁿ − 1
        stated = largest  # any other value is the maximum of this image, not of the range
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


def _is_lossy_webp(path: Path) -> bool:
    """Whether the first pixels of a WebP are lossy; colour profile, transparency and animation come before them."""
    with path.open("rb") as file:
        file.seek(12)
        while len(start := file.read(8)) == 8:
            kind, length = struct.unpack("<4sI", start)
            if kind in (b"VP8 ", b"VP8L"):
                return kind == b"VP8 "
            file.seek(16 if kind == b"ANMF" else length + length % 2, 1)
    return False


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


def require_all_rows(path: Path) -> None:
    """Checks that the pixels of a PNG do not end before its last row, where Pillow leaves the other rows black.

    Raises:
        OSError: rows are missing.
        OSError, …: see `DAMAGED`.
    """
    header = dict(_png_chunks(path, (b"IHDR",)))[b"IHDR"]
    width, height, bits, color_type, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    missing = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + -(-columns * bits * _PNG_CHANNELS[color_type] // 8))
    inflate = zlib.decompressobj()
    with path.open("rb") as file:
        for kind, length in _each_png_chunk(file):
            while kind == b"IDAT" and length and missing > 0:
                if not (piece := file.read(min(length, _PIECE))):
                    break
                length -= len(piece)
                while piece and missing > 0:
                    missing -= len(inflate.decompress(piece, _PIECE))
                    piece = inflate.unconsumed_tail
    if missing > 0:
        raise OSError("its pixels end before the last row")


def _each_png_chunk(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of every chunk of a PNG, the file standing at its content; the caller may leave it anywhere."""
    file.seek(8)
    for _ in range(_PNG_CHUNKS):
        start = file.read(8)
        if len(start) < 8:
            return
        length, kind = struct.unpack(">I4s", start)
        content = file.tell()
        yield kind, length
        file.seek(content + length + 4)  # the checksum too


def _png_chunks(path: Path, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of these kinds; pixels are skipped, since EXIF may follow them."""
    with path.open("rb") as file:
        for kind, length in _each_png_chunk(file):
            if kind in kinds and length <= _LARGEST_CHUNK:
                yield kind, file.read(length)
