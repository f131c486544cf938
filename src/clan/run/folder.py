"""Names of the files in a run's folder, and finding snapshots."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from clan.core.errors import WeightsError
from clan.core.files import UnfitFile, read_whole

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
LOSSES, METRICS, VALIDATION = "loss.txt", "metrics.jsonl", "validation.jsonl"
PSEUDO_LABELS = "pseudo_labels.jsonl"
SHEET = "self-training"
"""End of the names of sheets of self-training in the folder `images`."""
STATES = "states"
OLD_STATE = "state.safetensors"
"""The only state of a run, without manifest, in version 1."""
BAD_SAMPLES = "bad_samples.txt"
NONFINITE = "nonfinite"
CLASS_PIXELS = "class_pixels.{}.json"
"""Pixels of each class in the labels of the domain "source" or "target"; of the data, so it stays for later runs."""
SELECTION = "select"
"""Folder of what snapshots are judged by without labels."""

PREFIXES = {"synthia": "SYS", "gta5": "GTA5"}

BEST = "_best"
"""Suffix of the name of the best snapshot in validation; its scores are in the `.json` beside it."""

BEFORE = ".before"
"""Suffix of the folder of an earlier run that was set aside; a number may follow."""

LAST_ITERATION = 10**15
"""Upper bound of iterations; larger numbers in names are not iterations."""

_LARGEST_SCORES = 64 << 10


class Snapshot(NamedTuple):
    """Saved weights of a segmenter, and the number of iterations before, if known."""

    path: Path
    iteration: int | None


def require_weights(path: Path) -> None:
    """Checks early that weights exist.

    Raises:
        WeightsError: `path` is neither a file nor a folder with snapshots.
    """
    if path.is_dir():
        find_snapshots(path)
    elif not path.exists():
        raise WeightsError(f"{path} does not exist: name a file of weights or a folder of snapshots")


def run_folders(parent: Path) -> list[Path]:
    """Lists the folders with snapshots in `parent`, without those set aside."""
    folders = {path.parent for path in parent.glob("*/*.pdparams")}
    return sorted(folder for folder in folders if not re.search(rf"{re.escape(BEFORE)}(\d*|\.moving)$", folder.name))


def prefix_of(source: str) -> str:
    """Returns the prefix of snapshot names: the port's for SYNTHIA and GTA5, else the source's name."""
    return PREFIXES.get(source, source)


def iteration_of(name: str) -> int | None:
    """Returns the number after the last underscore of a name: "SYS_2000" → 2000."""
    tail = name.rpartition("_")[2]
    return int(tail) if tail.isdecimal() and len(tail) < len(str(LAST_ITERATION)) else None


def snapshot_iteration(path: Path) -> int | None:
    """Returns the iterations before weights were saved, from the name or the best's scores; None: unknown."""
    if not path.stem.endswith(BEST):
        return iteration_of(path.stem)
    try:
        iteration = json.loads(read_whole(path.with_suffix(".json"), _LARGEST_SCORES))["iteration"]
    except (OSError, UnfitFile, ValueError, KeyError, TypeError, RecursionError):
        return None
    return iteration if type(iteration) is int and 0 <= iteration < LAST_ITERATION else None


def find_snapshots(folder: Path) -> list[Snapshot]:
    """Lists the segmenters in a folder by iteration, without discriminators (`…_D`, `…_D_aux`).

    The best snapshot is listed only if it is not also there under its iteration.

    Raises:
        WeightsError: there is no snapshot.
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


def find_candidates(folder: Path) -> list[Snapshot]:
    """Lists as `find_snapshots`, without the best snapshot: labels chose it, so that it is none to choose without them.

    Raises:
        WeightsError: there is no other snapshot.
    """
    found = [snapshot for snapshot in find_snapshots(folder) if not snapshot.path.stem.endswith(BEST)]
    if not found:
        raise WeightsError(
            f"{folder} holds no snapshot but the best in validation, which labels of the target chose: train with a "
            "smaller --save-every"
        )
    return found
