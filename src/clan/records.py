"""What a run has written about itself, read back: also while it is still going."""

import json
import math
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from clan.config import Config, load
from clan.errors import ConfigError, WeightsError
from clan.reporting.observer import Validation
from clan.snapshots import LAST_ITERATION, Snapshot, find_snapshots
from clan.untrusted import UnfitFile, read_whole

_LARGEST_METRICS = 256 << 20  # a million iterations
_LONGEST_LINE = 1 << 16
_LARGEST_ENVIRONMENT = 64 << 10
_LARGEST_NUMBER = 3.5e38  # losses are float32

METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
ENVIRONMENT = "environment.json"


@dataclass(frozen=True)
class RunRecords:
    """A run's folder, read.

    Args:
        folder: the run's.
        config: what it was told.
        config_yaml: the same, as written.
        metrics: float64 [n] by name, a number per iteration, NaN where it is missing; among them "iteration".
        validations: what it scored while it trained, by iteration.
        environment: what it was computed with; empty if that was not recorded.
        snapshots: what it saved.
    """

    folder: Path
    config: Config
    config_yaml: str
    metrics: dict[str, np.ndarray]
    validations: list[Validation]
    environment: dict[str, Any]
    snapshots: list[Snapshot]

    @property
    def done(self) -> int:
        """Iterations done."""
        iterations = self.metrics["iteration"]
        return int(iterations[-1]) + 1 if len(iterations) else 0


def read_run(folder: Path) -> RunRecords:
    """Reads the folder of a run.

    Raises:
        ConfigError: it is no run's, its `config.yaml` does not fit, or its records are not what a run writes.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no config.yaml: name the folder of a run (its --snapshot-dir)")
    try:
        snapshots = find_snapshots(folder)
    except WeightsError:
        snapshots = []
    config = load(path)  # first: it judges whether the file can be read as text
    return RunRecords(
        folder=folder,
        config=config,
        config_yaml=path.read_text(encoding="utf-8-sig"),
        metrics=read_metrics(folder / METRICS),
        validations=read_validations(folder / VALIDATION),
        environment=_environment(folder),
        snapshots=snapshots,
    )


def began(folder: Path) -> datetime | None:
    """When the run in a folder began; what was scored earlier is of another that was there before. None: not known."""
    return moment(str(_environment(folder).get("started", "")))


def moment(text: str) -> datetime | None:
    """A time in ISO 8601 that says its zone; None: it is something else."""
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else None
    return None


def located(path: Path, folder: Path, config: Config) -> Path:
    """A file or folder that a run's configuration names, found from any working directory.

    A relative path starts at the working directory, else where training was started, else where it must have been for
    the run to lie where it does, also if all was moved.

    Args:
        path: as the configuration has it.
        folder: the run's.
        config: its configuration.
    """
    if path.is_absolute() or path.exists():
        return path
    starts = [Path(str(_environment(folder).get("started_in", ".")))]
    own, below = folder.resolve().parts, config.snapshot_dir.parts
    if not config.snapshot_dir.is_absolute() and own[-len(below) :] == below:
        starts.append(Path(*own[: -len(below)]))
    return next((start / path for start in starts if (start / path).exists()), path)


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `metrics.jsonl`, float64; see `RunRecords`.

    A line that is being written is left out, as is one that is no record of a run; what is no number is NaN.

    Raises:
        ConfigError: the file is far larger than any run's, or would be as a table.
    """
    content = _read_records(path)
    columns: dict[str, array[float]] = {"iteration": array("d")}
    for row, record in enumerate(_records(content)):
        names = columns.keys() | record.keys()
        if (row + 1) * len(names) > len(content):  # a number takes more bytes than one, but a missing one takes none
            raise ConfigError(f"{path} names other numbers in every line: is it the metrics of a run?")
        for name in record:
            if name not in columns:
                columns[name] = array("d", [math.nan]) * row
        for name, column in columns.items():
            column.append(_number(record.get(name)))
    return {name: np.array(column, np.float64) for name, column in columns.items()}


def _read_records(path: Path) -> bytes:
    """A file of lines, which may be growing meanwhile; empty if there is none."""
    size = path.stat().st_size if path.is_file() else 0
    if size > _LARGEST_METRICS:
        raise ConfigError(f"{path} has {size} bytes, over the limit of {_LARGEST_METRICS}: is it the records of a run?")
    if not size:
        return b""
    with path.open("rb") as file:
        return file.read(size)


def _records(content: bytes) -> Iterator[dict[str, Any]]:
    """The lines that are records of an iteration, in ascending order."""
    last = -1
    for line in content.splitlines():
        if len(line) > _LONGEST_LINE:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        iteration = record.get("iteration") if isinstance(record, dict) else None
        if type(iteration) is int and last < iteration < LAST_ITERATION:
            last = iteration
            yield record


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not -_LARGEST_NUMBER < value < _LARGEST_NUMBER:
        return math.nan
    return float(value)


def read_validations(path: Path) -> list[Validation]:
    """The lines of a `validation.jsonl`, without those that are no such thing.

    Raises:
        ConfigError: the file is far larger than any run's.
    """
    found = []
    for record in _records(_read_records(path)):
        with suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError):
            found.append(Validation.of(record))
    return found


def _environment(folder: Path) -> dict[str, Any]:
    """What is plain in the file, and the peaks of memory."""
    try:
        found = json.loads(read_whole(folder / ENVIRONMENT, _LARGEST_ENVIRONMENT))
    except (OSError, UnfitFile, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    peaks = found.pop("peak_memory_bytes", {})
    known: dict[str, Any] = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
    if isinstance(peaks, dict):
        known["peak_memory_bytes"] = {name: _number(amount) for name, amount in peaks.items()}
    return known
