"""What a run has written about itself, read back: also while it is still going."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clan.config import Config, load
from clan.errors import ConfigError, WeightsError
from clan.reporting.observer import Validation
from clan.snapshots import Snapshot, find_snapshots

Value = TypeVar("Value")

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
        ConfigError: it is no run's, or its `config.yaml` does not fit.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no config.yaml: name the folder of a run (its --snapshot-dir)")
    try:
        snapshots = find_snapshots(folder)
    except WeightsError:
        snapshots = []
    text = path.read_text(encoding="utf-8")
    return RunRecords(
        folder=folder,
        config=load(path),
        config_yaml=text,
        metrics=read_metrics(folder / METRICS),
        validations=read_validations(folder / VALIDATION),
        environment=_environment(folder),
        snapshots=snapshots,
    )


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `metrics.jsonl`, float64; see `RunRecords`. A line that is being written is left out."""
    records = list(_read_lines(path, dict))
    names = dict.fromkeys(["iteration", *(name for record in records for name in record)])
    return {name: np.array([record.get(name, np.nan) for record in records], np.float64) for name in names}


def read_validations(path: Path) -> list[Validation]:
    """The lines of a `validation.jsonl`. One that is being written is left out."""
    return list(_read_lines(path, Validation.of))


def _read_lines(path: Path, make: Callable[[Any], Value]) -> Iterator[Value]:
    """What is made of each line of JSON; those that are no such thing are left out."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            yield make(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _environment(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
