"""Reading files of any origin safely, writing files atomically, and strict JSON."""

import hashlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from clan.core.errors import ClanError, DataError
from clan.core.output import encoded

# O_NONBLOCK: do not wait for the writer of a pipe. O_BINARY: no translation of line ends on Windows.
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class UnfitFile(Exception):
    """A file that cannot or must not be read; the message continues the file's name and names the remedy."""


def quoted(text: str) -> str:
    """Escapes text from a file for a message: one line of at most 120 printable ASCII characters."""
    escaped = text[:121].encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= 120 else escaped[:117] + "..."


def read_whole(path: Path, limit: int) -> bytes:
    """Reads a regular file of 1 to `limit` bytes; symbolic links are followed.

    Pipes, devices and growing files can neither block nor exceed `limit` bytes of memory.

    Raises:
        UnfitFile: the path is a folder, pipe or device, or the file is empty, too large or still growing.
        OSError: the file is missing or not readable.
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
    """Reads at most `limit` bytes from the start of a regular file; raises as `read_whole`."""
    file, _ = _open_ordinary(path)
    with file:
        return file.read(limit)


def sha256(path: Path) -> str:
    """SHA-256 of a regular file of any size, in hexadecimal; raises as `read_whole`."""
    found = hashlib.sha256()
    file, _ = _open_ordinary(path)
    with file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _open_ordinary(path: Path) -> tuple[BinaryIO, int]:
    """Opens a regular file; returns it and its size in bytes."""
    require_ordinary(path.stat().st_mode)  # before opening, which may act on a device
    file = os.fdopen(os.open(path, os.O_RDONLY | _FLAGS), "rb")
    try:
        status = os.fstat(file.fileno())
        require_ordinary(status.st_mode)  # again: the file may have been replaced
    except UnfitFile:
        file.close()
        raise
    return file, status.st_size


def require_ordinary(mode: int) -> None:
    """Raises UnfitFile unless `mode`, the `st_mode` of `os.stat`, is that of a regular file."""
    if stat.S_ISDIR(mode):
        raise UnfitFile("is a folder: name the file in it")
    if not stat.S_ISREG(mode):
        raise UnfitFile("is no ordinary file: copy its content to one")


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Replaces a file completely or not at all.

    Args:
        path: the file; its folder must exist.
        write: writes the content to the binary file passed to it.
        sync: wait until the content is on the disk, so that the file survives a power cut.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    stem = path.name if len(os.fsencode(path.name)) < 200 else path.name[:40]  # names have at most 255 bytes
    temporary = path.with_name(f".{stem}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync:
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes, remedy: str, *, sync: bool = False) -> None:
    """Replaces a file atomically; creates its folder if missing.

    Args:
        path: the file.
        content: its new content.
        remedy: what the user can do if writing fails; ends the error message.
        sync: see `write_atomically`.

    Raises:
        DataError: writing failed.
    """
    with writing(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content), sync=sync)


@contextmanager
def reading(path: Path, remedy: str, kind: type[ClanError] = DataError) -> Iterator[None]:
    """Turns what `read_whole` raises within the block into an error of class `kind` that names path and reason.

    Raises:
        ClanError: reading failed; the remedy is that of an OSError.
    """
    try:
        yield
    except UnfitFile as error:
        raise kind(f"{path} {error}") from None
    except OSError as error:
        raise kind(f"{path} cannot be read ({error.strerror}): {remedy}") from None


@contextmanager
def writing(path: Path | str, remedy: str, kind: type[ClanError] = DataError) -> Iterator[None]:
    """Turns an OSError within the block into an error of class `kind` that names path, reason and remedy.

    Raises:
        ClanError: writing failed.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write {path} ({error.strerror or error}): {remedy}") from None


def as_json(value: Any) -> bytes:
    """Encodes a value as one line of JSON in UTF-8; NaN and infinity become null."""
    return encoded(json.dumps(finite(value), ensure_ascii=False))


def finite(value: Any) -> Any:
    """Copies nested mappings and lists with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of killed writers; no other process may be writing to `folder`."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}", path.name):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Waits until a folder's entries are on the disk; not available on Windows."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
