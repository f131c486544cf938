"""The teacher's part of a report."""

import json
import shutil

import numpy as np
import pytest

from clan.reporting import self_training
from clan.reporting.page import make_report
from clan.run.records import read_run
from clan.training.run import train
from tests.conftest import tiny_config

MEANS = ("mIoU-19", "mIoU-16", "mIoU-13")


@pytest.fixture(scope="module")
def taught(worlds, tmp_path_factory):
    """A run of self-training whose target has labels."""
    config = tiny_config(
        worlds,
        tmp_path_factory.mktemp("taught") / "dacs",
        method="dacs",
        target__split="val",
        save_every=1,
        validate_every=2,
    )
    train(config, output="quiet")
    return config.snapshot_dir


def test_charts_are_of_the_records(taught):
    run = read_run(taught)
    sure, right, *validated = self_training.panels([run])
    np.testing.assert_allclose(sure.series[0].y, 100 * run.metrics["pseudo_share"])
    assert right.series[0].x.tolist() == [1, 2, 3, 4]
    assert right.series[0].y.tolist() == [100 * one.right for one in run.pseudo_labels]
    assert [panel.title for panel in validated] == [f"{name} of student and teacher, %" for name in MEANS]
    student, teacher = validated[0].series
    assert (student.name, student.dashed, teacher.name, teacher.dashed) == ("student", False, "teacher", True)
    assert student.y.tolist() == [100 * one.means["mIoU-19"] for one in run.validations]
    assert teacher.y.tolist() == [100 * one.others["teacher"].means["mIoU-19"] for one in run.validations]
    assert "teacher of run 1" in validated[0].summary()


def test_the_table_has_labels_student_and_teacher_by_class(taught):
    run = read_run(taught)
    found = self_training.teaching("dacs", run)
    assert found.columns == ["labels that are right", "of the class found", "student, IoU", "teacher, IoU"]
    last, scores = run.pseudo_labels[-1], run.validations[-1]
    road = next(row for row in found.rows if row.name == "road")
    expected = (last.precision["road"], last.recall["road"], scores.iou["road"], scores.others["teacher"].iou["road"])
    assert road.numbers == pytest.approx([100 * share for share in expected])
    teacher = scores.others["teacher"].means["mIoU-13"]
    assert found.means["mIoU-13"] == pytest.approx((None, None, 100 * scores.means["mIoU-13"], 100 * teacher))
    assert f"{100 * last.right:.1f} % of the pixels are right" in found.remark


def test_a_saved_teacher_is_still_the_teacher(taught, tmp_path):
    folder = shutil.copytree(taught, tmp_path / "run")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("export: student", "export: teacher"))
    lines = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    for line in lines:
        line["others"] = {"student": line["others"].pop("teacher")}
    (folder / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(folder)
    student, teacher = self_training.panels([run])[2].series
    assert student.y.tolist() == [100 * one.others["student"].means["mIoU-19"] for one in run.validations]
    assert teacher.y.tolist() == [100 * one.means["mIoU-19"] for one in run.validations]


def test_the_page_shows_sheets_of_the_whole_course_beside_a_run_without_a_teacher(taught, evaluated_runs, tmp_path):
    page = make_report([evaluated_runs / "first", taught], tmp_path / "r.html", images=0)
    without, found = page.teachings
    assert without is None and [sheet.name for sheet in found.sheets] == [
        f"after {number} iterations" for number in (1, 2, 3, 4)
    ]
    assert [series.run for series in page.taught[0].series] == [1]
    text = (tmp_path / "r.html").read_text()
    assert 'href="#teacher"' in text and "Teacher and pseudo-labels" in text
    make_report([evaluated_runs / "first"], tmp_path / "plain.html", images=0)
    assert "Teacher" not in (tmp_path / "plain.html").read_text()


def test_many_sheets_are_spread(taught, tmp_path):
    folder = shutil.copytree(taught, tmp_path / "run")
    (sheet,) = (folder / "images").glob("SYS_4_self*")
    for number in range(5, 11):
        shutil.copy(sheet, folder / f"images/SYS_{number}_self-training.png")
    shutil.copy(sheet, folder / "images/SYS_x_self-training.png")
    found = self_training.teaching("dacs", read_run(folder))
    assert [one.name.split()[1] for one in found.sheets] == ["1", "4", "7", "10"]


def test_torn_and_foreign_records_are_left_out(taught, tmp_path):
    folder = shutil.copytree(taught, tmp_path / "run")
    with (folder / "pseudo_labels.jsonl").open("a") as file:
        file.write('{"iteration": 5, "images": 2, "right": 7, "precision": {}, "recall": {}}\n{"iteration": 6, "ri')
    assert [one.iteration for one in read_run(folder).pseudo_labels] == [1, 2, 3, 4]
    (folder / "pseudo_labels.jsonl").unlink()
    for sheet in (folder / "images").glob("*self-training*"):
        sheet.unlink()
    bare = self_training.teaching("dacs", read_run(folder))
    assert bare.columns == ["student, IoU", "teacher, IoU"] and not bare.sheets
