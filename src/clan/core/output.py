"""What this program writes as text: standard streams that outlive their readers, and names that are no text."""

import errno
import io
import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET)
"""What writing gives when the reader of a pipe, a terminal or a connection has left."""

_UNSEEN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, half characters, and ends of lines and paragraphs."""


def encoded(text: str) -> bytes:
    r"""Text as UTF-8, for every text file.

    Bytes of a file's name that are not UTF-8 stand in Python's text as half characters; they are written as `\udc80` to
    `\udcff`, which JSON reads back as they were.
    """
    return text.encode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    r"""Text in which nothing ends the line, moves a cursor or is no character; `\n`, `\x1b`, `\udcd6` stand for it."""
    return "".join(
        one.encode("unicode_escape").decode("ascii") if unicodedata.category(one) in _UNSEEN else one for one in text
    )


class _Outlet(io.FileIO):
    """A standard stream that drops what it cannot write, after the first failure everything.

    Attributes:
        lost: what made it fail, unless its reader has simply gone.
    """

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _GONE:
                self.lost = error
            # In the stream's place, so that libraries that write by themselves find it open.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def nowhere() -> TextIO:
    """A stream that takes everything without effect."""
    return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")


_outlets: dict[str, _Outlet] = {}


def open_streams() -> None:
    """Makes the standard streams safe to write to.

    A reader that goes away (`| head`) ends nothing, what the stream's encoding lacks is written as an escape, and a
    stream that was closed from the start (`>&-`) takes everything without effect. Its number is then occupied, so that
    no file that is opened later gets what a library writes to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO())
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream, original = getattr(sys, name), getattr(sys, f"__{name}__")
        if stream is None:
            setattr(sys, name, nowhere())
        elif stream is original and name not in _outlets:
            stream.flush()
            _outlets[name] = _Outlet(number, "wb", closefd=False)
            safe = io.TextIOWrapper(
                io.BufferedWriter(_outlets[name]),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, safe)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def lost_output() -> str | None:
    """Why output is missing that nobody meant to miss, such as on a full disk; None: it is not."""
    for name in _outlets:
        getattr(sys, name).flush()
    return next((os.strerror(outlet.lost.errno or 0) for outlet in _outlets.values() if outlet.lost), None)


_wording: dict[str, str] = {}


def speak(wording: Mapping[str, str]) -> None:
    """Sets what the command at hand calls things, so that errors name its own flags.

    Args:
        wording: what to write for flags as `clan train` has them, for dotted options, or for whole phrases.
    """
    _wording.clear()
    _wording.update(wording)


def worded(message: str, wording: Mapping[str, str] = _wording) -> str:
    """A message on one line, in the command's own words or those that are given."""
    message = one_line(" ".join(message.split()))
    if not wording:
        return message
    known = "|".join(re.escape(phrase) for phrase in sorted(wording, key=len, reverse=True))
    return re.sub(rf"(?<![\w.-])({known})(?![\w-]|\.\w)", lambda found: wording[found[1]], message)
