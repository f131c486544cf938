"""Requests that a server must survive: bombs, truncated and damaged files, wrong kinds, polyglots, and raw HTTP."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.data.stored import chunk, png, tiff

RANDOM = np.random.default_rng(11)
NOISE = RANDOM.integers(0, 256, (24, 32, 3)).astype(np.uint8)


def saved(kind, image=None, **options):
    content = io.BytesIO()
    (image or Image.fromarray(NOISE)).save(content, kind, **options)
    return content.getvalue()


def header(width, height, bits=8, color_type=2):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))


SIGNATURE, END = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
GOOD = png(NOISE, 8, 2)
JPEG = saved("JPEG")


def bomb(width, height):
    """A small file that says it has many pixels, and has them: all black."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + 3 * width)) for _ in range(min(height, 2000))) + rows.flush()
    return SIGNATURE + header(width, height) + chunk(b"IDAT", packed) + END


def text_bomb():
    return GOOD[:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64 << 20))) + GOOD[33:]


def half(content):
    return content[: len(content) // 2]


def flipped(content, seed):
    changed = bytearray(content)
    for place in np.random.default_rng(seed).integers(8, len(content), 12):
        changed[place] ^= 1 << int(place) % 8
    return bytes(changed)


FILES = {
    # name: the body and the kinds of answer that it may get
    "empty": (b"", {400}),
    "one byte": (b"\x89", {415}),
    "text": (b"hello", {415}),
    "zeros": (bytes(100_000), {415}),
    "noise": (RANDOM.bytes(100_000), {415}),
    "html": (b"<!DOCTYPE html><script>alert(1)</script>", {415}),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', {415}),
    "svg that reads a file": (
        b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg">&x;</svg>',
        {415},
    ),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n", {415}),
    "pdf": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", {415}),
    "zip": (b"PK\x03\x04" + bytes(200), {415}),
    "gif": (saved("GIF"), {415}),
    "icon": (saved("ICO"), {415}),
    "pickle": (b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.", {415}),
    "path": (b"../../../../etc/passwd", {415}),
    "json": (b'{"image": "/etc/passwd"}', {415}),
    "png of many pixels": (bomb(30_000, 30_000), {413, 415}),
    "png over the limit of pixels": (bomb(5000, 4000), {413}),
    "png that lies about its size": (
        SIGNATURE + header(4000, 4000) + chunk(b"IDAT", zlib.compress(b"\0")) + END,
        {415},
    ),
    "png of no width": (SIGNATURE + header(0, 10) + chunk(b"IDAT", zlib.compress(b"\0")) + END, {415}),
    "png of 2³¹ columns": (SIGNATURE + header(2**31 - 1, 1) + END, {413, 415}),
    "png of text that inflates": (text_bomb(), {200, 415}),
    "png cut within its pixels": (half(GOOD), {415}),
    "png without rows": (
        SIGNATURE + header(32, 24) + chunk(b"IDAT", zlib.compress(bytes(97 * 12))) + END,
        {415},
    ),
    "png with a wrong checksum": (GOOD[:-20] + b"\0\0\0\0" + GOOD[-16:], {415}),
    "png with nothing but its signature": (SIGNATURE, {415}),
    "png with no end": (GOOD[:-12], {415, 200}),
    "png with a script behind it": (GOOD + b"<script>alert(1)</script>", {200, 415}),
    "png with flipped bits": (flipped(GOOD, 1), {200, 415}),
    "animated png": (saved("PNG", save_all=True, append_images=[Image.new("RGB", (32, 24))]), {415}),
    "png of numbers": (png(NOISE[:, :, 0].astype(int) * 257, 16), {200}),
    "jpeg cut": (half(JPEG), {415}),
    "jpeg and zip": (JPEG + b"PK\x03\x04" + bytes(50), {200, 415}),
    "jpeg and javascript": (b"\xff\xd8\xff\xfe\x00\x10/*" + JPEG[2:] + b"*/alert(1)", {200, 415}),
    "jpeg with flipped bits": (flipped(JPEG, 2), {200, 415}),
    "jpeg that says 65535x65535": (
        JPEG.replace(struct.pack(">HH", 24, 32), struct.pack(">HH", 65535, 65535), 1),
        {413, 415},
    ),
    "jpeg with exif that never ends": (
        saved("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(40)),
        {200, 415},
    ),
    "webp cut": (half(saved("WEBP")), {415}),
    "animated webp": (saved("WEBP", save_all=True, append_images=[Image.new("RGB", (32, 24))]), {415}),
    "bmp cut": (half(saved("BMP")), {415}),
    "bmp that lies about its size": (
        saved("BMP")[:18] + struct.pack("<ii", 100_000, 100_000) + saved("BMP")[26:],
        {413, 415},
    ),
    "tiff of pages": (saved("TIFF", save_all=True, append_images=[Image.new("RGB", (32, 24))]), {415}),
    "tiff of fractions": (tiff(NOISE[:, :, 0] / 255, 32, sample_format=3), {415}),
    "tiff whose directory is itself": (b"II*\0\x08\0\0\0\x01\0" + bytes(12) + b"\x08\0\0\0", {415}),
    "tiff that starts behind its end": (b"II*\0\xff\xff\xff\x7f", {415}),
    "tiff with flipped bits": (flipped(tiff(NOISE, 8, 2), 3), {200, 413, 415}),
    "too many bytes": (GOOD + bytes(3_000_000), {413}),
    "one pixel": (png(NOISE[:1, :1], 8, 2), {200}),
    "a strip": (png(NOISE[:1].repeat(60, 1), 8, 2), {200}),
}

MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="../../a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n" + GOOD + b"\r\n--x--\r\n"
)


def request(body=GOOD, *lines, method="POST", path="/predict", host="localhost", length=None):
    """A request as bytes."""
    size = len(body) if length is None else length
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {size}", "Connection: close", *lines]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


RAW = {
    # name: what is sent, and the statuses that may come back; None: the connection ends without an answer
    "multipart": (request(MULTIPART, "Content-Type: multipart/form-data; boundary=x"), {415}),
    "multipart without its boundary": (request(MULTIPART, "Content-Type: multipart/form-data"), {415}),
    "form": (request(b"image=%2Fetc%2Fpasswd", "Content-Type: application/x-www-form-urlencoded"), {415}),
    "json": (request(b"{}", "Content-Type: application/json"), {415}),
    "kind of nonsense": (request(GOOD, "Content-Type: \xff\xfe/\x01x"), {400, 415}),
    "unknown wish": (request(GOOD, path="/predict?want=secrets"), {400}),
    "path upwards": (request(b"", method="GET", path="/../../../../etc/passwd"), {404}),
    "path upwards, encoded": (request(b"", method="GET", path="/%2e%2e/%2e%2e/etc/passwd"), {404}),
    "path of a module": (request(b"", method="GET", path="/viewer.js%00.png"), {404}),
    "get": (request(b"", method="GET"), {405}),
    "put": (request(GOOD, method="PUT"), {405}),
    "unknown method": (request(GOOD, method="BREW"), {405}),
    "method of 9 kB": (request(GOOD, method="A" * 9000), {400, 405}),
    "another host": (request(GOOD, host="evil.example"), {403}),
    "host of nonsense": (request(GOOD, host="[::1"), {400, 403}),
    "host with a name inside": (request(GOOD, host="localhost@evil.example"), {403}),
    "another origin": (request(GOOD, "Origin: http://evil.example"), {403}),
    "origin null": (request(GOOD, "Origin: null"), {403}),
    "cross-site": (request(GOOD, "Sec-Fetch-Site: cross-site"), {403}),
    "two hosts": (request(GOOD, "Host: evil.example"), {400, 403}),
    "no host": (b"GET / HTTP/1.0\r\n\r\n", {400, 403}),
    "huge headers": (request(GOOD, "X: " + "a" * 200_000), {400, 431, None}),
    "many headers": (request(GOOD, *(f"X{number}: 1" for number in range(5000))), {200, 400, 431, None}),
    "negative length": (request(GOOD, length=-5), {400}),
    "length of nonsense": (request(GOOD, length="1e9"), {400}),
    "length of a petabyte": (request(GOOD, length=10**15), {413}),
    "two lengths": (request(GOOD, "Content-Length: 3"), {400}),
    "length and chunks": (request(GOOD, "Transfer-Encoding: chunked"), {400}),
    "wrong chunks": (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n0\r\n\r\n",
        {400, None},
    ),
    "no http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400, None}),
    "websocket": (
        request(b"", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13", method="GET"),
        {400, 404, 405, 426},
    ),
}
