"""The workbook and CSV of a run's scores: sheets, formats and charts. Imported late, as few commands need it."""

from __future__ import annotations

import csv
import functools
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xlsxwriter
from rich.cells import cell_len

from clan.core.files import write_file
from clan.core.output import encoded, one_line
from clan.evaluation.tables import ABSENT, BEST, About, Row, SnapshotScore, Table, percent

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

    from clan.datasets.labels import LabelSpace

SUMMARY, CLASSES, CONFIG = "summary", "per class", "config"

KEYS = ("snapshot", "iteration", "best")
"""The first columns of both tables, before the scores."""

_COLORS = {
    "type": "3_color_scale",
    **{"min_type": "num", "min_value": 0, "min_color": "#F2A07B"},
    **{"mid_type": "num", "mid_value": 50, "mid_color": "#FFFFFF"},
    **{"max_type": "num", "max_value": 100, "max_color": "#7FB3E0"},
}
"""Colour scale of an IoU in %, distinguishable with colour blindness and readable under black text."""

_MARKED = {"bold": True, "bg_color": "#FFF2CC"}
"""Format of the best row and of options that differ from the preset."""

_GRID = {"visible": True, "line": {"color": "#D9D9D9", "width": 0.5}}

CHART_ROWS = 17
"""Rows from the top of the first chart to the second."""

WIDEST = 60
"""Maximum width of a column, in characters."""


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


def workbook_of(table: Table, about: About) -> bytes:
    """The bytes of the workbook: a summary with charts, the IoU of every class, and the run's options.

    Args:
        table: the scores.
        about: the facts about the run.
    """
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        title = one_line(f"{about.facts.get('run', '')}: mean IoU")
        book.set_properties({"title": title, "comments": "Written by CLAN-Paddle."})
        summary, classes, config = (book.add_worksheet(name) for name in (SUMMARY, CLASSES, CONFIG))
        styles = Styles(book)
        _write_summary(book, summary, styles, table, about)
        _write_classes(classes, styles, table)
        _write_config(config, styles, about)
        for sheet in (summary, classes, config):
            sheet.set_landscape()
            sheet.set_paper(9)
            sheet.fit_to_pages(1, 1 if sheet is summary else 0)
            sheet.repeat_rows(0)
    return content.getvalue()


class Styles:
    """The cell formats of a workbook."""

    def __init__(self, book: Workbook) -> None:
        self._format = functools.cache(lambda **style: book.add_format(style))

    def __call__(self, number: str = "", *, marked: bool = False) -> Format:
        """The format of a number, such as "0.00", or of text."""
        style = {"num_format": number, "align": "right"} if number else {}
        return self._format(**style, **(_MARKED if marked else {}))

    def option(self, *, marked: bool) -> Format:
        """The format of an option's value."""
        return self._format(align="left", **(_MARKED if marked else {}))

    def heading(self, *, right: bool = False) -> Format:
        """The format of a column header."""
        return self._format(bold=True, bottom=1, align="right" if right else "left")

    def label(self) -> Format:
        """The format of a fact's name."""
        return self._format(font_color="#595959")


def _write_summary(book: Workbook, sheet: Worksheet, styles: Styles, table: Table, about: About) -> None:
    """Writes the means of every snapshot; right of them the best and last snapshot, the facts and the charts."""
    _write_table(sheet, styles, table, [*KEYS, *table.means], [row.means for row in table.rows])
    sheet.freeze_panes(1, 0)
    left = len(KEYS) + len(table.means) + 1
    for column, name in enumerate(("", "snapshot", "iteration", *table.means), start=left):
        _put(sheet, 0, column, name, styles.heading(right=column > left + 1))
        sheet.set_column(column, column, max(10, cell_len(name) + 2))
    sheet.set_column(left, left, max([16, *map(cell_len, about.facts)]) + 2)
    sheet.set_column(left + 1, left + 1, _width([row.name for row in table.rows]))
    chosen = [] if table.best is None else [(f"best, by {table.headline}", table.rows[table.best])]
    chosen += [("last", (table.placed or table.rows)[-1])] if table.rows else []
    for line, (name, row) in enumerate(chosen, start=1):
        _put(sheet, line, left, name, styles.label())
        _write_keys(sheet, styles, line, left + 1, row)
        _write_scores(sheet, styles, line, left + 3, row.means, marked=row.best)
    top = len(chosen) + 2
    for line, (name, value) in enumerate(about.facts.items(), start=top):
        _put(sheet, line, left, name, styles.label())
        _put(sheet, line, left + 1, value)
    top += len(about.facts) + 1
    means, classes = _means_chart(book, table), _classes_chart(book, table)
    if means:
        sheet.insert_chart(top, left, means)
    if classes:
        sheet.insert_chart(top + (CHART_ROWS if means else 0), left, classes)


def _write_classes(sheet: Worksheet, styles: Styles, table: Table) -> None:
    names = [*KEYS, *table.means, *table.classes]
    _write_table(sheet, styles, table, names, [[*row.means, *row.iou] for row in table.rows])
    sheet.freeze_panes(1, len(KEYS))
    if table.rows:
        first, last = len(KEYS) + len(table.means), len(names) - 1
        sheet.autofilter(0, 0, len(table.rows), last)
        sheet.conditional_format(1, first, len(table.rows), last, _COLORS)


def _write_table(
    sheet: Worksheet, styles: Styles, table: Table, names: Sequence[str], scores: Sequence[Sequence[float]]
) -> None:
    """Writes a header and a row for every snapshot: its keys, then its scores."""
    for column, name in enumerate(names):
        _put(sheet, 0, column, name, styles.heading(right=column > 0))
        sheet.set_column(column, column, max(10, cell_len(name) + 3))  # room for the filter's button
    sheet.set_column(0, 0, _width([row.name for row in table.rows]))
    for line, (row, of_row) in enumerate(zip(table.rows, scores, strict=True), start=1):
        _write_keys(sheet, styles, line, 0, row)
        _put(sheet, line, 2, BEST if row.best else None, styles("@", marked=row.best))
        _write_scores(sheet, styles, line, len(KEYS), of_row, marked=row.best)


def _write_keys(sheet: Worksheet, styles: Styles, line: int, column: int, row: Row) -> None:
    """Writes a snapshot's name and iteration."""
    _put(sheet, line, column, row.name, styles(marked=row.best))
    _put(sheet, line, column + 1, row.iteration, styles("#,##0", marked=row.best))


def _write_scores(
    sheet: Worksheet, styles: Styles, line: int, column: int, scores: Sequence[float], *, marked: bool
) -> None:
    """Writes scores, 0…1, as percent."""
    for place, fraction in enumerate(scores, start=column):
        _put(sheet, line, place, ABSENT if math.isnan(fraction) else 100 * fraction, styles("0.00", marked=marked))


def _put(sheet: Worksheet, line: int, column: int, value: str | float | None, style: Format | None = None) -> None:
    """Writes a cell. Text is never written as a formula, even a snapshot's name "=1"."""
    if value is None or value == "":
        sheet.write_blank(line, column, None, style)
    elif isinstance(value, str):
        sheet.write_string(line, column, one_line(value), style)
    else:
        sheet.write_number(line, column, value, style)


def _write_config(sheet: Worksheet, styles: Styles, about: About) -> None:
    """Writes every option with its value in the preset, and marks differences."""
    if not about.options:
        _put(sheet, 0, 0, "The run's config.yaml was not found: its options are unknown.")
        return
    names = ("option", "value", f"preset {about.preset}", "differs")
    rows = [(one.name, _plain(one.value), _plain(one.usual), one.value != one.usual) for one in about.options]
    for column, name in enumerate(names):
        _put(sheet, 0, column, name, styles.heading())
        sheet.set_column(column, column, _width([name, *(str(row[column]) for row in rows)]))
    for line, (name, value, usual, differs) in enumerate(rows, start=1):
        style = styles.option(marked=differs)
        for column, text in enumerate((name, value, usual, "differs" if differs else "")):
            _put(sheet, line, column, text, style)
    sheet.freeze_panes(1, 1)
    sheet.autofilter(0, 0, len(rows), len(names) - 1)


def _plain(value: Any) -> str | float:
    """The cell value of an option: a number, or text as in YAML."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return value
    return str(value) if isinstance(value, str) or not value else ", ".join(str(_plain(one)) for one in value)


def _width(texts: Sequence[str]) -> int:
    return min(WIDEST, max([9, *map(cell_len, texts)]) + 2)


def _means_chart(book: Any, table: Table) -> Any:
    """The chart of the means over the iterations; None without iterations."""
    last = len(table.placed)
    if last == 0:
        return None
    # A scatter chart spaces snapshots by their iterations; a line chart would space them evenly.
    chart = book.add_chart({"type": "scatter", "subtype": "straight_with_markers"})
    for column in range(len(KEYS), len(KEYS) + len(table.means)):
        chart.add_series(
            {
                "name": [SUMMARY, 0, column],
                "categories": [SUMMARY, 1, 1, last, 1],
                "values": [SUMMARY, 1, column, last, column],
                "marker": {"type": "circle", "size": 5},
            }
        )
    chart.set_title({"name": "Means over the iterations", "name_font": {"size": 12}})
    end = {"max": table.placed[-1].iteration} if table.placed[-1].iteration else {}
    chart.set_x_axis({"name": "iteration", "num_format": "#,##0", "min": 0} | end)
    chart.set_y_axis({"name": "mean IoU, %", "num_format": "0", "major_gridlines": _GRID})
    chart.set_legend({"position": "bottom"})
    chart.set_size({"width": 640, "height": 320})
    return chart


def _classes_chart(book: Any, table: Table) -> Any:
    """The chart of the class IoUs of the best snapshot; None without one."""
    if table.best is None:
        return None
    line, first = table.best + 1, len(KEYS) + len(table.means)
    last = first + len(table.classes) - 1
    chart = book.add_chart({"type": "bar"})
    chart.add_series(
        {
            "name": [CLASSES, line, 0],
            "categories": [CLASSES, 0, first, 0, last],
            "values": [CLASSES, line, first, line, last],
            "fill": {"color": "#4A86C5"},
            "gap": 40,
            "data_labels": {"value": True, "num_format": "0.0"},
        }
    )
    chart.set_title({"name": f"IoU of each class, {table.rows[table.best].name}", "name_font": {"size": 12}})
    chart.set_x_axis({"name": "IoU, %", "num_format": "0", "min": 0, "max": 100, "major_gridlines": _GRID})
    chart.set_y_axis({"reverse": True, "crossing": "max"})
    chart.set_legend({"none": True})
    chart.set_size({"width": 640, "height": 110 + 20 * len(table.classes)})
    return chart
