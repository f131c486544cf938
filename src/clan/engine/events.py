"""What a run writes about itself, line by line: `loss.txt`, `metrics.jsonl` and `validation.jsonl`."""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clan.atomic import finite, write_atomically
from clan.output import encoded
from clan.reporting.observer import Observer, Step, Validation, writing

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

    NAMES = ("loss.txt", "metrics.jsonl", "validation.jsonl")

    def __init__(self, folder: Path, start: int = 0, validated: int | None = None) -> None:
        self.folder = folder
        with writing(folder):
            for name in self.NAMES[:2]:
                _keep_lines(folder / name, lambda number, line: number < start)
            last = start if validated is None else validated
            _keep_lines(folder / self.NAMES[2], lambda number, line: _iteration(line) <= last)
            # Line buffering: a reader sees every finished iteration, and a killed run loses none.
            self._losses, self._metrics = (
                (folder / name).open("a", buffering=1, encoding="utf-8") for name in self.NAMES[:2]
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
        with writing(self.folder), (self.folder / self.NAMES[2]).open("ab") as file:
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
