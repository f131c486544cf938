"""Image files written by hand, of kinds that libraries do not write: PNG, TIFF and BMP of any bits."""

import struct
import zlib

import numpy as np


def packed(values, bits, step=1):
    """Rows of numbers, [H, n], as bytes: so many bits each, rows filled up to `step` bytes."""
    rows = []
    for row in np.asarray(values):
        text = "".join(format(int(value), f"0{bits}b") for value in row)
        length = -(-len(text) // (8 * step)) * step
        rows.append(int(text.ljust(8 * length, "0"), 2).to_bytes(length, "big"))
    return rows


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values, bits=8, color_type=0, *extra, interlaced=False):
    """Any PNG; `extra` are chunks, such as `chunk(b"sBIT", …)`, before the pixels."""
    values = np.asarray(values)
    height, width = values.shape[:2]
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7: first column, first row, steps
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = []
    for left, top, across, down in passes:
        part = values[top::down, left::across]
        if part.size:
            rows += [b"\0" + row for row in packed(part.reshape(len(part), -1), bits)]
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + pixels + chunk(b"IEND", b"")


def tiff(values, bits=8, photometric=1, *, order="<", tags=(), sample_format=1, palette=None):
    """Any TIFF without compression; `tags` are pairs of a number and the shorts of a tag."""
    values = np.asarray(values)
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    if bits in (8, 16, 32):
        kind = {1: "u", 2: "i", 3: "f"}[sample_format]
        data = values.astype(f"{order}{kind}{bits // 8}").tobytes()
    else:
        data = b"".join(packed(values.reshape(height, -1), bits))
    fields = {
        **{256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [photometric], 273: [8]},
        **{277: [channels], 278: [height], 279: [len(data)], 339: [sample_format] * channels},
        **({320: palette} if palette else {}),
        **dict(tags),
    }
    directory = 8 + len(data) + len(data) % 2
    behind, entries = b"", b""
    for tag, numbers in sorted(fields.items()):
        field = struct.pack(f"{order}{len(numbers)}H", *numbers).ljust(4, b"\0")
        if len(field) > 4:
            position = directory + 2 + 12 * len(fields) + 4 + len(behind)
            behind += field
            field = struct.pack(f"{order}I", position)
        entries += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + field
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, directory)
    count = struct.pack(f"{order}H", len(fields))
    return start + data + b"\0" * (len(data) % 2) + count + entries + bytes(4) + behind


def bmp(values, bits, palette):
    """A BMP with a palette of RGB triples."""
    height, width = np.shape(values)
    rows = b"".join(reversed(packed(values, bits, step=4)))
    colors = b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    start = 54 + len(colors)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(rows), 2835, 2835, len(palette), 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + colors + rows
