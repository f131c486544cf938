"""Setting an earlier run aside when a new one starts in its folder.

Files are renamed into `NAME.before` (`NAME.before2`, …) beside the folder NAME. Meanwhile that folder is called
`NAME.before.moving`; if the process is killed, the next run in NAME completes the move, or undoes it to resume the
earlier run.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from clan.core.errors import ClanError, ConfigError
from clan.run.checkpoint import States, check_fits
from clan.run.config import LOGGERS, Config, load
from clan.run.folder import (
    BAD_SAMPLES,
    BEFORE,
    BEST,
    CONFIG,
    ENVIRONMENT,
    LOSSES,
    METRICS,
    NONFINITE,
    OLD_STATE,
    PREFIXES,
    PSEUDO_LABELS,
    SELECTION,
    STATES,
    VALIDATION,
    prefix_of,
)

_OWN = (
    *(OLD_STATE, LOSSES, METRICS, VALIDATION, PSEUDO_LABELS, *LOGGERS, BAD_SAMPLES, NONFINITE, SELECTION),
    STATES,  # last: until it is moved, the earlier run can be resumed
)
_ABOUT = (ENVIRONMENT, CONFIG)
"""Files that describe a run; moved with it, but without other files not a run."""

_HIDDEN = {"tfevents": "tf-events", "vdlrecords": "vdl-records"}
"""Parts of file names that TensorBoard and VisualDL search for → replacement in a run that was set aside."""


def set_aside(folder: Path, notify: Callable[[str], None]) -> None:
    """Moves the files of an earlier run in `folder` to `NAME.before`; other files stay.

    Args:
        folder: the new run's folder.
        notify: receives a sentence that names the new place.

    Raises:
        ConfigError: a file cannot be moved.
    """
    moving = _unfinished(folder)
    found = list(_written(folder))
    if not found and not moving:
        return
    try:
        moving = moving or _moving(_destination(folder))
        moving.mkdir(exist_ok=True)
        for path in [*found, *(folder / name for name in _ABOUT)]:
            if path.exists():
                target = moving / path.relative_to(folder)
                target.parent.mkdir(exist_ok=True)
                path.replace(target)
        _show_to_loggers(moving, shown=False)
        name = moving.name.removesuffix(".moving")
        names = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
        kept = next(path for path in map(moving.with_name, names) if not _is(path))
        moving.rename(kept)
    except OSError as error:
        raise ConfigError(
            f"{folder} holds an earlier run that cannot be set aside ({error.strerror}): choose another --snapshot-dir"
        ) from None
    goes_on = " (to go on with it: --resume with that as --snapshot-dir)" if States(kept).paths() else ""
    notify(f"{folder} held an earlier run, which is now in {kept} as a whole{goes_on}")


def resumable(folder: Path) -> bool:
    """Whether `folder` has a state, valid or not, possibly in an interrupted move."""
    return any(States(place).paths() for place in (folder, _unfinished(folder)) if place)


def finished(config: Config, *, accept_changes: bool = False) -> Path | None:
    """Returns the last snapshot of a completed run in `config.snapshot_dir`; None: there is no completed run.

    Raises:
        CheckpointError: the run there has other options, or no valid state.
    """
    states = States(config.snapshot_dir)
    if not states.paths():
        return None
    state = states.latest(lambda sentence: None)
    check_fits(state, config, accept_changes=accept_changes)
    every, done = config.validate_every, state.iteration
    put_off = every and state.notes.get("validated", 0) < done and (done % every == 0 or done == config.num_steps)
    snapshot = config.snapshot_dir / f"{prefix_of(config.source.dataset.name)}_{done}.pdparams"
    return snapshot if done >= config.stop and not put_off and snapshot.is_file() else None


def bring_back(folder: Path) -> None:
    """Undoes an interrupted `set_aside`, and restores the names of logger files.

    Raises:
        ConfigError: a file cannot be moved.
    """
    try:
        if moving := _unfinished(folder):
            for path in [path for path in moving.rglob("*") if not path.is_dir()]:
                target = folder / path.relative_to(moving)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not _is(target):
                    path.rename(target)
            for path in sorted((path for path in moving.rglob("*") if path.is_dir()), reverse=True):
                path.rmdir()
            moving.rmdir()
        _show_to_loggers(folder, shown=True)
    except OSError as error:
        raise ConfigError(f"cannot move files in {folder} ({error.strerror}): make the folder writable") from None


def _places(folder: Path) -> list[Path]:
    """Possible places of an earlier run: `NAME.before` beside the folder, and in the folder."""
    if folder.is_symlink() or folder.name in ("", ".."):
        folder = folder.resolve()
    name = f"{folder.name}{BEFORE}"
    return [folder.with_name(name), folder / name]


def _destination(folder: Path) -> Path:
    """The place beside the folder; inside it if the parent is another file system or not writable."""
    beside, inside = _places(folder)
    movable = not folder.is_mount() and beside.parent.stat().st_dev == folder.stat().st_dev
    return beside if movable and os.access(beside.parent, os.W_OK | os.X_OK) else inside


def _unfinished(folder: Path) -> Path | None:
    """The folder of an interrupted move, if any."""
    return next((path for path in map(_moving, _places(folder)) if path.is_dir()), None)


def _moving(place: Path) -> Path:
    return place.with_name(f"{place.name}.moving")


def _written(folder: Path) -> Iterator[Path]:
    """Yields the files and folders that a run has written in `folder`."""
    number = r"(\d+|best)"
    # Without a config.yaml only known prefixes: other weights may be called resnet_101.
    anyhow = ".+" if (folder / CONFIG).is_file() else f"({'|'.join(PREFIXES.values())})"
    snapshots = [
        path
        for path in sorted(folder.glob("*"))
        if re.fullmatch(rf"(?s){anyhow}_{number}(_D|_D_aux)?\.pdparams|{anyhow}{BEST}\.json", path.name)
    ]
    prefixes = {re.sub(rf"(?s)_{number}(_D|_D_aux)?\.\w+$", "", path.name) for path in snapshots}
    with suppress(ClanError):
        prefixes.add(prefix_of(load(folder / CONFIG).source.dataset.name))
    for path in sorted((folder / "images").glob("*.png")):
        if any(re.match(rf"{re.escape(prefix)}_\d+_", path.name) for prefix in prefixes):
            yield path
    if (folder / "inspect" / "inspect.json").is_file():
        yield folder / "inspect"
    yield from snapshots
    yield from sorted(folder.glob("bad_samples.rank*.txt"))
    yield from (folder / name for name in _OWN if _is(folder / name))


def _show_to_loggers(folder: Path, *, shown: bool) -> None:
    """Renames the files of TensorBoard and VisualDL so that these programs find them (`shown`) or not."""
    for known, hidden in _HIDDEN.items():
        old, new = (hidden, known) if shown else (known, hidden)
        for name in LOGGERS:
            for path in (folder / name).glob(f"*{old}*"):
                path.rename(path.with_name(path.name.replace(old, new)))


def _is(path: Path) -> bool:
    return os.path.lexists(path)
