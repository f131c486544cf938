import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clan.core import png
from clan.datasets.labels import CITYSCAPES

KINDS = {"grey": (8, png.GREY, 1), "palette": (8, png.PALETTE, 1), "rgb": (8, png.RGB, 3), "rgb16": (16, png.RGB, 6)}
"""Depth, colour type and bytes per pixel."""


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def file(kind, width, rows, interlaced=0):
    """A PNG of rows as they are stored, each with the number of its filter before it."""
    depth, color_type, _ = KINDS[kind]
    header = struct.pack(">IIBBBBB", width, len(rows), depth, color_type, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if kind == "palette" else b""
    compressed = zlib.compress(rows.tobytes())
    middle = len(compressed) // 2
    pixels = chunk(b"IDAT", compressed[:middle]) + chunk(b"IDAT", compressed[middle:])
    return png.SIGNATURE + chunk(b"IHDR", header) + palette + pixels + chunk(b"IEND", b"")


def stored_rows(kind, width, height, seed, values=256):
    """Any bytes are valid rows, under any filters: few different ones look like a label's, many like noise."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, values, (height, 1 + width * KINDS[kind][2])).astype(np.uint8)
    rows[:, 0] = random.integers(0, 5, height)
    return rows


@settings(deadline=None)  # the first example loads compiled loops
@given(
    kind=st.sampled_from(sorted(KINDS)),
    width=st.integers(1, 40),
    height=st.integers(1, 12),
    seed=st.integers(0, 2**31),
    values=st.sampled_from([1, 2, 3, 256]),
)
def test_any_rows_under_any_filters_decode_as_with_the_general_libraries(kind, width, height, seed, values):
    content = file(kind, width, stored_rows(kind, width, height, seed, values))
    pixels = png.decode(content)
    assert pixels is not None
    assert pixels.color_type == KINDS[kind][1]
    if kind == "rgb16":  # Pillow keeps the high bytes only
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
    else:
        expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(pixels.values, expected)


NOTES = {b"sBIT": bytes([5, 5, 5]), b"tRNS": bytes(6), b"gAMA": bytes(4), b"iCCP": b"a\0\0", b"tEXt": b"Comment\0tall"}


@settings(deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), notes=st.sets(st.sampled_from(sorted(NOTES))), seed=st.integers(0, 2**31))
def test_what_a_file_says_beside_its_pixels_changes_none(kind, notes, seed):
    content = file(kind, 7, stored_rows(kind, 7, 5, seed))
    header = len(png.SIGNATURE) + 25
    noted = content[:header] + b"".join(chunk(name, NOTES[name]) for name in sorted(notes)) + content[header:]
    plain, pixels = png.decode(content), png.decode(noted)
    assert plain is not None and pixels is not None
    np.testing.assert_array_equal(pixels.values, plain.values)


@pytest.mark.parametrize("note", [b"eXIf", b"acTL"])
def test_a_file_that_may_be_turned_or_animated_is_left_to_the_general_readers(note):
    content = file("rgb", 4, stored_rows("rgb", 4, 4, seed=0))
    for position in (len(png.SIGNATURE) + 25, len(content) - 12):
        assert png.decode(content[:position] + chunk(note, bytes(8)) + content[position:]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_byte_and_no_missing_end_is_accepted(kind):
    content = file(kind, 3, stored_rows(kind, 3, 2, seed=0))
    assert png.decode(content) is not None
    for position in range(len(content)):
        for bit in (1, 128):
            damaged = bytearray(content)
            damaged[position] ^= bit
            assert png.decode(bytes(damaged)) is None, f"byte {position}"
        assert png.decode(content[:position]) is None, f"{position} bytes"


def test_what_is_not_plain_is_left_to_the_general_readers():
    rows = stored_rows("rgb", 4, 4, seed=0)
    assert png.decode(file("rgb", 4, rows, interlaced=1)) is None
    assert png.decode(file("rgb", 5, rows)) is None, "too few bytes"
    assert png.decode(file("rgb", 4, rows[:, :-1])) is None
    assert png.decode(file("rgb", 2**30, rows)) is None, "absurdly large"
    rows[2, 0] = 5
    assert png.decode(file("rgb", 4, rows)) is None, "no such filter"
    small = io.BytesIO()
    Image.new("1", (4, 4)).save(small, "PNG")
    assert png.decode(small.getvalue()) is None


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_ids_and_their_colours_are_read_back_by_every_library(height, width, seed):
    ids = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    files = png.encode_ids(ids, bytes(CITYSCAPES.palette()))
    grey, colored = (Image.open(io.BytesIO(content)) for content in files)
    assert (grey.mode, colored.mode) == ("L", "P")
    np.testing.assert_array_equal(np.asarray(grey), ids)
    np.testing.assert_array_equal(np.asarray(colored), ids)
    np.testing.assert_array_equal(np.asarray(colored.convert("RGB")), CITYSCAPES.colorize(ids))
    by_opencv = [cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) for content in files]
    np.testing.assert_array_equal(by_opencv[0], ids)
    np.testing.assert_array_equal(by_opencv[1][:, :, ::-1], CITYSCAPES.colorize(ids))
    for content in files:
        pixels = png.decode(content)
        assert pixels is not None
        np.testing.assert_array_equal(pixels.values, ids)
