import csv
import math

import numpy as np
import openpyxl
import pytest

from clan.core.errors import DataError
from clan.datasets.labels import CITYSCAPES, LabelSpace
from clan.evaluation.iou import score
from clan.evaluation.tables import BEST, About, Option, SnapshotScore
from clan.evaluation.workbook import write_bulk


def snapshot(name, iteration, accuracy, absent=16):
    """A snapshot that gets the given fraction of each class right; one class never occurs."""
    confusion = np.zeros((19, 19), np.int64)
    for c in range(19):
        confusion[c, c] = round(1000 * accuracy)
        confusion[c, (c + 1) % 19] = 1000 - round(1000 * accuracy)
    confusion[absent] = confusion[:, absent] = 0
    return SnapshotScore(name, iteration, score(confusion, CITYSCAPES))


ROWS = [snapshot("SYS_10000", 10000, 0.7), snapshot("SYS_2000", 2000, 0.9), snapshot("final", None, 0.5)]
ABOUT = About(
    {"run": "SYS", "method": "clan"},
    [
        Option("loss.gamma", 0.0, 2.0),
        Option("loss.damping", True, True),
        Option("source.size", [64, 32], [64, 32]),
        Option("classes.x", [], "–"),
    ],
    "official",
)
HEADER = ["snapshot", "iteration", "best", "mIoU-19", "mIoU-16", "mIoU-13", *CITYSCAPES.names]


@pytest.fixture
def files(tmp_path):
    return write_bulk(ROWS, tmp_path / "mIoU_results", "SYS", CITYSCAPES, about=ABOUT)


@pytest.fixture
def book(files):
    return openpyxl.load_workbook(files[0])


@pytest.fixture
def sheet(book):
    return book["per class"]


def test_both_tables_hold_one_row_per_snapshot_by_iteration(book):
    for name, columns in (("summary", 6), ("per class", 25)):
        header, *rows = (row[:columns] for row in book[name].iter_rows(values_only=True))
        assert list(header) == HEADER[:columns]
        assert [row[:3] for row in rows[:3]] == [
            ("SYS_2000", 2000, BEST),
            ("SYS_10000", 10000, None),
            ("final", None, None),
        ]
        for row, source in zip(rows, [ROWS[1], ROWS[0], ROWS[2]], strict=False):
            assert row[3:6] == pytest.approx([100 * mean for mean in source.scores.means.values()])
            for cell, iou in zip(row[6:], source.scores.iou, strict=False):
                assert cell == "–" if math.isnan(iou) else cell == pytest.approx(100 * iou)


def test_the_summary_comes_first_and_names_the_best_and_the_last(book):
    assert book.sheetnames == ["summary", "per class", "config"]
    right = [row[7:13] for row in book["summary"].iter_rows(max_row=8, values_only=True)]
    assert right[0] == (None, "snapshot", "iteration", *HEADER[3:6])
    assert [row[:3] for row in right[1:3]] == [("best, by mIoU-13", "SYS_2000", 2000), ("last", "SYS_10000", 10000)]
    assert right[1][3:] == pytest.approx([100 * mean for mean in ROWS[1].scores.means.values()])
    assert ("method", "clan") in {row[:2] for row in right[3:]}


def test_names_stay_in_view_and_numbers_have_two_decimals(book, sheet):
    assert [book[name].freeze_panes for name in book.sheetnames] == ["A2", "D2", "B2"]
    assert [book[name].auto_filter.ref for name in book.sheetnames] == [None, "A1:Y4", "A1:D5"]
    assert (sheet["D2"].number_format, sheet["B2"].number_format) == ("0.00", "#,##0")


def test_the_best_row_is_marked_and_classes_have_three_colours(sheet):
    fills = [{cell.fill.fgColor.rgb for cell in row if cell.fill.fill_type} for row in sheet.iter_rows()]
    assert [bool(fill) for fill in fills] == [False, True, False, False]
    ((where, (rule,)),) = [(found.sqref, found.rules) for found in sheet.conditional_formatting]
    assert str(where) == "G2:Y4"
    assert [(limit.type, limit.val) for limit in rule.colorScale.cfvo] == [("num", 0), ("num", 50), ("num", 100)]


def test_charts_show_the_means_and_the_classes_of_the_best(book):
    means, classes = book["summary"]._charts
    assert [series.tx.strRef.f for series in means.series] == ["summary!$D$1", "summary!$E$1", "summary!$F$1"]
    assert {series.xVal.numRef.f for series in means.series} == {"summary!$B$2:$B$3"}
    assert means.series[2].yVal.numRef.f == "summary!$F$2:$F$3"
    (bars,) = classes.series
    assert (bars.cat.strRef or bars.cat.numRef).f == "'per class'!$G$1:$Y$1"
    assert bars.val.numRef.f == "'per class'!$G$2:$Y$2"


def test_options_that_differ_from_the_preset_are_marked(book):
    header, *rows = book["config"].iter_rows(values_only=True)
    assert header == ("option", "value", "preset official", "differs")
    assert rows == [
        ("loss.gamma", 0, 2, "differs"),
        ("loss.damping", "true", "true", None),
        ("source.size", "64, 32", "64, 32", None),
        ("classes.x", "[]", "–", "differs"),
    ]
    assert [row[0].font.b for row in book["config"].iter_rows()] == [True, True, False, False, True]


def test_csv_holds_the_same_table(files, sheet):
    with files[1].open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == HEADER
    for row, cells in zip(rows, sheet.iter_rows(min_row=2, values_only=True), strict=True):
        assert row[:3] == ["" if cell is None else str(cell) for cell in cells[:3]]
        assert row[3:] == [cell if cell == "–" else f"{cell:.2f}" for cell in cells[3:]]


def marks(csv_path):
    with csv_path.open(encoding="utf-8", newline="") as file:
        return {row["snapshot"]: row["best"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("headline", "best"),
    [("mIoU-19", "good truck"), ("mIoU-16", "good road"), ("mIoU-13", "good road"), (None, "good road")],
)
def test_the_headline_decides_which_is_best(tmp_path, headline, best):
    def failing_only_in(name, pixels):
        confusion = np.diag(np.full(19, 1000))
        failed = CITYSCAPES.names.index(name)
        confusion[failed, failed] = pixels
        confusion[failed, 16] = 1000 - pixels  # taken for a train, which only mIoU-19 counts
        return score(confusion, CITYSCAPES)

    rows = [
        SnapshotScore("good road", 1, failing_only_in("truck", 0)),
        SnapshotScore("good truck", 2, failing_only_in("road", 500)),
    ]
    _, text = write_bulk(rows, tmp_path, "bulk", CITYSCAPES, headline=headline)
    assert [name for name, mark in marks(text).items() if mark] == [best]


def test_the_first_of_equals_is_best(tmp_path):
    rows = [snapshot("late", 9, 0.5), snapshot("early", 1, 0.5)]
    _, text = write_bulk(rows, tmp_path, "bulk", CITYSCAPES)
    assert marks(text) == {"early": BEST, "late": ""}


def test_nothing_is_best_among_snapshots_without_a_score(tmp_path):
    nothing = score(np.zeros((2, 2), np.int64), LabelSpace(("a", "b"), ((0, 0, 0), (1, 1, 1))))
    space = LabelSpace(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    workbook, text = write_bulk([SnapshotScore("x", 1, nothing)], tmp_path, "bulk", space)
    assert text.read_text("utf-8").splitlines() == ["snapshot,iteration,best,mIoU,a,b", "x,1,,–,–,–"]
    assert openpyxl.load_workbook(workbook)["per class"]["D2"].value == "–"


def test_no_snapshots_make_an_empty_table(tmp_path):
    workbook, text = write_bulk([], tmp_path, "bulk", CITYSCAPES)
    assert text.read_text("utf-8").splitlines() == [",".join(HEADER)]
    assert openpyxl.load_workbook(workbook)["per class"].max_row == 1


def test_a_name_never_becomes_a_formula(tmp_path):
    workbook, _ = write_bulk([snapshot("=1+1", 1, 0.5)], tmp_path, "bulk", CITYSCAPES)
    assert openpyxl.load_workbook(workbook)["per class"]["A2"].data_type == "s"


def test_files_are_replaced_and_nothing_is_left_beside_them(tmp_path):
    for _ in range(2):
        files = write_bulk(ROWS, tmp_path, "bulk", CITYSCAPES)
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*file/bulk.xlsx \(.*choose a folder"):
        write_bulk(ROWS, tmp_path / "file", "bulk", CITYSCAPES)
    (tmp_path / "bulk.xlsx").mkdir()
    with pytest.raises(DataError, match=r"cannot write .*bulk.xlsx"):
        write_bulk(ROWS, tmp_path, "bulk", CITYSCAPES)
    assert not list(tmp_path.glob(".*"))
