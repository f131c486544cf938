"""Writing a file as a whole or not at all, and what JSON can hold."""

import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from clan.core.errors import ClanError, DataError


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Replaces a file by what `write` puts into the binary file it is given, or leaves it as it was.

    Args:
        path: the file; its folder must exist.
        write: fills the file.
        sync: wait until the content is on the disk, so that a power cut loses neither old nor new.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    begins = path.name if len(os.fsencode(path.name)) < 200 else path.name[:40]  # file systems take 255 bytes
    temporary = path.with_name(f".{begins}.{secrets.token_hex(4)}")
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
    """Replaces a file, whose folder is made where it is missing.

    Args:
        path: the file.
        content: all that it is to hold.
        remedy: what the user can do where it cannot be written.
        sync: see `write_atomically`.

    Raises:
        DataError: it cannot be written.
    """
    with writing(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content), sync=sync)


@contextmanager
def writing(path: Path, remedy: str, kind: type[ClanError] = DataError) -> Iterator[None]:
    """Within the block, what cannot be written to a file or folder ends in a sentence.

    Raises:
        ClanError: of that kind; it names the path, the reason and the remedy.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write {path} ({error.strerror or error}): {remedy}") from None


def as_json(value: Any) -> bytes:
    """A value as JSON on one line, with null for what is not finite."""
    return json.dumps(finite(value), ensure_ascii=False).encode("utf-8", "backslashreplace")


def finite(value: Any) -> Any:
    """The same with None for every number within that is not finite, since JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def remove_leftovers(folder: Path) -> None:
    """Removes what writers that were killed left behind; nothing else may be writing there."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}", path.name):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk; Windows offers no such thing."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
