import csv

import numpy as np
import openpyxl
import pytest

import clan
from clan.core.errors import ConfigError
from clan.datasets.labels import CITYSCAPES, LabelSpace
from clan.evaluation.bulk import write_workbook
from clan.evaluation.iou import score
from clan.evaluation.scores_file import write_evaluation
from clan.evaluation.tables import SnapshotScore
from clan.run.folder import find_snapshots
from clan.run.presets import PRESETS, SOURCE_ROOTS, closest


def written(run, label_maps, space, confusion):
    """The workbook and the header of the CSV of a run with one snapshot."""
    label_maps.mkdir()
    write_evaluation(label_maps, confusion, space, images={"x": 0.5}, dataset={"name": "here", "split": "val"})
    rows = [SnapshotScore(label_maps.name, 2, score(confusion, space))]
    write_workbook(rows, label_maps, run, label_maps.parent)
    with (label_maps.parent / f"{run.name}.csv").open(encoding="utf-8", newline="") as file:
        return openpyxl.load_workbook(label_maps.parent / f"{run.name}.xlsx"), next(csv.reader(file))


def test_tables_have_the_classes_that_were_scored(tmp_path):
    space = LabelSpace(("a", "b"), ((0, 0, 0), (9, 9, 9)))
    book, header = written(tmp_path / "run", tmp_path / "run_2", space, np.eye(2, dtype=int))
    assert header == ["snapshot", "iteration", "best", "mIoU", "a", "b"]
    assert book["config"]["A1"].value.startswith("The run's config.yaml was not found")


def test_a_run_is_described_by_what_it_wrote(evaluated_runs, tmp_path):
    book, _ = written(evaluated_runs / "first", tmp_path / "first_2", CITYSCAPES, np.eye(19, dtype=int))
    facts = {row[7]: row[8] for row in book["summary"].iter_rows(min_row=4, values_only=True)}
    assert (facts["method"], facts["source → target"]) == ("clan", "synthia → cityscapes")
    assert facts["trained"] == "4 of 4 iterations"
    assert facts["scored on"] == "1 images of here, val"
    assert "paddle" in facts
    options = {name: rest for name, *rest in book["config"].iter_rows(min_row=2, values_only=True)}
    assert options["num_steps"] == [4, 100_000, "differs"]
    assert options["method.lambda_adv"] == [0.001, 0.001, None]
    assert book["config"]["C1"].value == "preset official, from synthia"


@pytest.mark.parametrize("source", SOURCE_ROOTS)
@pytest.mark.parametrize("preset", ["official", "paper", "port"])
def test_a_preset_is_closest_to_itself(preset, source):
    config = PRESETS[preset](source)
    assert closest(config) == (f"{preset}, from {source}", config.options())


def test_a_script_evaluates_a_snapshot_or_a_run_by_its_path(evaluated_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = evaluated_runs / "first"
    first, last = clan.evaluate(run, save=tmp_path / "all", workbooks=tmp_path / "books")
    assert (first.iteration, last.iteration) == (2, 4) and list((tmp_path / "books").glob("*.xlsx"))
    [alone] = clan.evaluate(str(find_snapshots(run)[-1].path), device="cpu")
    assert alone.iteration == 4 and (tmp_path / "result" / alone.name / "scores.json").is_file()
    np.testing.assert_array_equal(alone.scores.iou, last.scores.iou)
    with pytest.raises(ConfigError, match="nowhere"):
        clan.evaluate(run, domain="nowhere")
    monkeypatch.setattr("clan.core.precision._on_the_cpu", refuse)
    with pytest.raises(ConfigError, match="does not compute in bf16"):
        clan.evaluate(run, precision="bf16")


def refuse(precision):
    raise ConfigError(f"this GPU does not compute in {precision}")
