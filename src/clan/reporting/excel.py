"""The scores of many snapshots as a workbook and a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.atomic import write_atomically
from clan.errors import DataError
from clan.reporting.console import ABSENT, percent

if TYPE_CHECKING:
    from clan.labels import LabelSpace
    from clan.metrics.iou import Scores

BEST = "★ best"
_SHEET = "mIoU"


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


@dataclass(frozen=True)
class _Table:
    """What both files hold."""

    means: tuple[str, ...]
    classes: tuple[str, ...]
    snapshots: Sequence[SnapshotScore]
    best: SnapshotScore | None

    def header(self) -> list[str]:
        """The names of the columns."""
        return ["snapshot", "iteration", "best", *self.means, *self.classes]

    def rows(self) -> Iterator[tuple[str, int | str, str, list[float]]]:
        """Per snapshot: name, iteration or "", mark or "", and its means and IoUs, 0…1 or NaN."""
        for snapshot in self.snapshots:
            scores = snapshot.scores
            iteration = "" if snapshot.iteration is None else snapshot.iteration
            mark = BEST if snapshot is self.best else ""
            fractions = [*(scores.means[name] for name in self.means), *map(float, scores.iou)]
            yield snapshot.name, iteration, mark, fractions


def write_bulk(
    rows: Sequence[SnapshotScore],
    folder: Path,
    stem: str,
    label_space: LabelSpace,
    *,
    headline: str | None = None,
) -> tuple[Path, Path]:
    """Write `stem`.xlsx and `stem`.csv: one row per snapshot, by iteration, the best one marked.

    Scores are in percent, as papers print them; `ABSENT` stands for a class that never occurs. Either
    file is replaced as a whole, so that a reader never meets half of one.

    Args:
        rows: the snapshots; those without iteration come last.
        folder: where to write; created if need be.
        stem: the files' name without extension.
        label_space: names the classes and means.
        headline: the mean that decides which snapshot is best; by default the last of the label space,
            mIoU-13 for Cityscapes.

    Returns:
        The paths of the workbook and of the CSV file.

    Raises:
        DataError: the folder or a file cannot be written.
    """
    means = tuple(label_space.subsets) or ("mIoU",)
    ordered = sorted(rows, key=lambda row: (row.iteration is None, row.iteration or 0, row.name))
    table = _Table(means, label_space.names, ordered, _best(ordered, headline or means[-1]))
    workbook, text = Path(folder) / f"{stem}.xlsx", Path(folder) / f"{stem}.csv"
    _replace(workbook, _workbook(table))
    _replace(text, _csv(table).encode())
    return workbook, text


def _best(snapshots: Sequence[SnapshotScore], headline: str) -> SnapshotScore | None:
    """The snapshot with the highest headline mean, the first of equals; None if all are NaN."""
    present = [snapshot for snapshot in snapshots if not math.isnan(snapshot.scores.means[headline])]
    return max(present, key=lambda snapshot: snapshot.scores.means[headline], default=None)


def _csv(table: _Table) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.header())
    for name, iteration, mark, fractions in table.rows():
        writer.writerow([name, iteration, mark, *map(percent, fractions)])
    return text.getvalue()


def _workbook(table: _Table) -> bytes:
    # Imported here: most commands write no workbook.
    import xlsxwriter

    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        sheet = book.add_worksheet(_SHEET)
        _write_header(book, sheet, table)
        _write_rows(book, sheet, table)
        _add_chart(book, sheet, table)
    return content.getvalue()


def _write_header(book: Any, sheet: Any, table: _Table) -> None:
    style = {"bold": True, "bottom": 1}
    left, right = book.add_format(style), book.add_format(style | {"align": "right"})
    for column, name in enumerate(table.header()):
        sheet.write_string(0, column, name, left if column == 0 else right)
        sheet.set_column(column, column, max(9, len(name) + 2))
    sheet.set_column(0, 0, max([9, *(len(snapshot.name) for snapshot in table.snapshots)]) + 2)
    sheet.freeze_panes(1, 3)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)


def _write_rows(book: Any, sheet: Any, table: _Table) -> None:
    highlight = {"bold": True, "bg_color": "#FFF2CC"}
    plain, marked = (
        (
            book.add_format(style),
            book.add_format(style | {"num_format": "0", "align": "right"}),
            book.add_format(style | {"num_format": "0.00", "align": "right"}),
        )
        for style in ({}, highlight)
    )
    for row, (name, iteration, mark, fractions) in enumerate(table.rows(), start=1):
        text, whole, score = marked if mark else plain
        sheet.write_string(row, 0, name, text)  # not write: "=1.pdparams" must not become a formula
        sheet.write(row, 1, iteration, whole)
        sheet.write(row, 2, mark, whole)
        for column, fraction in enumerate(fractions, start=3):
            sheet.write(row, column, ABSENT if math.isnan(fraction) else 100 * fraction, score)


def _add_chart(book: Any, sheet: Any, table: _Table) -> None:
    """Draw the means over the iterations, below the table."""
    last = sum(snapshot.iteration is not None for snapshot in table.snapshots)
    if last == 0:
        return
    # A scatter chart spaces snapshots by their iterations; a line chart would space them evenly.
    chart = book.add_chart({"type": "scatter", "subtype": "straight_with_markers"})
    for column in range(3, 3 + len(table.means)):
        chart.add_series(
            {
                "name": [_SHEET, 0, column],
                "categories": [_SHEET, 1, 1, last, 1],
                "values": [_SHEET, 1, column, last, column],
            }
        )
    chart.set_x_axis({"name": "iteration", "num_format": "#,##0", "min": 0})
    chart.set_y_axis({"name": "mean IoU, %", "num_format": "0"})
    chart.set_size({"width": 800, "height": 400})
    sheet.insert_chart(len(table.snapshots) + 2, 0, chart)


def _replace(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}): choose a folder you may write to, "
            "and close the file if it is open elsewhere"
        ) from error
