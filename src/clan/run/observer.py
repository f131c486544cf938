"""Events of a running training, and the interface of its observers: records, loggers, displays."""

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
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
class NetworkScores:
    """Means by name and IoU by class name, 0…1 or NaN."""

    means: Mapping[str, float]
    iou: Mapping[str, float]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "NetworkScores":
        """Reads JSON values; raises as `Validation.of`."""
        means, iou = (
            {str(key): math.nan if number is None else float(number) for key, number in record[name].items()}
            for name in ("means", "iou")
        )
        if any(number < 0 or number > 1 for number in [*means.values(), *iou.values()]):
            raise ValueError("a score beyond 0…1")
        return cls(means, iou)


@dataclass(frozen=True)
class Validation:
    """Scores of the segmenter on labelled images.

    Args:
        iteration: number of completed iterations.
        dataset: description such as "cityscapes val, 500 images".
        headline: name of the mean that decides which snapshot is best.
        means: mean IoUs by name, 0…1 or NaN.
        iou: IoU by class name, 0…1 or NaN.
        others: scores on the same images of networks that are not saved, such as "teacher".
    """

    iteration: int
    dataset: str
    headline: str
    means: Mapping[str, float]
    iou: Mapping[str, float]
    others: Mapping[str, NetworkScores] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The headline mean, 0…1 or NaN."""
        return self.means[self.headline]

    def record(self) -> dict[str, Any]:
        """Returns all fields as JSON values, `others` if there are any; NaN becomes None."""
        values = asdict(self)
        if not self.others:
            del values["others"]
        return files.finite(values)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Validation":
        """Reads what `record` returned.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: `record` has another form.
        """
        own = NetworkScores.of(record)
        others = {str(name): NetworkScores.of(one) for name, one in record.get("others", {}).items()}
        found = cls(
            int(record["iteration"]), str(record["dataset"]), str(record["headline"]), own.means, own.iou, others
        )
        if found.headline not in own.means:
            raise KeyError(found.headline)
        return found


@dataclass(frozen=True)
class PseudoLabels:
    """How right the labels are that a self-training run has made for target images.

    Args:
        iteration: number of completed iterations.
        images: number of images that were compared with their ground truth.
        right: share of the pixels of any class whose label is their class, 0…1 or NaN.
        precision: by class name, share of the pixels with this label that are of the class, 0…1 or NaN.
        recall: by class name, share of the class's pixels that have its label, 0…1 or NaN.
    """

    iteration: int
    images: int
    right: float
    precision: Mapping[str, float]
    recall: Mapping[str, float]

    def record(self) -> dict[str, Any]:
        """Returns all fields as JSON values; NaN becomes None."""
        return files.finite(asdict(self))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "PseudoLabels":
        """Reads what `record` returned; raises as `Validation.of`."""
        scores = NetworkScores.of({"means": {"right": record["right"]}, "iou": record["recall"]})
        precision = NetworkScores.of({"means": {}, "iou": record["precision"]}).iou
        return cls(int(record["iteration"]), int(record["images"]), scores.means["right"], precision, scores.iou)


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

    def looked(self, labels: PseudoLabels) -> None:
        """Pseudo-labels were compared with the ground truth."""

    def saved(self, iteration: int, snapshot: Path, previews: Mapping[str, Path]) -> None:
        """A snapshot and the pictures `previews` (name → PNG file) are saved: colour masks by image, and sheets."""

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
