import csv
import math

import numpy as np
import openpyxl
import pytest

from clan.errors import DataError
from clan.labels import CITYSCAPES, LabelSpace
from clan.metrics.iou import score
from clan.reporting.excel import BEST, SnapshotScore, write_bulk


def snapshot(name, iteration, accuracy, absent=16):
    """A snapshot that gets the given fraction of each class right; one class never occurs."""
    confusion = np.zeros((19, 19), np.int64)
    for c in range(19):
        confusion[c, c] = round(1000 * accuracy)
        confusion[c, (c + 1) % 19] = 1000 - round(1000 * accuracy)
    confusion[absent] = confusion[:, absent] = 0
    return SnapshotScore(name, iteration, score(confusion, CITYSCAPES))


ROWS = [snapshot("SYS_10000", 10000, 0.7), snapshot("SYS_2000", 2000, 0.9), snapshot("final", None, 0.5)]
HEADER = ["snapshot", "iteration", "best", "mIoU-19", "mIoU-16", "mIoU-13", *CITYSCAPES.names]


@pytest.fixture
def files(tmp_path):
    return write_bulk(ROWS, tmp_path / "mIoU_results", "SYS", CITYSCAPES)


@pytest.fixture
def sheet(files):
    return openpyxl.load_workbook(files[0])["mIoU"]


def test_workbook_holds_one_row_per_snapshot_by_iteration(sheet):
    header, *rows = sheet.iter_rows(values_only=True)
    assert list(header) == HEADER
    assert [row[:3] for row in rows] == [
        ("SYS_2000", 2000, BEST),
        ("SYS_10000", 10000, None),
        ("final", None, None),
    ]
    for row, source in zip(rows, [ROWS[1], ROWS[0], ROWS[2]], strict=True):
        assert row[3:6] == pytest.approx([100 * mean for mean in source.scores.means.values()])
        for cell, iou in zip(row[6:], source.scores.iou, strict=True):
            assert cell == "–" if math.isnan(iou) else cell == pytest.approx(100 * iou)


def test_workbook_marks_the_best_row_and_freezes_the_names(sheet):
    assert sheet.freeze_panes == "D2"
    assert sheet["D2"].number_format == "0.00"
    fills = [{cell.fill.fgColor.rgb for cell in row if cell.fill.fill_type} for row in sheet.iter_rows()]
    assert [bool(fill) for fill in fills] == [False, True, False, False]


def test_workbook_draws_the_means_of_the_snapshots_with_an_iteration(sheet):
    (chart,) = sheet._charts
    assert [series.tx.strRef.f for series in chart.series] == ["mIoU!$D$1", "mIoU!$E$1", "mIoU!$F$1"]
    assert {series.xVal.numRef.f for series in chart.series} == {"mIoU!$B$2:$B$3"}
    assert chart.series[2].yVal.numRef.f == "mIoU!$F$2:$F$3"


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
    assert openpyxl.load_workbook(workbook)["mIoU"]["D2"].value == "–"


def test_no_snapshots_make_an_empty_table(tmp_path):
    workbook, text = write_bulk([], tmp_path, "bulk", CITYSCAPES)
    assert text.read_text("utf-8").splitlines() == [",".join(HEADER)]
    assert openpyxl.load_workbook(workbook)["mIoU"].max_row == 1


def test_a_name_never_becomes_a_formula(tmp_path):
    workbook, _ = write_bulk([snapshot("=1+1", 1, 0.5)], tmp_path, "bulk", CITYSCAPES)
    assert openpyxl.load_workbook(workbook)["mIoU"]["A2"].data_type == "s"


def test_files_are_replaced_and_nothing_is_left_beside_them(tmp_path):
    for _ in range(2):
        files = write_bulk(ROWS, tmp_path, "bulk", CITYSCAPES)
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/bulk.xlsx cannot be written \(.*choose a folder"):
        write_bulk(ROWS, tmp_path / "file", "bulk", CITYSCAPES)
    (tmp_path / "bulk.xlsx").mkdir()
    with pytest.raises(DataError, match=r"bulk.xlsx cannot be written"):
        write_bulk(ROWS, tmp_path, "bulk", CITYSCAPES)
    assert not list(tmp_path.glob(".*"))
