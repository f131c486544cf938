"""What a terminal or a log shows: tables of scores, and how far a long job has come."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from clan.metrics.iou import Scores

ABSENT = "–"
"""Shown instead of the score of a class that never occurs."""


def percent(fraction: float) -> str:
    """A score for people: 0…1 → percent with two decimals, or `ABSENT` for NaN."""
    return ABSENT if math.isnan(fraction) else f"{100 * fraction:.2f}"


def format_scores(scores: Scores) -> str:
    """One line per class, then one per mean, in the format of the official script."""
    classes = [f"===>{name}:\t{percent(iou)}" for name, iou in zip(scores.names, scores.iou, strict=True)]
    means = [f"===> {name}:\t{percent(mean)}" for name, mean in scores.means.items()]
    return "\n".join(classes + means)


class Advance(Protocol):
    """Report progress; what `progress` hands out."""

    def __call__(self, n: int = 1, *, status: str = "", total: int | None = None) -> None:
        """Count `n` more steps.

        Args:
            n: steps done since the last call.
            status: a few words to show beside the count, such as the current losses.
            total: the number of steps, when it has only become known now.
        """


def progress(description: str, total: int | None = None, *, start: int = 0) -> AbstractContextManager[Advance]:
    """Show on stderr how far a job has come: a bar on a terminal, now and then a line elsewhere.

    Args:
        description: what is being done, such as "evaluating".
        total: the number of steps, if it is known.
        start: steps that were done before, for a job that is resumed.
    """
    show = _bar if sys.stderr.isatty() else _lines
    return show(description, total, start)


@contextmanager
def _bar(description: str, total: int | None, start: int) -> Iterator[Advance]:
    # Imported here: a log needs no terminal library, and `--help` should not wait for one.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    # An iteration may take half a minute: the default, an estimate over 30 s, would jump about.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bars:
        bar = bars.add_task(description, total=total, completed=start, status="")

        def advance(n: int = 1, *, status: str = "", total: int | None = None) -> None:
            bars.update(bar, advance=n, status=status, total=total)

        yield advance


@contextmanager
def _lines(description: str, total: int | None, start: int) -> Iterator[Advance]:
    lines = _Lines(description, total, start)
    yield lines.advance
    lines.finish()


class _Lines:
    """Progress for a log: silent about short jobs, one line every half minute about long ones."""

    first_after = 5.0
    every = 30.0

    def __init__(self, description: str, total: int | None, start: int) -> None:
        self._description = description
        self._total = total
        self._start = self._done = start
        self._began = monotonic()
        self._next_line = self._began + self.first_after

    def advance(self, n: int = 1, *, status: str = "", total: int | None = None) -> None:
        self._done += n
        self._total = total or self._total
        if monotonic() >= self._next_line:
            self._next_line = monotonic() + self.every
            self._print(self._remaining(), status)

    def finish(self) -> None:
        elapsed = monotonic() - self._began
        if elapsed >= self.first_after:
            self._print(f"done in {_clock(elapsed)}")

    def _remaining(self) -> str:
        done_here = self._done - self._start
        if self._total is None or done_here <= 0:
            return ""
        seconds = (monotonic() - self._began) / done_here * (self._total - self._done)
        return f"{_clock(seconds)} left"

    def _print(self, *remarks: str) -> None:
        count = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        line = ", ".join([f"{self._description} {count}", *filter(None, remarks)])
        print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """Whole seconds as h:mm:ss."""
    return str(timedelta(seconds=max(0, round(seconds))))
