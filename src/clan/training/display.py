"""What a user sees of a run while it goes: a display on a terminal, lines in a log, JSON for programs, or nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from clan.core.files import as_json
from clan.core.output import Pace, clock, one_line, worded, write_unbuffered
from clan.evaluation.tables import percent
from clan.run.observer import Observer, Step, Validation
from clan.training.meter import SPAN, Meter

if TYPE_CHECKING:
    from rich.console import RenderableType

Output = Literal["text", "json", "quiet"]


class Display(Observer):
    """Shows a run; as a context, from the first sentence to the last."""

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def note(self, sentence: str) -> None:
        """A sentence for the user."""
        print(worded(sentence), flush=True)

    def warn(self, sentence: str) -> None:
        """A sentence that nobody should overlook: on a line of its own on stderr, whatever else is shown."""
        print(f"\nwarning: {worded(sentence)}\n", file=sys.stderr, flush=True)

    def interrupted(self, sentence: str) -> None:
        """A signal came; called in its handler."""
        write_unbuffered(sentence)

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """See `Observer`."""
        self.note(
            f"validation after {validation.iteration:,} iterations: {scores(validation)}"
            + (f", best {scores(best)} after {best.iteration:,}" if best and best is not validation else "")
            + (", the best so far" if best is validation else "")
        )

    def finished(self, snapshot: Path) -> None:
        """The run came to its end."""
        self.note(f"saved {snapshot}")


def scores(validation: Validation) -> str:
    """The mean that counts, as "mIoU-13 47.80"."""
    return f"{validation.headline} {percent(validation.score)}"


def open_display(output: Output) -> Display:
    """What suits the user's wish and, for text, where it goes."""
    if output == "json":
        return Json()
    if output == "quiet":
        return Quiet()
    # A terminal that cannot move its cursor says so by this name.
    return Live() if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown") else Lines()


class Quiet(Display):
    """Says where the last snapshot is, and nothing else."""

    def note(self, sentence: str) -> None:
        """Nothing."""

    def finished(self, snapshot: Path) -> None:
        """See `Display`."""
        print(one_line(f"saved {snapshot}"), flush=True)


class Lines(Display):
    """A line now and then, on stderr, for logs."""

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
            left = self._meter.seconds_left
            losses = " ".join(f"{name} {number(value)}" for name, value in short(self._meter.losses).items())
            self._print(None if left is None else f"{clock(left)} left", losses, *facts(self._meter, step))

    def finished(self, snapshot: Path) -> None:
        """See `Display`."""
        if self._pace.elapsed >= self._pace.first_after:
            self._print(f"done in {clock(self._pace.elapsed)}")
        super().finished(snapshot)

    def _print(self, *remarks: str | None) -> None:
        line = [f"training {self._meter.done}/{self._meter.total}", *filter(None, remarks)]
        print(", ".join(line), file=sys.stderr, flush=True)


class Json(Display):
    """One object a line on stdout, each with its "event": note, warning, start, step, validation, snapshot, end."""

    def started(self, iteration: int, total: int) -> None:
        """See `Observer`."""
        self._meter = Meter(iteration, total)
        self._pace = Pace()
        self._say("start", iteration=iteration, total=total)

    def step(self, step: Step) -> None:
        """Says how far it is, at the pace of lines, and at the end; losses are averages."""
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
    """A bar with the time left, and losses and other facts below it, redrawn in place on stderr."""

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
        # What else is printed meanwhile appears above the bar, unless it goes into a file.
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
        left = self._meter.seconds_left
        words = "" if left is None else f"{clock(left)} left"
        self._progress.update(self._progress.task_ids[0], completed=self._meter.done, left=words)
        # Of one width, so that nothing jumps about.
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
        """See `Display`; the next refresh shows it, since a handler must not draw."""
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
    """The same under names that leave out what all have: loss_seg → seg, learning_rate_D → rate_D."""
    return {name.removeprefix("loss_").replace("learning_", ""): value for name, value in named.items()}


def number(value: float) -> str:
    """A number in at most 8 characters."""
    return f"{value:.3g}"


def facts(meter: Meter, step: Step) -> list[str]:
    """Speed and memory in words."""
    held = (
        f"{amount / 1e9:.2f} GB" + ("" if place == "host" else f" {place}") for place, amount in step.memory.items()
    )
    return [f"{meter.images_per_second:.3g} img/s", *held]
