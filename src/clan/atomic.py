"""Writing a file as a whole or not at all."""

import os
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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
