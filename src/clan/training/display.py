"""Progress of a run: a display on a terminal, lines in a log, JSON for programs, or nothing."""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from clan.core.files import as_json
from clan.core.output import Pace, clock, one_line, worded, write_unbuffered
from clan.evaluation.tables import percent
from clan.run.observer import Observer, Step, Validation

if TYPE_CHECKING:
    from rich.console import RenderableType

Output = Literal["text", "json", "quiet"]


SPAN = 100
"""Iterations of the exponential average of displayed losses; weights decay by 1 − 2 / (SPAN + 1) per iteration."""
RECENT = 50
"""Iterations that speed is averaged over."""


class Meter:
    """Smoothed losses, speed and remaining time.

    Remaining time is estimated from the last `RECENT` iterations and the average time between iterations (validation,
    saving). The first iteration is left out: it may include compilation.

    Args:
        done: iterations done before.
        total: iterations of the whole run.
    """

    def __init__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self.losses: dict[str, float] = {}
        self._sums: dict[str, tuple[float, float]] = {}
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._images = self._steps = 0
        self._between = 0.0
        self._at = monotonic()

    def step(self, step: Step) -> None:
        """Adds an iteration."""
        now = monotonic()
        self._between += max(0.0, now - self._at - step.seconds) if self._steps else 0.0
        self._at = now
        self._steps += 1
        self.done = step.iteration + 1
        self._images = step.images
        if self._steps == 2:
            self._seconds.clear()
        self._seconds.append(step.seconds)
        keep = 1 - 2 / (SPAN + 1)
        for name, value in step.losses.items():
            total, weight = self._sums.get(name, (0.0, 0.0))
            if math.isfinite(value):
                total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
                self._sums[name] = total, weight
            self.losses[name] = total / weight if weight else value

    @property
    def images_per_second(self) -> float:
        """Images of both domains in all processes; 0 before the first iteration."""
        return self._images * len(self._seconds) / sum(self._seconds) if self._seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Remaining time; None before the second iteration."""
        if self._steps < 2:
            return 0.0 if self._steps and self.done == self.total else None
        each = sum(self._seconds) / len(self._seconds) + self._between / (self._steps - 1)
        return max(0.0, (self.total - self.done) * each - (monotonic() - self._at))

    @property
    def time_left(self) -> str:
        """Remaining time in words; empty before the second iteration."""
        return "" if self.seconds_left is None else f"{clock(self.seconds_left)} left"


class Display(Observer):
    """Base of all displays; a context manager that calls `close`."""

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def note(self, sentence: str) -> None:
        """Prints a sentence."""
        print(worded(sentence), flush=True)

    def warn(self, sentence: str) -> None:
        """Prints a warning to stderr between empty lines, in every output mode."""
        print(f"\nwarning: {worded(sentence)}\n", file=sys.stderr, flush=True)

    def interrupted(self, sentence: str) -> None:
        """Reports a signal; called in the signal handler."""
        write_unbuffered(sentence)

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """See `Observer`."""
        self.note(
            f"validation after {validation.iteration:,} iterations: {scores(validation)}"
            + "".join(f", {name} {percent(one.means[validation.headline])}" for name, one in validation.others.items())
            + (f", best {scores(best)} after {best.iteration:,}" if best and best is not validation else "")
            + (", the best so far" if best is validation else "")
        )

    def finished(self, snapshot: Path) -> None:
        """Reports the last snapshot of a finished run."""
        self.note(f"saved {snapshot}")


def scores(validation: Validation) -> str:
    """Returns the headline mean, as "mIoU-13 47.80"."""
    return f"{validation.headline} {percent(validation.score)}"


def open_display(output: Output) -> Display:
    """Returns the display for an output mode; "text" depends on whether stderr is a terminal."""
    if output == "json":
        return Json()
    if output == "quiet":
        return Quiet()
    # TERM of terminals without cursor movement.
    return Live() if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown") else Lines()


class Quiet(Display):
    """Prints only the path of the last snapshot."""

    def note(self, sentence: str) -> None:
        """Discards the sentence."""

    def finished(self, snapshot: Path) -> None:
        """See `Display`."""
        print(one_line(f"saved {snapshot}"), flush=True)


class Lines(Display):
    """Prints a line to stderr at most every half minute, for logs."""

    def __init__(self) -> None:
        self._pace = Pace()

    def started(self, iteration: int, total: int) -> None:
        """See `Observer`."""
        self._meter = Meter(iteration, total)
        self._pace = Pace()

    def step(self, step: Step) -> None:
        """See `Observer`."""
        self._meter.step(step)
        if self._pace.due():
            losses = " ".join(f"{name} {number(value)}" for name, value in short(self._meter.losses).items())
            self._print(self._meter.time_left, losses, *facts(self._meter, step))

    def finished(self, snapshot: Path) -> None:
        """See `Display`."""
        if self._pace.elapsed >= self._pace.first_after:
            self._print(f"done in {clock(self._pace.elapsed)}")
        super().finished(snapshot)

    def _print(self, *remarks: str) -> None:
        line = [f"training {self._meter.done}/{self._meter.total}", *filter(None, remarks)]
        print(", ".join(line), file=sys.stderr, flush=True)


class Json(Display):
    """Prints JSON objects, one per line; "event" is note, warning, start, step, validation, snapshot or end."""

    def started(self, iteration: int, total: int) -> None:
        """See `Observer`."""
        self._meter = Meter(iteration, total)
        self._pace = Pace()
        self._say("start", iteration=iteration, total=total)

    def step(self, step: Step) -> None:
        """Prints a step event at most every half minute and at the end; losses are exponential averages."""
        meter = self._meter
        meter.step(step)
        if self._pace.due() or meter.done == meter.total:
            self._say(
                "step",
                iteration=meter.done,
                total=meter.total,
                seconds_left=meter.seconds_left,
                images_per_second=meter.images_per_second,
                memory_bytes=step.memory,
                numbers=step.numbers,
                losses=meter.losses,
            )

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """See `Observer`."""
        self._say("validation", **validation.record(), best=best is validation)

    def saved(self, iteration: int, snapshot: Path, previews: Mapping[str, Path]) -> None:
        """See `Observer`."""
        self._say("snapshot", iteration=iteration, path=str(snapshot))

    def note(self, sentence: str) -> None:
        """See `Display`."""
        self._say("note", text=worded(sentence))

    def warn(self, sentence: str) -> None:
        """See `Display`."""
        super().warn(sentence)
        self._say("warning", text=worded(sentence))

    def finished(self, snapshot: Path) -> None:
        """See `Display`."""
        self._say("end", path=str(snapshot))

    def _say(self, event: str, **facts: Any) -> None:
        print(as_json({"event": event, **facts}).decode(), flush=True)


class Live(Display):
    """Draws a progress bar with losses, speed and memory below it on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

        self._meter: Meter | None = None
        self._items: Sequence[str] = ()
        self._measured: Sequence[str] = ()
        self._best = self._doing = self._signal = ""
        left = TextColumn("{task.fields[left]}")
        bar = (TextColumn("training"), BarColumn(bar_width=None), MofNCompleteColumn(), TaskProgressColumn(), left)
        console = Console(stderr=True)
        self._progress = Progress(*bar, console=console, expand=True)
        # Other output appears above the bar, unless it is redirected to a file.
        self._live = Live(
            get_renderable=self._drawn,
            console=console,
            refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
        )

    def started(self, iteration: int, total: int) -> None:
        """See `Observer`."""
        self._meter = Meter(iteration, total)
        self._progress.add_task("training", total=total, completed=iteration, left="")
        self._live.start()

    def step(self, step: Step) -> None:
        """See `Observer`."""
        assert self._meter is not None
        self._meter.step(step)
        self._progress.update(self._progress.task_ids[0], completed=self._meter.done, left=self._meter.time_left)
        # Padded to a fixed width, so that columns do not move.
        self._items = [f"{name} {number(value):<8}" for name, value in short(self._meter.losses).items()]
        rates = short({name: rate for name, rate in step.numbers.items() if "rate" in name})
        self._measured = [*facts(self._meter, step), *(f"{name} {rate:.2e}" for name, rate in rates.items())]
        self._doing = ""

    def validating(self, done: int, total: int) -> None:
        """See `Observer`."""
        self._doing = f"validating {done}/{total}"

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """See `Observer`."""
        super().validated(validation, best)
        self._doing = ""
        self._best = f"best {scores(best)} after {best.iteration:,}" if best else ""

    def note(self, sentence: str) -> None:
        """See `Display`."""
        if self._live.is_started and sys.stdout.isatty():
            self._live.console.print(worded(sentence), markup=False, highlight=False, soft_wrap=True)
        else:
            super().note(sentence)

    def interrupted(self, sentence: str) -> None:
        """See `Display`. Drawn by the next refresh, since a signal handler must not draw."""
        self._signal = sentence

    def finished(self, snapshot: Path) -> None:
        """See `Display`."""
        self._live.stop()
        super().finished(snapshot)

    def close(self) -> None:
        """See `Observer`."""
        self._live.stop()

    def _drawn(self) -> RenderableType:
        from rich.columns import Columns
        from rich.console import Group
        from rich.text import Text

        def row(items: Iterable[str], style: str = "") -> Columns:
            return Columns([Text(item, style, no_wrap=True) for item in items if item], padding=(0, 2))

        averaged = f"losses averaged over {SPAN}" if self._items else ""
        others = row([*self._measured, averaged, self._best, self._doing], "dim")
        return Group(self._progress, row(self._items), others, *([Text(self._signal)] if self._signal else ()))


def short(named: Mapping[str, float]) -> dict[str, float]:
    """Shortens names: loss_seg → seg, learning_rate_D → rate_D."""
    return {name.removeprefix("loss_").replace("learning_", ""): value for name, value in named.items()}


def number(value: float) -> str:
    """Formats a number in at most 8 characters."""
    return f"{value:.3g}"


def facts(meter: Meter, step: Step) -> list[str]:
    """Returns speed and memory as text."""
    held = (
        f"{amount / 1e9:.2f} GB" + ("" if place == "host" else f" {place}") for place, amount in step.memory.items()
    )
    return [f"{meter.images_per_second:.3g} img/s", *held]
