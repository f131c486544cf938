"""What a run writes about itself, line by line: `loss.txt` and `metrics.jsonl`."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from clan.atomic import write_atomically
from clan.errors import CheckpointError

LOSS_COLUMNS = ("loss_seg", "loss_adv", "loss_weight", "loss_D_s", "loss_D_t")
"""The columns of `loss.txt`, in the order that users of the seed know."""


class EventLog:
    """Appends one line per iteration to both files; a resumed run first drops the lines it will write again.

    Args:
        folder: where the files lie.
        start: the first iteration to be written.

    Raises:
        CheckpointError: here and in `write`, the files cannot be written.
    """

    NAMES = ("loss.txt", "metrics.jsonl")

    def __init__(self, folder: Path, start: int = 0) -> None:
        self.folder = folder
        with self._told():
            for name in self.NAMES:
                _keep_lines(folder / name, start)
            # Line buffering: a reader sees every finished iteration, and a killed run loses none.
            self._losses = (folder / "loss.txt").open("a", buffering=1, encoding="utf-8")
            self._metrics = (folder / "metrics.jsonl").open("a", buffering=1, encoding="utf-8")

    def write(self, iteration: int, losses: Mapping[str, float], extra: Mapping[str, float]) -> None:
        """Records an iteration.

        A loss that the method does not have stands as 0 in `loss.txt`; what is not finite is null in `metrics.jsonl`,
        since JSON has no NaN.
        """
        numbers = {name: value if math.isfinite(value) else None for name, value in {**losses, **extra}.items()}
        with self._told():
            self._losses.write(" ".join(f"{losses.get(name, 0.0):.4f}" for name in LOSS_COLUMNS) + "\n")
            self._metrics.write(json.dumps({"iteration": iteration, **numbers}) + "\n")

    def close(self) -> None:
        """Closes both files; what a full disk did not take, `write` has told."""
        for file in (self._losses, self._metrics):
            with suppress(OSError):
                file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"cannot write the records in {self.folder} ({error.strerror}): free disk space or mend the folder, "
                "then go on with --resume"
            ) from None


def _keep_lines(path: Path, count: int) -> None:
    if count == 0:
        path.unlink(missing_ok=True)
    elif path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        write_atomically(path, lambda file: file.writelines(lines[:count]))
