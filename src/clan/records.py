"""What a run has written about itself, read back: also while it is still going."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clan.config import Config, load
from clan.errors import ConfigError, WeightsError
from clan.snapshots import Snapshot, find_snapshots

METRICS = "metrics.jsonl"
ENVIRONMENT = "environment.json"


@dataclass(frozen=True)
class RunRecords:
    """A run's folder, read.

    Args:
        folder: the run's.
        config: what it was told.
        config_yaml: the same, as written.
        metrics: float64 [n] by name, a number per iteration, NaN where it is missing; among them "iteration".
        environment: what it was computed with; empty if that was not recorded.
        snapshots: what it saved.
    """

    folder: Path
    config: Config
    config_yaml: str
    metrics: dict[str, np.ndarray]
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
    return RunRecords(folder, load(path), text, read_metrics(folder / METRICS), _environment(folder), snapshots)


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `metrics.jsonl`, float64; see `RunRecords`. A line that is being written is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    names = dict.fromkeys(["iteration", *(name for record in records for name in record)])
    return {name: np.array([record.get(name, np.nan) for record in records], np.float64) for name in names}


def _environment(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
