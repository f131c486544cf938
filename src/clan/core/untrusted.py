"""What all readers of files from strangers share: getting the bytes without harm, and quoting them."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

# Not to wait for a pipe's writer; and Windows would translate line ends.
_ALWAYS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class UnfitFile(Exception):
    """The file is not, or must not be, read; the message goes on from its name and holds the remedy."""


def quoted(text: str) -> str:
    """A file's own words, fit for a message: one short line without control characters."""
    escaped = text[:121].encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= 120 else escaped[:117] + "..."


def read_whole(path: Path, limit: int) -> bytes:
    """The content of an ordinary file, links followed, which has 1 to `limit` bytes.

    Neither a pipe that nobody writes to, nor a device without end, nor a file that grows meanwhile can make
    this wait or take more memory.

    Raises:
        UnfitFile: it is a folder, a pipe, a device, empty, or larger.
        OSError: it is missing or must not be read.
    """
    file, size = _open_ordinary(path)
    with file:
        if size > limit:
            raise UnfitFile(f"has {size} bytes, over the limit of {limit}: is it the right file?")
        content = file.read(size + 1)
    if not content:
        raise UnfitFile("is empty: download or save it again")
    if len(content) != size:
        raise UnfitFile("is still being written: wait until it is complete")
    return content


def read_start(path: Path, limit: int) -> bytes:
    """The first bytes of an ordinary file, at most `limit`; raises what `read_whole` does."""
    file, _ = _open_ordinary(path)
    with file:
        return file.read(limit)


def _open_ordinary(path: Path) -> tuple[BinaryIO, int]:
    """An ordinary file, and how many bytes it has."""
    require_ordinary(path.stat().st_mode)  # first: to open a device may already do something
    file = os.fdopen(os.open(path, os.O_RDONLY | _ALWAYS), "rb")
    try:
        status = os.fstat(file.fileno())
        require_ordinary(status.st_mode)  # again: another one may have taken its place
    except UnfitFile:
        file.close()
        raise
    return file, status.st_size


def require_ordinary(mode: int) -> None:
    """Raises the UnfitFile that says what a file of this mode (of `os.stat`) is, if it is no ordinary one."""
    if stat.S_ISDIR(mode):
        raise UnfitFile("is a folder: name the file in it")
    if not stat.S_ISREG(mode):
        raise UnfitFile("is no ordinary file: copy its content to one")
