"""What the snapshots of a run are called, and finding them."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from clan.core.errors import WeightsError
from clan.core.files import UnfitFile, read_whole

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
LOSSES, METRICS, VALIDATION = "loss.txt", "metrics.jsonl", "validation.jsonl"
STATES = "states"
OLD_STATE = "state.safetensors"
"""Where the first version kept its only state."""
BAD_SAMPLES = "bad_samples.txt"
NONFINITE = "nonfinite"
INSPECTION = "inspect"

PREFIXES = {"synthia": "SYS", "gta5": "GTA5"}

BEST = "_best"
"""How the name of the snapshot that scored best in validation ends; what it scored is in the `.json` beside it."""

BEFORE = ".before"
"""What follows the name of a run's folder in that of an earlier run that was set aside, maybe before a number."""

LAST_ITERATION = 10**15
"""Iterations from which on a number is none."""

_LARGEST_SCORES = 64 << 10


class Snapshot(NamedTuple):
    """Saved weights of a segmenter, and after how many iterations, if that is known."""

    path: Path
    iteration: int | None


def require_weights(path: Path) -> None:
    """Refuses weights that are not there, before anything else is looked for.

    Raises:
        WeightsError: there is no such file, nor a folder with snapshots.
    """
    if path.is_dir():
        find_snapshots(path)
    elif not path.exists():
        raise WeightsError(f"{path} does not exist: name a file of weights or a folder of snapshots")


def run_folders(parent: Path) -> list[Path]:
    """The folders with snapshots in a folder of runs, but for earlier runs that were set aside."""
    folders = {path.parent for path in parent.glob("*/*.pdparams")}
    return sorted(folder for folder in folders if not re.search(rf"{re.escape(BEFORE)}(\d*|\.moving)$", folder.name))


def prefix_of(source: str) -> str:
    """How snapshots of runs from a source begin: as the seed's do, for other sources with their name."""
    return PREFIXES.get(source, source)


def iteration_of(name: str) -> int | None:
    """The number that a name ends in, after an underscore: "SYS_2000" → 2000."""
    tail = name.rpartition("_")[2]
    return int(tail) if tail.isdecimal() and len(tail) < len(str(LAST_ITERATION)) else None


def snapshot_iteration(path: Path) -> int | None:
    """After how many iterations weights were saved: the number in their name or, of the best ones, in their scores."""
    if not path.stem.endswith(BEST):
        return iteration_of(path.stem)
    try:
        iteration = json.loads(read_whole(path.with_suffix(".json"), _LARGEST_SCORES))["iteration"]
    except (OSError, UnfitFile, ValueError, KeyError, TypeError, RecursionError):
        return None
    return iteration if type(iteration) is int and 0 <= iteration < LAST_ITERATION else None


def find_snapshots(folder: Path) -> list[Snapshot]:
    """The segmenters saved in a folder, by iteration; discriminators (`…_D`, `…_D_aux`) are left out.

    So is the best one in validation where it is also there under its number.

    Raises:
        WeightsError: there is none.
    """
    found = [
        Snapshot(path, snapshot_iteration(path))
        for path in folder.glob("*.pdparams")
        if not path.stem.endswith(("_D", "_D_aux"))
    ]
    if not found:
        raise WeightsError(f"{folder} holds no snapshot (*.pdparams): train first or name another folder")
    numbered = {snapshot.iteration for snapshot in found if not snapshot.path.stem.endswith(BEST)}
    found = [one for one in found if not one.path.stem.endswith(BEST) or one.iteration not in numbered]
    return sorted(found, key=lambda snapshot: (snapshot.iteration is None, snapshot.iteration or 0, snapshot.path))
