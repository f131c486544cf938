"""Tables of scores: text for a terminal, and a workbook with a CSV for many snapshots."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clan.core.atomic import write_file
from clan.core.output import encoded, one_line

if TYPE_CHECKING:
    from clan.datasets.labels import LabelSpace
    from clan.evaluation.iou import Scores

ABSENT = "–"
"""Displayed instead of the score of a class that never occurs."""


def percent(fraction: float) -> str:
    """Formats a score, 0…1, as percent with two decimals; `ABSENT` for NaN."""
    return ABSENT if math.isnan(fraction) else f"{100 * fraction:.2f}"


def format_scores(scores: Scores) -> str:
    """Formats scores like the official script: one line per class, then one per mean."""
    classes = [f"===>{name}:\t{percent(iou)}" for name, iou in zip(scores.names, scores.iou, strict=True)]
    means = [f"===> {name}:\t{percent(mean)}" for name, mean in scores.means.items()]
    nothing = [] if scores.confusion.any() else ["no pixel of the ground truth is of a class: nothing was scored"]
    return "\n".join(classes + means + nothing)


BEST = "★ best"


@dataclass(frozen=True)
class SnapshotScore:
    """The scores of one snapshot.

    Args:
        name: the snapshot's name, such as "SYS_2000".
        iteration: the snapshot's iteration, if its name has one.
        scores: scores in the label space of the table.
    """

    name: str
    iteration: int | None
    scores: Scores


class Option(NamedTuple):
    """An option of a run by its full name, and its value in a preset; `ABSENT` if the preset lacks the option."""

    name: str
    value: Any
    usual: Any


@dataclass(frozen=True)
class About:
    """The facts about a run in its workbook.

    Args:
        facts: name of a fact → text.
        options: all options of the run; empty without the run's configuration.
        preset: name of the preset they are compared with.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[Option] = ()
    preset: str = ""


class Row(NamedTuple):
    """A snapshot's row in workbook and CSV; means and IoUs are 0…1 or NaN."""

    name: str
    iteration: int | None
    best: bool
    means: Sequence[float]
    iou: Sequence[float]


@dataclass(frozen=True)
class Table:
    """The contents of workbook and CSV.

    Args:
        means: names of the means.
        classes: names of the classes.
        rows: the snapshots by iteration; those without iteration come last.
        headline: the mean that decides the best snapshot.
    """

    means: tuple[str, ...]
    classes: tuple[str, ...]
    rows: Sequence[Row]
    headline: str

    @property
    def placed(self) -> Sequence[Row]:
        """The rows with an iteration."""
        return [row for row in self.rows if row.iteration is not None]

    @property
    def best(self) -> int | None:
        """The index of the best row; None if no row has a score."""
        return next((number for number, row in enumerate(self.rows) if row.best), None)


def write_bulk(
    snapshots: Sequence[SnapshotScore],
    folder: Path,
    stem: str,
    label_space: LabelSpace,
    *,
    headline: str | None = None,
    about: About | None = None,
) -> tuple[Path, Path]:
    """Writes `stem`.xlsx and `stem`.csv: one row per snapshot, by iteration, with the best one marked.

    Scores are in percent; `ABSENT` stands for a class that never occurs. Each file is replaced atomically.

    Args:
        snapshots: the scores; snapshots without iteration come last.
        folder: the folder to write to; created if missing.
        stem: the files' name without suffix.
        label_space: the classes and means.
        headline: the mean that decides the best snapshot; None: the last of the label space, mIoU-13 for Cityscapes.
        about: the workbook's facts about the run.

    Returns:
        The paths of the workbook and of the CSV file.

    Raises:
        DataError: the folder or a file cannot be written.
    """
    # Imported late: most commands write no workbook.
    from clan.evaluation.workbook import workbook_of

    means = tuple(label_space.subsets) or ("mIoU",)
    headline = headline or means[-1]
    ordered = sorted(snapshots, key=lambda one: (one.iteration is None, one.iteration or 0, one.name))
    table = Table(means, label_space.names, list(_rows(ordered, means, headline)), headline)
    workbook, text = Path(folder) / f"{stem}.xlsx", Path(folder) / f"{stem}.csv"
    _replace(workbook, workbook_of(table, about or About({"run": stem})))
    _replace(text, encoded(_csv(table)))
    return workbook, text


def _rows(snapshots: Sequence[SnapshotScore], means: Sequence[str], headline: str) -> Iterator[Row]:
    """The rows; the best has the highest headline mean, the first of equal ones; none if all are NaN."""
    present = [one for one in snapshots if not math.isnan(one.scores.means[headline])]
    best = max(present, key=lambda one: one.scores.means[headline], default=None)
    for one in snapshots:
        scores = one.scores
        yield Row(
            one_line(one.name), one.iteration, one is best, [scores.means[name] for name in means], scores.iou.tolist()
        )


def _csv(table: Table) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["snapshot", "iteration", "best", *table.means, *table.classes])
    for row in table.rows:
        iteration = "" if row.iteration is None else row.iteration
        writer.writerow([row.name, iteration, BEST if row.best else "", *map(percent, [*row.means, *row.iou])])
    return text.getvalue()


def _replace(path: Path, content: bytes) -> None:
    remedy = "choose a folder you may write to, and close the file if it is open elsewhere"
    write_file(path, content, remedy, sync=True)
