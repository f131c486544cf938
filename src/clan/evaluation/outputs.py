"""Checks the output paths of a command before any computation."""

from collections.abc import Iterable
from pathlib import Path

from clan.core.errors import ConfigError


def refuse_clashes(outputs: Iterable[tuple[str, Path]], inputs: Iterable[Path] = ()) -> None:
    """Refuses outputs that would overwrite each other or an input.

    Args:
        outputs: the source of each output, as named in messages, and its path.
        inputs: files that must not be overwritten.

    Raises:
        ConfigError: two sources have one output, an output is the parent folder of another, or an output is an input.
    """
    owners: dict[Path, str] = {}
    for owner, path in outputs:
        if path in owners:
            raise ConfigError(
                f"{owners[path]} and {owner} would both be written to {path}: rename one of them or move it elsewhere"
            )
        owners[path] = owner
    parents = {parent: path for path in owners for parent in path.parents}
    for folder, path in parents.items():
        if folder in owners:
            raise ConfigError(
                f"{owners[folder]} would be written to {folder}, which must be a folder for {owners[path]}: "
                "rename one of them"
            )
    present = {_identity(path): path for path in owners if path.is_file()}
    for path in inputs if present else ():
        if path.exists() and (output := present.get(_identity(path))):
            raise ConfigError(
                f"{path} would be overwritten by a result of {owners[output]}, {output}: choose another output folder"
            )


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode of a file, the same for every path to it."""
    status = path.stat()
    return status.st_dev, status.st_ino
