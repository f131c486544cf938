"""Tables of scores: text for a terminal, and a workbook with a CSV for many snapshots."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clan.core.files import write_file
from clan.core.output import encoded, one_line

if TYPE_CHECKING:
    from clan.datasets.labels import LabelSpace
    from clan.evaluation.iou import Scores

ABSENT = "–"
"""Shown instead of the score of a class that never occurs."""


def percent(fraction: float) -> str:
    """A score for people: 0…1 → percent with two decimals, or `ABSENT` for NaN."""
    return ABSENT if math.isnan(fraction) else f"{100 * fraction:.2f}"


def format_scores(scores: Scores) -> str:
    """One line per class, then one per mean, in the format of the official script."""
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
        iteration: after how many iterations it was taken, if its name tells.
        scores: scores in the label space of the whole table.
    """

    name: str
    iteration: int | None
    scores: Scores


class Option(NamedTuple):
    """One option of a run by its whole name, and what a preset says: `ABSENT` if it has no such option."""

    name: str
    value: Any
    usual: Any


@dataclass(frozen=True)
class About:
    """What a workbook tells of its run beside the scores.

    Args:
        facts: what it is called, what it did, what it was scored on, with what.
        options: all of them; none if the run's configuration is not at hand.
        preset: what they are compared with.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[Option] = ()
    preset: str = ""


class Row(NamedTuple):
    """A snapshot as both files show it; means and IoUs are 0…1 or NaN."""

    name: str
    iteration: int | None
    best: bool
    means: Sequence[float]
    iou: Sequence[float]


@dataclass(frozen=True)
class Table:
    """What both files hold: the snapshots by iteration.

    Args:
        means: names of the means.
        classes: names of the classes.
        rows: the snapshots; those without iteration come last.
        headline: the mean that decides which one is best.
    """

    means: tuple[str, ...]
    classes: tuple[str, ...]
    rows: Sequence[Row]
    headline: str

    @property
    def placed(self) -> Sequence[Row]:
        """The snapshots whose iteration is known."""
        return [row for row in self.rows if row.iteration is not None]

    @property
    def best(self) -> int | None:
        """Position of the best snapshot, if any has a score."""
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
    """Write `stem`.xlsx and `stem`.csv: one row per snapshot, by iteration, the best one marked.

    Scores are in percent, as papers print them; `ABSENT` stands for a class that never
    occurs. Either file is replaced as a whole, so that a reader never meets half of one.

    Args:
        snapshots: those without iteration come last.
        folder: where to write; created if need be.
        stem: the files' name without extension.
        label_space: names the classes and means.
        headline: the mean that decides which snapshot is best; by default the last of the label space,
            mIoU-13 for Cityscapes.
        about: what the workbook tells of the run.

    Returns:
        The paths of the workbook and of the CSV file.

    Raises:
        DataError: the folder or a file cannot be written.
    """
    # Imported here: most commands write no workbook.
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
    """The best is the one with the highest headline mean, the first of equals; none if all are NaN."""
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
