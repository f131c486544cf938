"""Files that a command is going to write, looked at before anything is computed."""

from collections.abc import Iterable
from pathlib import Path

from clan.core.errors import ConfigError


def refuse_clashes(outputs: Iterable[tuple[str, Path]], inputs: Iterable[Path] = ()) -> None:
    """Makes sure that no file would be written twice, or over an input.

    Args:
        outputs: what each file is made of, as messages name it, and its path.
        inputs: files that must not be replaced.

    Raises:
        ConfigError: names the file and both that it would be made of, or the input.
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
                f"{owners[folder]} would be written to {folder}, which has to be a folder for {owners[path]}: "
                "rename one of them"
            )
    present = {_identity(path): path for path in owners if path.is_file()}
    for path in inputs if present else ():
        if path.exists() and (output := present.get(_identity(path))):
            raise ConfigError(
                f"{path} would be overwritten by a result of {owners[output]}, {output}: choose another output folder"
            )


def _identity(path: Path) -> tuple[int, int]:
    """What two paths of one file have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino
