"""Finding the snapshots of a run, and what it was."""

from pathlib import Path
from typing import NamedTuple

from clan.errors import WeightsError


class Snapshot(NamedTuple):
    """Saved weights of a segmenter, and after how many iterations, if the name tells."""

    path: Path
    iteration: int | None


def iteration_of(name: str) -> int | None:
    """The number that a name ends in, after an underscore: "SYS_2000" → 2000."""
    tail = name.rpartition("_")[2]
    return int(tail) if tail.isdecimal() and len(tail) < 16 else None


def find_snapshots(folder: Path) -> list[Snapshot]:
    """The segmenters saved in a folder, by iteration; discriminators (`…_D`, `…_D_aux`) are left out.

    Raises:
        WeightsError: there is none.
    """
    found = [
        Snapshot(path, iteration_of(path.stem))
        for path in folder.glob("*.pdparams")
        if not path.stem.endswith(("_D", "_D_aux"))
    ]
    if not found:
        raise WeightsError(f"{folder} holds no snapshot (*.pdparams): train first or name another folder")
    return sorted(found, key=lambda snapshot: (snapshot.iteration is None, snapshot.iteration or 0, snapshot.path))
