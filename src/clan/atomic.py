"""Writing a file as a whole or not at all."""

import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


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
