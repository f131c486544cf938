"""What a run tells of itself while it goes, to whoever listens: records, loggers, displays."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clan.core.errors import CheckpointError
from clan.core.files import finite
from clan.core.output import one_line


@dataclass(frozen=True)
class Step:
    """An iteration that is done.

    Args:
        iteration: which one, from 0.
        losses: by name, averaged over all processes.
        numbers: rates and counts by name.
        seconds: what it took.
        images: of both domains, in all processes.
        memory: bytes that this process holds, by place: "host", and "gpu" where it computes there.
    """

    iteration: int
    losses: Mapping[str, float]
    numbers: Mapping[str, float]
    seconds: float
    images: int
    memory: Mapping[str, int]


@dataclass(frozen=True)
class Validation:
    """What the segmenter scored on images with labels.

    Args:
        iteration: iterations done.
        dataset: what it was scored on, as "cityscapes val, 500 images".
        headline: the name of the mean that tells which snapshot is best.
        means: 0…1 or NaN, by name.
        iou: of every class, likewise.
    """

    iteration: int
    dataset: str
    headline: str
    means: Mapping[str, float]
    iou: Mapping[str, float]

    @property
    def score(self) -> float:
        """The mean that counts, 0…1 or NaN."""
        return self.means[self.headline]

    def record(self) -> dict[str, Any]:
        """It as JSON has it, which knows no NaN."""
        return finite(asdict(self))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Validation":
        """What `record` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is something else.
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
    """Is told of a run; each method does nothing until a subclass gives it something to do.

    Of several processes the first one's alone are told.
    """

    def started(self, iteration: int, total: int) -> None:
        """The run goes from an iteration on until `total`."""

    def step(self, step: Step) -> None:
        """An iteration is done."""

    def validating(self, done: int, total: int) -> None:
        """So many of this process's images are predicted."""

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """A validation is done; `best` is the best so far, maybe this one, if any has a score."""

    def saved(self, iteration: int, snapshot: Path, previews: Mapping[str, Path]) -> None:
        """A snapshot is on the disk, and colour masks of some images by their names."""

    def flush(self) -> None:
        """What was told is to be on the disk: the state that goes on from here is there."""

    def close(self) -> None:
        """Nothing more will be told."""


class Everyone(Observer):
    """Passes on what it is told to others, in their order; one that fails is told nothing more, and the run goes on.

    What has failed is said on stderr, once.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = list(observers)

    def _tell(self, event: str, *facts: Any) -> None:
        for observer in tuple(self.observers):
            try:
                getattr(observer, event)(*facts)
            except Exception as error:
                self.observers.remove(observer)
                with suppress(Exception):
                    name, reason = type(observer).__name__, one_line(str(error)) or type(error).__name__
                    print(f"warning: {name} failed and is left out from now on: {reason}", file=sys.stderr)
                with suppress(Exception):
                    observer.close()

    def started(self, iteration: int, total: int) -> None:
        """See `Observer`."""
        self._tell("started", iteration, total)

    def step(self, step: Step) -> None:
        """See `Observer`."""
        self._tell("step", step)

    def validating(self, done: int, total: int) -> None:
        """See `Observer`."""
        self._tell("validating", done, total)

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """See `Observer`."""
        self._tell("validated", validation, best)

    def saved(self, iteration: int, snapshot: Path, previews: Mapping[str, Path]) -> None:
        """See `Observer`."""
        self._tell("saved", iteration, snapshot, previews)

    def flush(self) -> None:
        """See `Observer`."""
        self._tell("flush")

    def close(self) -> None:
        """See `Observer`."""
        self._tell("close")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within the block, records that cannot be written end in a sentence.

    Raises:
        CheckpointError: they cannot.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot write the records in {folder} ({error.strerror or error}): free disk space or mend the folder, "
            "then go on with --resume"
        ) from None
