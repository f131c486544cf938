"""Events of a running training, and the interface of its observers: records, loggers, displays."""

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clan.core import files
from clan.core.errors import CheckpointError
from clan.core.output import one_line


@dataclass(frozen=True)
class Step:
    """A completed iteration.

    Args:
        iteration: index, from 0.
        losses: mean over all processes, by name.
        numbers: learning rates and counts, by name.
        seconds: duration.
        images: number of images of both domains in all processes.
        memory: bytes used by this process: "host", and "gpu" when computing on one.
    """

    iteration: int
    losses: Mapping[str, float]
    numbers: Mapping[str, float]
    seconds: float
    images: int
    memory: Mapping[str, int]


@dataclass(frozen=True)
class Validation:
    """Scores of the segmenter on labelled images.

    Args:
        iteration: number of completed iterations.
        dataset: description such as "cityscapes val, 500 images".
        headline: name of the mean that decides which snapshot is best.
        means: mean IoUs by name, 0…1 or NaN.
        iou: IoU by class name, 0…1 or NaN.
    """

    iteration: int
    dataset: str
    headline: str
    means: Mapping[str, float]
    iou: Mapping[str, float]

    @property
    def score(self) -> float:
        """The headline mean, 0…1 or NaN."""
        return self.means[self.headline]

    def record(self) -> dict[str, Any]:
        """Returns all fields as JSON values; NaN becomes None."""
        return files.finite(asdict(self))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Validation":
        """Reads what `record` returned.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: `record` has another form.
        """
        means, iou = (
            {str(key): math.nan if number is None else float(number) for key, number in record[name].items()}
            for name in ("means", "iou")
        )
        found = cls(int(record["iteration"]), str(record["dataset"]), str(record["headline"]), means, iou)
        if found.headline not in means:
            raise KeyError(found.headline)
        if any(number < 0 or number > 1 for number in [*means.values(), *iou.values()]):
            raise ValueError("a score beyond 0…1")
        return found


class Observer:
    """Receives the events of a run, in the first process only; every method does nothing by default."""

    def started(self, iteration: int, total: int) -> None:
        """The run starts at `iteration` and ends before `total`."""

    def step(self, step: Step) -> None:
        """An iteration is completed."""

    def validating(self, done: int, total: int) -> None:
        """`done` of this process's `total` validation images are predicted."""

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """A validation is completed; `best` is the best so far, None if no validation has a score."""

    def saved(self, iteration: int, snapshot: Path, previews: Mapping[str, Path]) -> None:
        """A snapshot and the colour masks `previews` (image name → file) are saved."""

    def flush(self) -> None:
        """A state is saved: all earlier events must be on the disk now."""

    def close(self) -> None:
        """The run has ended."""


class Everyone(Observer):
    """Forwards events to several observers in order; one that raises is removed with a warning on stderr."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = list(observers)
        events = (name for name in vars(Observer) if not name.startswith("_"))
        vars(self).update({event: partial(self._forward, event) for event in events})

    def _forward(self, event: str, *arguments: Any) -> None:
        for observer in tuple(self.observers):
            try:
                getattr(observer, event)(*arguments)
            except Exception as error:
                self.observers.remove(observer)
                with suppress(Exception):
                    name, reason = type(observer).__name__, one_line(str(error)) or type(error).__name__
                    print(f"warning: {name} failed and is left out from now on: {reason}", file=sys.stderr)
                with suppress(Exception):
                    observer.close()


def writing(folder: Path) -> AbstractContextManager[None]:
    """Within the block, turns an OSError of writing a record in `folder` into a CheckpointError."""
    remedy = "free disk space or mend the folder, then go on with --resume"
    return files.writing(f"the records in {folder}", remedy, CheckpointError)
