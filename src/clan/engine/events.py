"""What a run writes about itself, line by line: `loss.txt` and `metrics.jsonl`."""

import json
from collections.abc import Mapping
from pathlib import Path

LOSS_COLUMNS = ("loss_seg", "loss_adv", "loss_weight", "loss_D_s", "loss_D_t")
"""The columns of `loss.txt`, in the order that users of the seed know."""


class EventLog:
    """Appends one line per iteration to both files; a resumed run first drops the lines it will write again.

    Args:
        folder: where the files lie.
        start: the first iteration to be written.
    """

    NAMES = ("loss.txt", "metrics.jsonl")

    def __init__(self, folder: Path, start: int = 0) -> None:
        for name in self.NAMES:
            _keep_lines(folder / name, start)
        # Line buffering: a reader sees every finished iteration, and a killed run loses none.
        self._losses = (folder / "loss.txt").open("a", buffering=1, encoding="utf-8")
        self._metrics = (folder / "metrics.jsonl").open("a", buffering=1, encoding="utf-8")

    def write(self, iteration: int, losses: Mapping[str, float], extra: Mapping[str, float]) -> None:
        """Records an iteration; a loss that the method does not have stands as 0 in `loss.txt`."""
        self._losses.write(" ".join(f"{losses.get(name, 0.0):.4f}" for name in LOSS_COLUMNS) + "\n")
        self._metrics.write(json.dumps({"iteration": iteration, **losses, **extra}) + "\n")

    def close(self) -> None:
        """Closes both files."""
        self._losses.close()
        self._metrics.close()


def _keep_lines(path: Path, count: int) -> None:
    if count == 0:
        path.unlink(missing_ok=True)
    elif path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:count]), encoding="utf-8")
