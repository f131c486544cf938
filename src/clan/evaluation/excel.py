"""The scores of many snapshots as a workbook and a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clan.core.files import write_file
from clan.core.output import encoded, one_line
from clan.evaluation.tables import BEST, About, Row, SnapshotScore, Table, percent

if TYPE_CHECKING:
    from clan.datasets.labels import LabelSpace


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

    Scores are in percent, as papers print them; `clan.evaluation.tables.ABSENT` stands for a class that never
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
