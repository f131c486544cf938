"""Text output: robust standard streams, escaping of unprintable names, wording of messages, progress."""

import errno
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TextIO

_CLOSED = (errno.EPIPE, errno.EIO, errno.ECONNRESET)
"""Errors of a write to a pipe, terminal or connection whose reader has exited."""

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, surrogates, line and paragraph separators."""


def encoded(text: str) -> bytes:
    r"""Encodes text as UTF-8, for every text file.

    Surrogates, which Python uses for the bytes of file names that are not UTF-8, are written as `\udc80` to `\udcff`;
    JSON reads them back unchanged.
    """
    return text.encode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    r"""Escapes control characters, line separators and surrogates, such as `\n`, `\x1b`, `\udcd6`."""
    return "".join(
        one.encode("unicode_escape").decode("ascii") if unicodedata.category(one) in _UNPRINTABLE else one
        for one in text
    )


class _Outlet(io.FileIO):
    """A standard stream that discards all output after the first failed write.

    Attributes:
        lost: the error of that write; None if only the reader has exited.
    """

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _CLOSED:
                self.lost = error
            # Replaces the descriptor too, so that libraries that write to it directly do not fail.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def nowhere() -> TextIO:
    """Opens a stream that discards everything."""
    return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")


_outlets: dict[str, _Outlet] = {}


def open_streams() -> None:
    """Makes writing to stdout and stderr safe.

    A reader that exits (`| head`) does not end the program; characters that the stream's encoding lacks are escaped; a
    stream that is closed at start (`>&-`) discards everything, and its descriptor is occupied, so that no file opened
    later receives a library's output.
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
    """Flushes stdout and stderr. Returns why output was lost, such as a full disk; None: nothing was lost."""
    for name in _outlets:
        getattr(sys, name).flush()
    return next((os.strerror(outlet.lost.errno or 0) for outlet in _outlets.values() if outlet.lost), None)


_wording: dict[str, str] = {}


def speak(wording: Mapping[str, str]) -> None:
    """Sets the running command's wording, so that errors name its own flags.

    Args:
        wording: replacements of `clan train` flags, dotted options or phrases in error messages.
    """
    _wording.clear()
    _wording.update(wording)


def worded(message: str, wording: Mapping[str, str] = _wording) -> str:
    """Returns a message on one line, with phrases replaced by `wording` (default: that set by `speak`)."""
    message = one_line(" ".join(message.split()))
    if not wording:
        return message
    known = "|".join(re.escape(phrase) for phrase in sorted(wording, key=len, reverse=True))
    return re.sub(rf"(?<![\w.-])({known})(?![\w-]|\.\w)", lambda found: wording[found[1]], message)


def write_unbuffered(sentence: str) -> None:
    """Writes a line to stderr without a buffer, as a signal handler must: it may have interrupted a buffered write."""
    with suppress(OSError):
        os.write(2, encoded(f"{sentence}\n"))


class Advance(Protocol):
    """Reports progress; the value of `with progress(…)`."""

    def __call__(self, n: int = 1, *, total: int | None = None) -> None:
        """Counts `n` further steps.

        Args:
            n: steps done since the last call.
            total: number of steps, if known only now.
        """


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Advance]:
    """Shows progress on stderr: a bar on a terminal, otherwise a line every 30 s.

    Args:
        description: the activity, such as "evaluating".
        total: number of steps; None: unknown.
    """
    with (_bar if sys.stderr.isatty() else _lines)(description, total) as advance:
        yield advance


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Advance]:
    # Imported here: slow to import, and logs and `--help` do not need it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # An image may take half a minute: rich's default, an estimate over 30 s, would fluctuate.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bars:
        bar = bars.add_task(description, total=total)

        def advance(n: int = 1, *, total: int | None = None) -> None:
            bars.update(bar, advance=n, total=total)

        yield advance


class Pace:
    """Decides when a log gets its next line: first after 5 s, then every 30 s."""

    first_after = 5.0
    every = 30.0

    def __init__(self) -> None:
        self._began = monotonic()
        self._next = self._began + self.first_after

    @property
    def elapsed(self) -> float:
        """Seconds since construction."""
        return monotonic() - self._began

    def due(self) -> bool:
        """Returns whether a line is due; if so, the next is due after `every` seconds."""
        if monotonic() < self._next:
            return False
        self._next = monotonic() + self.every
        return True


@contextmanager
def _lines(description: str, total: int | None) -> Iterator[Advance]:
    """Progress as lines for a log; none for jobs of less than 5 s."""
    pace, done, steps = Pace(), 0, total

    def write(remark: str) -> None:
        count = f"{done}" if steps is None else f"{done}/{steps}"
        print(", ".join(filter(None, [f"{description} {count}", remark])), file=sys.stderr, flush=True)

    def advance(n: int = 1, *, total: int | None = None) -> None:
        nonlocal done, steps
        done, steps = done + n, total or steps
        if pace.due():
            known = steps is not None and done > 0
            write(f"{clock(pace.elapsed / done * (steps - done))} left" if known else "")  # pyright: ignore[reportOptionalOperand]

    yield advance
    if pace.elapsed >= pace.first_after:
        write(f"done in {clock(pace.elapsed)}")


def clock(seconds: float) -> str:
    """Formats seconds as h:mm:ss, from a day on with "2d " in front; negative ones as 0."""
    days, rest = divmod(max(0, round(seconds)), 86400)
    return (f"{days}d " if days else "") + str(timedelta(seconds=rest))
