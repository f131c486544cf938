"""Writing and reading the records of a run, also while it is running."""

import json
import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clan.core.errors import ConfigError, WeightsError
from clan.core.files import UnfitFile, as_json, finite, read_whole, write_atomically
from clan.run.config import Config, load
from clan.run.folder import (
    CONFIG,
    ENVIRONMENT,
    LAST_ITERATION,
    LOSSES,
    METRICS,
    PSEUDO_LABELS,
    SHEET,
    VALIDATION,
    Snapshot,
    find_snapshots,
    iteration_of,
    prefix_of,
)
from clan.run.observer import Observer, PseudoLabels, Step, Validation, writing

Record = TypeVar("Record")

_LARGEST_METRICS = 256 << 20  # a million iterations
_LONGEST_LINE = 1 << 16
_LARGEST_ENVIRONMENT = 64 << 10
_LARGEST_NUMBER = 3.5e38  # losses are float32


LOSS_COLUMNS = ("loss_seg", "loss_adv", "loss_weight", "loss_D_s", "loss_D_t")
"""The columns of `loss.txt`, in the order of the PaddlePaddle 2.1 port."""


class EventLog(Observer):
    """Appends a line per iteration or validation; a resumed run first drops the lines that it will write again.

    Args:
        folder: the run's folder.
        start: first iteration to write.
        validated: completed iterations at the last validation to keep; None: `start`.

    Raises:
        CheckpointError: a file cannot be written, now or at an event.
    """

    def __init__(self, folder: Path, start: int = 0, validated: int | None = None) -> None:
        self.folder = folder
        with writing(folder):
            for name in (LOSSES, METRICS):
                _keep_lines(folder / name, lambda number, line: number < start)
            last = start if validated is None else validated
            _keep_lines(folder / VALIDATION, lambda number, line: _iteration(line) <= last)
            _keep_lines(folder / PSEUDO_LABELS, lambda number, line: _iteration(line) <= start)
            # Line buffering: a reader sees every finished iteration, and a killed run loses none.
            self._losses, self._metrics = (
                (folder / name).open("a", buffering=1, encoding="utf-8") for name in (LOSSES, METRICS)
            )

    def step(self, step: Step) -> None:
        """Records an iteration: in `loss.txt` losses that the method lacks as 0, in `metrics.jsonl` NaN as null."""
        numbers = {**step.losses, **step.numbers, "seconds": step.seconds}
        with writing(self.folder):
            self._losses.write(" ".join(f"{step.losses.get(name, 0.0):.4f}" for name in LOSS_COLUMNS) + "\n")
            self._metrics.write(json.dumps(finite({"iteration": step.iteration, **numbers})) + "\n")

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """Records a validation; the first one creates the file."""
        self._append(VALIDATION, validation.record())

    def looked(self, labels: PseudoLabels) -> None:
        """Records a comparison; the first one creates the file."""
        self._append(PSEUDO_LABELS, labels.record())

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        with writing(self.folder), (self.folder / name).open("ab") as file:
            file.write(as_json(record) + b"\n")

    def close(self) -> None:
        """Closes the files, ignoring errors, which `step` has reported."""
        for file in (self._losses, self._metrics):
            with suppress(OSError):
                file.close()


def _keep_lines(path: Path, wanted: Callable[[int, bytes], bool]) -> None:
    """Keeps the lines for which `wanted(number from 0, line)` holds; removes the file if none is left."""
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
    """The content of a run's folder.

    Args:
        folder: the run's folder.
        config: its configuration.
        config_yaml: the text of `config.yaml`.
        metrics: float64 [n] by name, including "iteration"; NaN where missing.
        validations: its validations in ascending order of iterations.
        pseudo_labels: comparisons of its pseudo-labels with the ground truth, likewise.
        environment: software and hardware; empty if not recorded.
        snapshots: its saved weights.
    """

    folder: Path
    config: Config
    config_yaml: str
    metrics: dict[str, np.ndarray]
    validations: list[Validation]
    environment: dict[str, Any]
    snapshots: list[Snapshot]
    pseudo_labels: list[PseudoLabels] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Number of completed iterations."""
        iterations = self.metrics["iteration"]
        return int(iterations[-1]) + 1 if len(iterations) else 0

    @property
    def sheets(self) -> dict[int, Path]:
        """Pictures of what it learnt from, by iterations done before, in ascending order."""
        prefix = escape(prefix_of(self.config.source.dataset.name))
        paths = (self.folder / "images").glob(f"{prefix}_*_{SHEET}.png")
        numbered = {iteration_of(path.stem.removesuffix(f"_{SHEET}")): path for path in paths}
        return {iteration: numbered[iteration] for iteration in sorted(one for one in numbered if one is not None)}


def read_run(folder: Path) -> RunRecords:
    """Reads the folder of a run.

    Raises:
        ConfigError: the folder has no `config.yaml`, or that or a record is invalid.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(f"{folder} holds no config.yaml: name the folder of a run (its --snapshot-dir)")
    try:
        snapshots = find_snapshots(folder)
    except WeightsError:
        snapshots = []
    config = load(path)  # before the text: checks that the file is readable
    return RunRecords(
        folder=folder,
        config=config,
        config_yaml=path.read_text(encoding="utf-8-sig"),
        metrics=read_metrics(folder / METRICS),
        validations=read_validations(folder / VALIDATION),
        pseudo_labels=_read_each(folder / PSEUDO_LABELS, PseudoLabels.of),
        environment=_environment(folder),
        snapshots=snapshots,
    )


def began(folder: Path) -> datetime | None:
    """Returns when the run in a folder began; older scores belong to an earlier run. None: unknown."""
    return moment(str(_environment(folder).get("started", "")))


def moment(text: str) -> datetime | None:
    """Parses a time in ISO 8601 with time zone; None: other text."""
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else None
    return None


def located(path: Path, folder: Path, config: Config) -> Path:
    """Finds a file or folder of a run's configuration from any working directory.

    A relative path is tried from the working directory, from where training was started, and from the folder relative
    to which `config.snapshot_dir` is `folder`.

    Args:
        path: path in the configuration.
        folder: the run's folder.
        config: the run's configuration.

    Returns:
        An existing path, or `path` itself.
    """
    if path.is_absolute() or path.exists():
        return path
    starts = [Path(str(_environment(folder).get("started_in", ".")))]
    own, below = folder.resolve().parts, config.snapshot_dir.parts
    if not config.snapshot_dir.is_absolute() and own[-len(below) :] == below:
        starts.append(Path(*own[: -len(below)]))
    return next((start / path for start in starts if (start / path).exists()), path)


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Reads a `metrics.jsonl` as float64 columns by name.

    Incomplete and other invalid lines are skipped; missing and invalid numbers are NaN.

    Raises:
        ConfigError: the file, or its content as a table, is too large.
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
    """Reads a file that may be growing; b"" if it does not exist."""
    size = path.stat().st_size if path.is_file() else 0
    if size > _LARGEST_METRICS:
        raise ConfigError(f"{path} has {size} bytes, over the limit of {_LARGEST_METRICS}: is it the records of a run?")
    if not size:
        return b""
    with path.open("rb") as file:
        return file.read(size)


def _records(content: bytes) -> Iterator[dict[str, Any]]:
    """Yields the lines that are records of an iteration, in ascending order."""
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
    """Reads the valid lines of a `validation.jsonl`.

    Raises:
        ConfigError: the file is too large.
    """
    return _read_each(path, Validation.of)


def _read_each(path: Path, reader: Callable[[Mapping[str, Any]], Record]) -> list[Record]:
    """Reads the valid lines of a file of records."""
    found = []
    for record in _records(_read_records(path)):
        with suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError):
            found.append(reader(record))
    return found


def _environment(folder: Path) -> dict[str, Any]:
    """Reads the plain values of `environment.json`, and "peak_memory_bytes"; {} if the file is not readable."""
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
