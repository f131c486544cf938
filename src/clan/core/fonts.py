r"""Drawing text in any script: finds installed fonts for its characters and escapes characters that none has.

Pillow's built-in font has only Latin letters. Characters without a font are written as Python escapes, `\u8def`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont

CHINESE = "路"
"""A character that every Chinese font has."""

PROBE_SIZE = 16
_MOST_FONTS = 150
_ABSENT = "\U0010fffd"  # private use: fonts draw their box for missing characters

# Preference without fontconfig: fonts with many characters first, regular styles before others.
_WIDE = ("cjk", "wqy", "droidsansfallback", "msyh", "pingfang", "hiragino", "simhei", "simsun", "noto", "unifont")
_STYLED = ("bold", "italic", "oblique", "black", "light", "thin", "mono", "serif")

_FOLDERS = {
    "linux": ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts"),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": (r"%WINDIR%\Fonts", r"%LOCALAPPDATA%\Microsoft\Windows\Fonts"),
}


def text_width(text: str, size: int) -> float:
    """Returns the width in pixels of a line drawn by `draw_text`."""
    return sum(font.getlength(piece) for piece, font in _pieces(text, size))


def draw_text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill: tuple[int, int, int]
) -> None:
    """Draws a line of text.

    Args:
        draw: the picture.
        place: left and top of the line, in pixels.
        text: any text; surrogates (file names that are not UTF-8) are escaped.
        size: font size in pixels.
        fill: colour, R, G and B of 0…255.
    """
    left, top = place
    baseline = top + _own(size).getmetrics()[0]
    for piece, font in _pieces(text, size):
        draw.text((left, baseline), piece, fill=fill, font=font, anchor="ls")
        left += font.getlength(piece)


def writable(text: str, *first: Path) -> str:
    """Escapes the characters of a text that no font has.

    Args:
        text: any text.
        first: font files to draw with, besides Pillow's and the installed ones.
    """
    return "".join(_writable_character(character, first) for character in text)


def fonts_for(texts: Sequence[str], first: Path) -> list[Path]:
    """Returns the installed font files that have those characters of `texts` that the font file `first` lacks."""
    needed = (font_with(c) for c in sorted({*"".join(texts)} - {" "}) if c.isprintable() and not _has(first, 0, c))
    return list(dict.fromkeys(path for path, _ in filter(None, needed)))


@cache
def font_with(character: str) -> tuple[Path, int] | None:
    """Returns the first installed font file, and the index of its face, with a character; None: no font has it."""
    return next(((path, face) for path, face in installed() if _has(path, face, character)), None)


@cache
def installed() -> tuple[tuple[Path, int], ...]:
    """Lists the installed font files with the index of a face, best for Chinese first."""
    if program := shutil.which("fc-match"):
        command = [program, "--sort", "--format", "%{file}\t%{index}\n", "sans:lang=zh-cn"]
        try:
            listed = subprocess.run(command, capture_output=True, timeout=10, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            listed = b""
        lines = [line.rpartition("\t") for line in os.fsdecode(listed).splitlines()]
        if found := [(Path(path), int(face)) for path, _, face in lines if face.isdecimal() and int(face) < 1 << 16]:
            return tuple(found[:_MOST_FONTS])
    return tuple((path, 0) for path in sorted(_files(), key=_usefulness)[:_MOST_FONTS])


def _files() -> Iterator[Path]:
    for folder in _FOLDERS.get(sys.platform, _FOLDERS["linux"]):
        for parent, _, names in os.walk(os.path.expanduser(os.path.expandvars(folder))):  # noqa: PTH111
            yield from (Path(parent, name) for name in names if name.lower().endswith((".ttf", ".ttc", ".otf")))


def _usefulness(path: Path) -> tuple[int, int, str]:
    name = path.name.lower()
    wide = next((rank for rank, word in enumerate(_WIDE) if word in name), len(_WIDE))
    return wide, sum(word in name for word in _STYLED), str(path)


def _pieces(text: str, size: int) -> Iterator[tuple[str, Font]]:
    """Splits a text into pieces that one font can draw, each with its font."""
    piece, current = "", None
    for character in text:
        written = _writable_character(character, ())
        source = None if written != character or _own_has(character) else font_with(character)
        # A space does not end a piece: right-to-left text must be laid out as a whole.
        if piece and source != current and not (character == " " and current is not None):
            yield piece, _open(current, size)
            piece = ""
        if not piece or character != " ":
            current = source
        piece += written
    if piece:
        yield piece, _open(current, size)


@cache
def _writable_character(character: str, first: tuple[Path, ...]) -> str:
    known = _own_has(character) or any(_has(path, 0, character) for path in first) or font_with(character)
    if character.isprintable() and known:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


@cache
def _own(size: int) -> Font:
    font = ImageFont.load_default(size)
    assert isinstance(font, Font), "Pillow was built without FreeType"
    return font


def _open(source: tuple[Path, int] | None, size: int) -> Font:
    return _own(size) if source is None else _face(*source, size)


@lru_cache(maxsize=16)  # each holds its file open
def _face(path: Path, face: int, size: int) -> Font:
    return ImageFont.truetype(str(path), size, index=face)


@cache
def _own_has(character: str) -> bool:
    return character == " " or (character.isprintable() and _draws(_own(PROBE_SIZE), character))


@cache
def _has(path: Path, face: int, character: str) -> bool:
    if not character.isprintable():
        return False
    try:
        return _draws(_face(path, face, PROBE_SIZE), character)
    except (OSError, ValueError):  # a bitmap font, or a damaged file
        return False


def _draws(font: Font, character: str) -> bool:
    """Whether a font has a character: its glyph differs from that of a missing character."""
    mask: Any
    lacking: Any
    mask, lacking = font.getmask(character), font.getmask(_ABSENT)
    return mask.getbbox() is not None and (mask.size, bytes(mask)) != (lacking.size, bytes(lacking))
