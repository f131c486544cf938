"""Choosing a snapshot without labels: measurements are kept beside the run, and criteria judge all of them together."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from clan.core.errors import CheckpointError, ConfigError, DataError, WeightsError
from clan.core.files import UnfitFile, as_json, quoted, read_whole, reading, sha256, write_file, writing
from clan.evaluation.criteria import CRITERIA, alone, goodness, rank_correlation, together
from clan.models.weight_files import read_arrays, read_metadata, write_arrays
from clan.run.folder import SELECTION, Snapshot

DEFAULT = "consistency"
"""The criterion that chooses, unless another is named; see the evidence in docs/benchmarks.md."""

RESULT = "selected.json"
"""Name of the file of what was chosen, in the run's folder `SELECTION`."""

DISAGREEMENT = 0.2
"""Mean rank correlation of the choosing criterion with the others below which a warning is given."""

_LARGEST_RESULT = 16 << 20
_DAMAGE = (OSError, UnfitFile, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True)
class Judged:
    """A snapshot and what the criteria say of it.

    Args:
        snapshot: name of the file, without folder.
        iteration: iterations done before; None: unknown.
        values: of every criterion that is defined for it, by name.
    """

    snapshot: str
    iteration: int | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Selection:
    """The snapshots of a run, and which of them a criterion chooses.

    Args:
        criterion: the one that chooses.
        snapshots: all of them, by iteration.
        chosen: index of the chosen one.
        images: what was looked at, in words.
        warnings: reasons not to trust the choice.
        date: when, ISO 8601.
    """

    criterion: str
    snapshots: Sequence[Judged]
    chosen: int
    images: str
    warnings: Sequence[str] = ()
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @property
    def names(self) -> list[str]:
        """The criteria that are defined for all snapshots, in the order of `CRITERIA`."""
        return [name for name in CRITERIA if all(known(one.values, name) for one in self.snapshots)]

    def column(self, name: str) -> list[float]:
        """A criterion's values of all snapshots."""
        return [one.values[name] for one in self.snapshots]

    def choice_of(self, name: str) -> int:
        """Index of the snapshot that a criterion chooses, the later one of equals."""
        good = goodness(name, self.column(name))
        return int(np.flatnonzero(good == good.max())[-1])

    def record(self) -> dict[str, Any]:
        """Returns all fields as JSON values, and the name of the chosen snapshot as "selected"."""
        return {"version": 1, "selected": self.snapshots[self.chosen].snapshot, **asdict(self)}


def known(values: Mapping[str, float], name: str) -> bool:
    """Whether a criterion has a finite value."""
    return math.isfinite(values.get(name, math.nan))


@dataclass(frozen=True)
class Measured:
    """A snapshot's statistics; see `clan.evaluation.measuring.measure`."""

    snapshot: Snapshot
    statistics: Mapping[str, np.ndarray]


# --- Measurements on the disk -------------------------------------------------------------------------------


def digest(weights: Path) -> str:
    """SHA-256 of a file.

    Raises:
        WeightsError: it cannot be read.
    """
    with reading(weights, "check its permissions", WeightsError):
        return sha256(weights)


def key_of(fingerprint: str, *weights: Path) -> str:
    """What a measurement depends on: the material (`JudgedImages.fingerprint`) and the weights."""
    return hashlib.sha256("\n".join([fingerprint, *map(digest, weights)]).encode()).hexdigest()


def place(folder: Path, name: str, key: str) -> Path:
    """Where the measurement of a snapshot lies in a run's folder: one file for each set of images."""
    return folder / SELECTION / f"{name}.{key[:8]}.safetensors"


def require_writable(folder: Path) -> None:
    """Checks that measurements can be kept beside a run, which is to be known before hours of measuring.

    Raises:
        CheckpointError: they cannot.
    """
    path = folder / SELECTION
    with writing(path, "make the run's folder writable", CheckpointError):
        path.mkdir(exist_ok=True)
        TemporaryFile(dir=path).close()


def keep(folder: Path, name: str, key: str, statistics: Mapping[str, np.ndarray]) -> None:
    """Writes a measurement beside a run, as a whole or not at all.

    One of the same key that holds more stays: only training can compare with the teacher, and both may measure at once.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = place(folder, name, key)
    there = kept(folder, name, key, statistics["mean_probability"].size) or {}
    if statistics.keys() < there.keys():
        return
    try:
        path.parent.mkdir(exist_ok=True)
        write_arrays(statistics, path, {"key": key})
    except (OSError, WeightsError) as error:
        raise CheckpointError(f"cannot write {path} ({quoted(str(error))}): make the run's folder writable") from None


def kept(folder: Path, name: str, key: str, num_classes: int) -> dict[str, np.ndarray] | None:
    """Reads a measurement; None: there is none, or it is of other weights or images, or damaged.

    Args:
        folder: the run's folder.
        name: the snapshot's, without suffix.
        key: what `key_of` gives now.
        num_classes: C.
    """
    path = place(folder, name, key)
    if read_metadata(path).get("key") != key:
        return None
    try:
        found = read_arrays(path)
    except WeightsError:
        return None
    points, mean = found.pop("points", None), found.pop("mean_probability", None)
    entropy = found.pop("entropy", None)
    if points is None or mean is None or entropy is None or points.dtype != np.uint8 or not len(points):
        return None
    square = (num_classes, num_classes)
    if points.shape[1:] != square[:1] or mean.shape != square[:1] or entropy.shape != (1,):
        return None
    if any(one.shape != square or one.dtype.kind != "i" for one in found.values()):
        return None
    return {"points": points, "mean_probability": mean, "entropy": entropy, **found}


# --- Choosing -----------------------------------------------------------------------------------------------


def choose(
    measured: Sequence[Measured],
    images: str,
    *,
    averaged: np.ndarray | None = None,
    criterion: str | None = None,
) -> Selection:
    """Judges snapshots by all criteria and chooses one.

    Args:
        measured: the statistics of all, on the same images.
        images: what was looked at, in words.
        averaged: the points of the mean of their weights.
        criterion: the one that chooses; None: `DEFAULT`, or for a single snapshot any.

    Raises:
        ConfigError: the criterion is not defined for all of them.
    """
    joint = together([one.statistics["points"] for one in measured], averaged)
    judged = [
        Judged(one.snapshot.path.name, one.snapshot.iteration, {**alone(one.statistics), **of_all})
        for one, of_all in zip(measured, joint, strict=True)
    ]
    selection = Selection(criterion or DEFAULT, judged, 0, images)
    if len(judged) > 1 and selection.criterion not in selection.names:
        raise ConfigError(
            f"the criterion {selection.criterion} is not known of every snapshot: choose by "
            f"{', '.join(selection.names)} (--criterion)"
        )
    if len(judged) == 1:
        return selection
    chosen = selection.choice_of(selection.criterion)
    warnings = [*_disagreement(selection, chosen), *_lost_classes(measured, chosen)]
    return Selection(selection.criterion, judged, chosen, images, warnings)


def _disagreement(selection: Selection, chosen: int) -> list[str]:
    """A warning where the others rank the snapshots otherwise than the one that chooses."""
    good = goodness(selection.criterion, selection.column(selection.criterion))
    others = [name for name in selection.names if name not in (selection.criterion, "source")]
    found = [rank_correlation(good, goodness(name, selection.column(name))) for name in others]
    found = [one for one in found if not math.isnan(one)]
    if not found or len(good) < 3 or np.mean(found) >= DISAGREEMENT:
        return []
    choices = {selection.snapshots[selection.choice_of(name)].snapshot for name in others}
    return [
        f"the criteria disagree: their mean rank correlation with {selection.criterion} is {np.mean(found):.2f}, and "
        f"they choose {len(choices | {selection.snapshots[chosen].snapshot})} different snapshots; label a few target "
        "images and compare by those"
    ]


def _lost_classes(measured: Sequence[Measured], chosen: int) -> list[str]:
    """A warning where the chosen snapshot hardly predicts a class that others do."""
    used = np.array([one.statistics["mean_probability"] for one in measured])
    lost = int((used[chosen] < 0.1 * np.median(used, axis=0)).sum())
    if not lost:
        return []
    return [
        f"{lost} of {used.shape[1]} classes are hardly predicted by the chosen snapshot, and are by others: look at "
        "its predictions"
    ]


# --- The result on the disk ---------------------------------------------------------------------------------


def write_selection(folder: Path, selection: Selection) -> Path:
    """Writes what was chosen to the run's folder; returns the file.

    Raises:
        DataError: it cannot be written.
    """
    path = folder / SELECTION / RESULT
    write_file(path, as_json(selection.record()) + b"\n", "make the run's folder writable", sync=True)
    return path


def read_selection(folder: Path) -> Selection | None:
    """Reads what `write_selection` wrote; None: there is none.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / SELECTION / RESULT
    if not path.is_file():
        return None
    try:
        content = json.loads(read_whole(path, _LARGEST_RESULT))
        snapshots = [
            Judged(
                str(one["snapshot"]),
                None if one["iteration"] is None else int(one["iteration"]),
                {str(name): float(value) for name, value in one["values"].items() if value is not None},
            )
            for one in content["snapshots"]
        ]
        found = Selection(
            str(content["criterion"]),
            snapshots,
            int(content["chosen"]),
            str(content["images"]),
            [str(one) for one in content["warnings"]],
            str(content["date"]),
        )
        if found.criterion not in CRITERIA or not 0 <= found.chosen < len(snapshots):
            raise ValueError("an unknown criterion or snapshot")
        return found
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged ({quoted(str(error))}): run clan select again") from None
