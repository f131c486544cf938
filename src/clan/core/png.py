"""A fast PNG codec for 8-bit grey, palette and RGB, and 16-bit RGB.

libdeflate inflates twice as fast as the zlib of Pillow and OpenCV; the row filters are undone by a compiled loop.
Interlaced, animated, EXIF-rotated, damaged and other PNGs return None and are left to the general, strict readers in
`clan.data.image_files`. Source: PNG specification, 3rd edition.
"""

import struct
from typing import NamedTuple

import deflate
import numpy as np

from clan.core.compilation import compiled_exactly

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3
"""PNG colour types."""

MOST_PIXELS = 2**26
LONGEST_SIDE = 32_768
"""Limits of decoded images, here and in `clan.data.files`, in pixels."""

_MOST_CHUNKS = 2**16  # of the usual 8 kB each: 512 MB


class Pixels(NamedTuple):
    """The decoded pixels of a PNG.

    Args:
        values: [H, W] for grey values and palette indices, [H, W, 3] for RGB; uint8, or big-endian uint16.
        color_type: `GREY`, `RGB` or `PALETTE`.
    """

    values: np.ndarray
    color_type: int


def decode(content: bytes) -> Pixels | None:
    """Decodes a PNG of a supported kind, checking every checksum; returns None for any other bytes."""
    chunks = _chunks(content)
    if chunks is None:
        return None
    width, height, depth, color_type, *methods = chunks[0]
    channels = 3 if color_type == RGB else 1
    plain = (depth, color_type) in {(8, GREY), (8, RGB), (8, PALETTE), (16, RGB)} and methods == [0, 0, 0]
    if not plain or not 0 < width * height <= MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        return None
    pixel_bytes = channels * depth // 8
    size = height * (1 + width * pixel_bytes)
    try:
        filtered = deflate.zlib_decompress(chunks[1], size)
    except deflate.DeflateError:
        return None
    if len(filtered) != size:
        return None
    rows = np.empty((height, width * pixel_bytes), np.uint8)
    if not _undo_filters(np.frombuffer(filtered, np.uint8).reshape(height, -1), pixel_bytes, rows):
        return None
    values = rows.view(np.uint8 if depth == 8 else ">u2")
    return Pixels(values.reshape(height, width, 3) if color_type == RGB else values, color_type)


def encode_ids(ids: np.ndarray, palette: bytes) -> tuple[bytes, bytes]:
    """Encodes a label map twice, compressing the pixels once.

    Args:
        ids: uint8 [H, W].
        palette: 768 bytes, R, G and B of every value.

    Returns:
        A grey and a palette PNG.
    """
    height, width = ids.shape
    rows = np.zeros((height, 1 + width), np.uint8)  # a row begins with its filter type; 0, none, compresses labels best
    rows[:, 1:] = ids
    pixels = _chunk(b"IDAT", deflate.zlib_compress(rows, 3))

    def file(color_type: int, *extra: bytes) -> bytes:
        header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0))
        return b"".join((SIGNATURE, header, *extra, pixels, _chunk(b"IEND", b"")))

    return file(GREY), file(PALETTE, _chunk(b"PLTE", palette))


def _chunk(kind: bytes, data: bytes | bytearray) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", deflate.crc32(data, deflate.crc32(kind)))


def _chunks(content: bytes) -> tuple[tuple[int, ...], bytes] | None:
    """Returns the IHDR fields and the compressed pixels; None if a chunk is damaged, missing or unsupported."""
    if not content.startswith(SIGNATURE):
        return None
    view = memoryview(content)
    position, kind, header, pixels = len(SIGNATURE), b"", None, []
    for _ in range(_MOST_CHUNKS):
        if kind == b"IEND":
            return (header, b"".join(pixels)) if header else None
        if position + 12 > len(content):
            return None
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            return None
        if deflate.crc32(view[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            return None
        kind, data = content[position + 4 : position + 8], view[position + 8 : end]
        if kind == b"IHDR" and length == 13:
            header = struct.unpack(">IIBBBBB", data)
        elif kind == b"IDAT":
            pixels.append(data)
        elif kind in (b"eXIf", b"acTL"):
            return None
        position = end + 4
    return None


@compiled_exactly
def _undo_filters(filtered: np.ndarray, pixel_bytes: int, rows: np.ndarray) -> bool:
    """Undoes the row filters: uint8 [H, 1 + n] → uint8 [H, n]; False: unknown filter type."""
    above = np.zeros(rows.shape[1], np.uint8)
    for y in range(len(rows)):
        kind, coded, row = filtered[y, 0], filtered[y, 1:], rows[y]
        if kind == 0:
            row[:] = coded
        elif kind == 2:
            for i in range(len(row)):
                row[i] = coded[i] + above[i]
        elif kind in (1, 3, 4):
            _undo_row(kind, coded, above, pixel_bytes, row)
        else:
            return False
        above = row
    return True


@compiled_exactly
def _undo_row(kind: int, coded: np.ndarray, above: np.ndarray, pixel_bytes: int, row: np.ndarray) -> None:
    """Undoes a filter that depends on the pixel to the left: 1 Sub, 3 Average, 4 Paeth."""
    if kind == 4 and pixel_bytes == 3:
        _undo_paeth_rgb(coded, above, row)
        return
    for channel in range(pixel_bytes):
        left, corner = np.int32(0), np.int32(0)
        for i in range(channel, len(row), pixel_bytes):
            up = np.int32(above[i])
            if kind == 1:
                predicted = left
            elif kind == 3:
                predicted = (left + up) >> 1
            elif up == corner:  # nearly always in label maps; a correctly predicted branch is free
                predicted = left
            else:
                predicted = _paeth(left, up, corner)
            left, corner = (coded[i] + predicted) & 255, up
            row[i] = left


@compiled_exactly
def _undo_paeth_rgb(coded: np.ndarray, above: np.ndarray, row: np.ndarray) -> None:
    """Undoes Paeth for RGB, most photographs' filter; the channels' dependency chains run interleaved."""
    red = green = blue = red_corner = green_corner = blue_corner = np.int32(0)
    for i in range(0, len(row), 3):
        red_up, green_up, blue_up = np.int32(above[i]), np.int32(above[i + 1]), np.int32(above[i + 2])
        red = (coded[i] + _paeth(red, red_up, red_corner)) & 255
        green = (coded[i + 1] + _paeth(green, green_up, green_corner)) & 255
        blue = (coded[i + 2] + _paeth(blue, blue_up, blue_corner)) & 255
        row[i], row[i + 1], row[i + 2] = red, green, blue
        red_corner, green_corner, blue_corner = red_up, green_up, blue_up


@compiled_exactly
def _paeth(left: np.int32, up: np.int32, corner: np.int32) -> np.int32:
    """Returns the neighbour nearest to left + up − corner, without branches."""
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    nearer = up if to_up <= to_corner else corner
    return left if to_left <= min(to_up, to_corner) else nearer
