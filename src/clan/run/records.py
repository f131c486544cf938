"""What a run writes about itself, and reading it back, also while the run is still going."""

import json
import math
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from clan.core.errors import ConfigError, WeightsError
from clan.core.files import UnfitFile, finite, read_whole, write_atomically
from clan.core.output import encoded
from clan.run.config import Config, load
from clan.run.folder import CONFIG, ENVIRONMENT, LAST_ITERATION, LOSSES, METRICS, VALIDATION, Snapshot, find_snapshots
from clan.run.observer import Observer, Step, Validation, writing

_LARGEST_METRICS = 256 << 20  # a million iterations
_LONGEST_LINE = 1 << 16
_LARGEST_ENVIRONMENT = 64 << 10
_LARGEST_NUMBER = 3.5e38  # losses are float32


LOSS_COLUMNS = ("loss_seg", "loss_adv", "loss_weight", "loss_D_s", "loss_D_t")
"""The columns of `loss.txt`, in the order that users of the seed know."""


class EventLog(Observer):
    """Appends one line per iteration or validation; a resumed run first drops the lines it will write again.

    Args:
        folder: where the files lie.
        start: the first iteration to be written.
        validated: iterations done at the last validation that the run goes on from; None: as many as `start`.

    Raises:
        CheckpointError: here and when told something, the files cannot be written.
    """

    def __init__(self, folder: Path, start: int = 0, validated: int | None = None) -> None:
        self.folder = folder
        with writing(folder):
            for name in (LOSSES, METRICS):
                _keep_lines(folder / name, lambda number, line: number < start)
            last = start if validated is None else validated
            _keep_lines(folder / VALIDATION, lambda number, line: _iteration(line) <= last)
            # Line buffering: a reader sees every finished iteration, and a killed run loses none.
            self._losses, self._metrics = (
                (folder / name).open("a", buffering=1, encoding="utf-8") for name in (LOSSES, METRICS)
            )

    def step(self, step: Step) -> None:
        """Records an iteration.

        A loss that the method does not have stands as 0 in `loss.txt`; what is not finite is null in `metrics.jsonl`,
        since JSON has no NaN.
        """
        numbers = {**step.losses, **step.numbers, "seconds": step.seconds}
        with writing(self.folder):
            self._losses.write(" ".join(f"{step.losses.get(name, 0.0):.4f}" for name in LOSS_COLUMNS) + "\n")
            self._metrics.write(json.dumps(finite({"iteration": step.iteration, **numbers})) + "\n")

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """Records a validation; the file is there only where there are any."""
        with writing(self.folder), (self.folder / VALIDATION).open("ab") as file:
            file.write(encoded(json.dumps(validation.record(), ensure_ascii=False) + "\n"))

    def close(self) -> None:
        """Closes the files; what a full disk did not take, `step` has told."""
        for file in (self._losses, self._metrics):
            with suppress(OSError):
                file.close()


def _keep_lines(path: Path, wanted: Callable[[int, bytes], bool]) -> None:
    """Leaves the lines of a file, each with its number from 0, that are wanted; without any, no file."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for number, line in enumerate(lines) if wanted(number, line)]
    if not kept:
        path.unlink()
    elif len(kept) < len(lines):
        write_atomically(path, lambda file: file.writelines(kept))


def _iteration(line: bytes) -> float:
    """Iterations done before a validation; what a full disk or a kill has cut off comes after all."""
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError, TypeError):
        return math.inf


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
    path = folder / CONFIG
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
