"""Images of absurd sizes are refused before anything of their size is made, and so are other formats."""

import os
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from clan.core import png
from clan.core.errors import DataError
from clan.data.encodings import read_codes, stored_mode
from clan.data.image_files import image_size, read_id_label, read_rgb
from clan.datasets import packaged


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height, *, depth=8, color_type=2):
    """A small PNG that claims, with right checksums, to be large, and holds a good many zeros."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**7), 9)) + chunk(b"IEND", b"")


SIZES = [(20_000, 20_000), (9_000, 9_000), (2**31 - 1, 1), (40_000, 1), (1, 40_000), (2**31 - 1, 2**31 - 1)]
READERS = {
    "image": read_rgb,
    "label": read_id_label,
    "described label": lambda path: read_codes(path, packaged("synthia")),
    "size": image_size,
    "encoding": stored_mode,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reader", READERS)
def test_an_image_of_absurd_size_is_refused_unread(tmp_path, size, reader):
    path = tmp_path / "bomb.png"
    for kind in ({}, {"color_type": 0}, {"depth": 16}):
        path.write_bytes(bomb(*size, **kind))
        tracemalloc.start()
        with pytest.raises(DataError, match=r"bomb\.png"):
            READERS[reader](path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


def test_the_message_says_how_large_and_what_is_allowed(tmp_path):
    (tmp_path / "bomb.png").write_bytes(bomb(9_000, 9_000))
    with pytest.raises(DataError, match="has 9000x9000 pixels, over the limit of 67108864 in all and 32768 a side"):
        read_rgb(tmp_path / "bomb.png")


def test_a_file_that_is_absurdly_large_is_refused(tmp_path):
    with (tmp_path / "hole.png").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(DataError, match="has 2147483648 bytes, over the limit"):
        read_rgb(tmp_path / "hole.png")


def test_formats_of_other_trades_are_not_opened(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "page.eps")
    (tmp_path / "page.eps").rename(tmp_path / "page.png")
    with pytest.raises(DataError, match=r"page\.png cannot be decoded"):
        read_rgb(tmp_path / "page.png")


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "tiff"])
def test_the_usual_formats_are(tmp_path, suffix):
    Image.new("RGB", (8, 6), (10, 200, 30)).save(tmp_path / f"image.{suffix}")
    assert read_rgb(tmp_path / f"image.{suffix}").size == (8, 6)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_without_waiting_or_reading(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(DataError, match=rf"{path.name} is (no ordinary file|a folder)"):
            READERS[reader](path)


def test_a_png_of_countless_empty_pieces_takes_no_memory(tmp_path):
    content = bomb(8, 8)
    content = content[:-12] + chunk(b"IDAT", b"") * 200_000 + content[-12:]
    tracemalloc.start()
    assert png.decode(content) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15_000_000
