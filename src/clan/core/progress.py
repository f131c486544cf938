"""How far a long job has come: a bar on a terminal, now and then a line in a log."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from time import monotonic
from typing import Protocol

from clan.core.output import encoded


def write_unbuffered(sentence: str) -> None:
    """Writes to stderr as handlers of signals may: they must not enter a buffer that they may have interrupted."""
    with suppress(OSError):
        os.write(2, encoded(f"{sentence}\n"))


class Advance(Protocol):
    """Report progress; what `progress` hands out."""

    def __call__(self, n: int = 1, *, total: int | None = None) -> None:
        """Count `n` more steps.

        Args:
            n: steps done since the last call.
            total: the number of steps, when it has only become known now.
        """


def progress(description: str, total: int | None = None) -> AbstractContextManager[Advance]:
    """Show on stderr how far a job has come: a bar on a terminal, now and then a line elsewhere.

    Args:
        description: what is being done, such as "evaluating".
        total: the number of steps, if it is known.
    """
    show = _bar if sys.stderr.isatty() else _lines
    return show(description, total)


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Advance]:
    # Imported here: a log needs no terminal library, and `--help` should not wait for one.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # An image may take half a minute: the default, an estimate over 30 s, would jump about.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bars:
        bar = bars.add_task(description, total=total)

        def advance(n: int = 1, *, total: int | None = None) -> None:
            bars.update(bar, advance=n, total=total)

        yield advance


@contextmanager
def _lines(description: str, total: int | None) -> Iterator[Advance]:
    lines = _Lines(description, total)
    yield lines.advance
    lines.finish()


class Pace:
    """When a log gets its next line: never about short jobs, every half minute about long ones."""

    first_after = 5.0
    every = 30.0

    def __init__(self) -> None:
        self._began = monotonic()
        self._next = self._began + self.first_after

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return monotonic() - self._began

    def due(self) -> bool:
        """Whether it is time for a line, which is then taken for written."""
        if monotonic() < self._next:
            return False
        self._next = monotonic() + self.every
        return True


class _Lines:
    """Progress for a log."""

    def __init__(self, description: str, total: int | None) -> None:
        self._description = description
        self._total = total
        self._done = 0
        self._pace = Pace()

    def advance(self, n: int = 1, *, total: int | None = None) -> None:
        self._done += n
        self._total = total or self._total
        if self._pace.due():
            self._print(self._remaining())

    def finish(self) -> None:
        if self._pace.elapsed >= self._pace.first_after:
            self._print(f"done in {clock(self._pace.elapsed)}")

    def _remaining(self) -> str:
        if self._total is None or self._done <= 0:
            return ""
        return f"{clock(self._pace.elapsed / self._done * (self._total - self._done))} left"

    def _print(self, remark: str) -> None:
        count = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        line = ", ".join(filter(None, [f"{self._description} {count}", remark]))
        print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Whole seconds as h:mm:ss, with the days before them as "2d " where there are any."""
    days, rest = divmod(max(0, round(seconds)), 86400)
    return (f"{days}d " if days else "") + str(timedelta(seconds=rest))
