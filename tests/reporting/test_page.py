import json
import math
import os
import shutil
import tracemalloc

import numpy as np
import pytest

from clan.cli import main as cli
from clan.core.errors import ClanError
from clan.data.dataset import Dataset
from clan.data.domains import load_classes, named_domain
from clan.datasets import NAMED_CLASSES
from clan.datasets.labels import CITYSCAPES, LabelSpace
from clan.evaluation.iou import score
from clan.evaluation.scores_file import (
    Evaluation,
    describe,
    find_evaluations,
    open_dataset,
    read_evaluation,
    write_evaluation,
)
from clan.evaluation.scoring import score_folders
from clan.evaluation.selection import Judged, Selection
from clan.reporting.gallery import extremes
from clan.reporting.html import confusions, delta, render
from clan.reporting.page import make_page, make_report, run_names
from clan.reporting.published import FIGURES, IMAGES, comparable
from clan.run.records import read_metrics, read_run
from tests.pages import ROOT


@pytest.fixture
def runs(evaluated_runs):
    return [evaluated_runs / "first", evaluated_runs / "second"]


def test_scores_beside_label_maps_are_those_of_the_label_maps(evaluated_runs, worlds):
    folder = evaluated_runs / "result/first_4"
    kept = read_evaluation(folder)
    counted = score_folders(worlds / "Cityscapes/gtFine/val", folder)
    np.testing.assert_array_equal(kept.scores.confusion, counted.confusion)
    assert kept.scores.means == counted.means
    assert (kept.iteration, kept.weights) == (4, (evaluated_runs / "first/SYS_4.pdparams").resolve())
    assert set(kept.images) == {path.name.removesuffix("_color.png") for path in folder.glob("*_color.png")}


def test_the_mean_of_an_image_is_that_of_its_own_pixels(evaluated_runs, worlds):
    folder = evaluated_runs / "result/first_4"
    for stem, miou in read_evaluation(folder).images.items():
        (image,) = (worlds / "Cityscapes/leftImg8bit/val").rglob(f"{stem}.png")
        name = image.relative_to(worlds / "Cityscapes/leftImg8bit/val").as_posix()
        alone = score_folders(worlds / "Cityscapes/gtFine/val", folder, images=[name])
        assert miou == alone.means["mIoU-19"]


def test_evaluations_are_found_by_weights_and_by_name(evaluated_runs, tmp_path):
    run = read_run(evaluated_runs / "first")
    found = find_evaluations(run.folder, run.snapshots, [evaluated_runs / "result"])
    assert [one.iteration for one in found] == [2, 4]
    text = json.loads((evaluated_runs / "result/first_2/scores.json").read_text())
    for name in ("first_2", "other_2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.json").write_text(json.dumps(text | {"weights": None}))
    assert [one.folder.name for one in find_evaluations(run.folder, run.snapshots, [tmp_path])] == ["first_2"]


def evaluated_again(scores, folder, **changes):
    """Copies a `scores.json` into a folder of its own, with changes."""
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps(json.loads(scores.read_text()) | changes))


def test_a_snapshot_that_is_evaluated_twice_is_one_snapshot_with_its_last_scores(evaluated_runs, tmp_path):
    run, results = read_run(evaluated_runs / "first"), evaluated_runs / "result"
    evaluated_again(results / "first_4/scores.json", tmp_path / "first_SYS_4", date="2999-01-01T00:00:00+00:00")
    evaluated_again(results / "first_4/scores.json", tmp_path / "first_4", weights=None)
    found = find_evaluations(run.folder, run.snapshots, [results, tmp_path])
    assert [(one.iteration, one.folder.name) for one in found] == [(2, "first_2"), (4, "first_SYS_4")]


@pytest.mark.parametrize("change", ["name", "split", "images"])
def test_scores_of_other_images_are_not_compared(runs, tmp_path, change):
    scores = runs[0].parent / "result/first_4/scores.json"
    text = json.loads(scores.read_text())
    perfect = {"confusion": np.eye(19, dtype=int).tolist(), "date": "2999-01-01T00:00:00+00:00"}
    other = {"images": dict([*text["images"].items()][:1])} if change == "images" else {}
    dataset = text["dataset"] | ({change: "other"} if change != "images" else {})
    evaluated_again(scores, tmp_path / "test/first_SYS_4", **perfect, **other, dataset=dataset)
    page = make_report(runs, tmp_path / "r.html", results=[tmp_path / "test"], images=0)
    assert [one.iteration for one in page.runs[0].snapshots] == [2, 4]
    assert all(one.means["mIoU-19"] < 1 for one in page.runs[0].snapshots)
    (notice,) = page.notices
    assert "test/first_SYS_4 was scored on " in notice
    assert "--evaluations names what to show" in notice


def test_what_is_no_score_is_named(tmp_path):
    with pytest.raises(ClanError, match=r"scores\.json"):
        read_evaluation(tmp_path)
    for content in ("{", "[]", '{"version": 2}', '{"version": 1}'):
        (tmp_path / "scores.json").write_text(content)
        with pytest.raises(ClanError, match=r"scores.json is damaged"):
            read_evaluation(tmp_path)


def test_damaged_scores_are_named_and_left_out(runs, tmp_path, capsys):
    (tmp_path / "other_2").mkdir()
    (tmp_path / "other_2/scores.json").write_text("{")
    arguments = [str(runs[0]), "--results", str(tmp_path), "-o", str(tmp_path / "r.html"), "--images", "0"]
    cli.dispatch(["report", *arguments])
    assert f"Left out: {tmp_path}/other_2/scores.json is damaged" in capsys.readouterr().out
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "other_2/scores.json is damaged" in text
    assert "SYS_4" in text


def test_a_data_set_of_one_s_own_opens_again_as_it_was(shared, tmp_path):
    domains = ROOT / "benchmarks/domains"
    named = named_domain(str(domains / "camvid.yaml"))
    classes = load_classes(domains / "idd_to_camvid.yaml")
    dataset = Dataset(named.description, shared / "data/camvid", split="val", classes=classes)
    space = classes.label_space
    images = dict.fromkeys(dataset.stems, 0.5)
    confusion = np.eye(space.num_classes, dtype=int)
    write_evaluation(tmp_path, confusion, space, images=images, dataset=describe(dataset))
    kept = read_evaluation(tmp_path)
    again, index_of = open_dataset(kept)
    assert kept.label_space == space
    assert (again.names, list(index_of)) == (dataset.names, dataset.stems)
    np.testing.assert_array_equal(again.read_label(3), dataset.read_label(3))


def test_an_image_without_a_class_and_a_name_of_any_script_survive(tmp_path):
    space = LabelSpace(("路", "b"), ((1, 2, 3), (4, 5, 6)))
    images = {"x": math.nan, "y": 0.5}
    write_evaluation(tmp_path, np.eye(2, dtype=int), space, images=images, dataset={"name": "cityscapes"})
    kept = read_evaluation(tmp_path)
    assert (kept.label_space, kept.weights) == (space, None)
    assert math.isnan(kept.images["x"])
    assert kept.images["y"] == 0.5


def test_a_page_holds_every_number_with_two_decimals(runs, tmp_path):
    page = make_report(runs, tmp_path / "report.html", images=0)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for view in page.runs:
        assert view.scores is not None
        for value in [*view.scores.iou, *view.scores.means.values()]:
            assert (f"{100 * value:.2f}" if value == value else "–") in text
    assert "http://" not in text and "https://" not in text
    assert "No published scores are shown" in text
    assert [name for name in page.options if not name.startswith("method.")] == ["snapshot_dir"]
    assert page.options["method.name"]
    assert {panel.title for panel in page.losses} >= {"loss_seg", "loss_adv", "loss_weight"}
    assert {panel.title: len(panel.series) for panel in page.losses}["loss_seg"] == 2
    assert [panel.damped for panel in page.losses if panel.title in ("loss_seg", "loss_adv")] == [False, True]
    for view in page.runs:
        assert {"iterations per second", "hours", "peak memory, host"} <= view.cost.keys()
        assert [snapshot.iteration for snapshot in view.snapshots] == [2, 4]
        assert sum(snapshot.best for snapshot in view.snapshots) == 1


def test_a_run_still_going_is_read_to_its_last_whole_line(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "going")
    for path in tmp_path.glob("going/*.pdparams"):
        path.unlink()
    lines = (runs[0] / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "going/metrics.jsonl").write_text("\n".join(lines[:2]) + '\n{"iteration": 2, "loss_s')
    assert read_run(tmp_path / "going").done == 2
    page = make_report([tmp_path / "going"], tmp_path / "going.html")
    assert page.runs[0].state == "2 of 4 iterations, 50%"
    ((text, command),) = page.runs[0].missing
    assert text.startswith("No snapshot is saved yet")
    assert command == f"clan train --config {tmp_path}/going/config.yaml --resume"


def test_what_is_missing_comes_with_the_command_to_get_it(runs, tmp_path, monkeypatch, capsys):
    shutil.copytree(runs[0], tmp_path / "alone")
    monkeypatch.chdir(tmp_path)
    cli.dispatch(["report", "alone", "-o", "alone.html"])
    said = capsys.readouterr().out
    assert "No snapshot was evaluated" in said
    command = said.splitlines()[0].split(". ", 1)[1].split()
    assert command[:3] == ["clan", "evaluate", "alone"]
    cli.dispatch(command[1:])
    cli.dispatch(["report", "alone", "-o", "alone.html"])
    assert capsys.readouterr().out.splitlines()[-1] == "saved alone.html"
    assert "None of its" not in (tmp_path / "alone.html").read_text()


def test_published_figures_stand_beside_cityscapes_val_alone(runs):
    whole = {"name": "cityscapes", "split": "val"}
    assert comparable("synthia", whole, IMAGES) == FIGURES["synthia"]
    assert comparable("cityscapes", whole, IMAGES) == comparable("synthia", whole, 499) == ()
    assert comparable("gta5", whole | {"split": "test"}, IMAGES) == ()
    sixteen = NAMED_CLASSES["synthia-16"]
    merged = {name: (["truck"] if name == "car" else []) for name in sixteen.classes}
    for classes, expected in ((sixteen, FIGURES["synthia"]), ({"classes": merged}, ()), ({"classes": 7}, ())):
        assert comparable("synthia", whole | {"classes": classes}, IMAGES, sixteen.label_space) == expected
    run = read_run(runs[0])
    one = find_evaluations(run.folder, run.snapshots, [runs[0].parent / "result"])[-1]
    images = {str(number): 0.5 for number in range(IMAGES)}
    as_if = Evaluation(one.folder, one.scores, one.label_space, images, one.dataset, one.date, one.weights)
    text = render(make_page([run], [[as_if]]))
    for row in FIGURES["synthia"]:
        assert row.name in text
        for number in (row.value, *row.iou):
            assert f"{number:.2f}" in text


def test_published_classes_average_to_the_published_mean_where_the_page_does_not_say_otherwise():
    *papers, port = FIGURES["synthia"]
    for row, mean in (*((row, row.value) for row in papers), (port, float(port.remark.split()[-1]))):
        of_classes = [row.of(CITYSCAPES.names[train_id]) for train_id in CITYSCAPES.subsets["mIoU-13"]]
        assert 100 * np.mean(of_classes) == pytest.approx(mean, abs=0.06)
        assert math.isnan(row.of("wall"))
    assert math.isnan(FIGURES["gta5"][0].of("road"))


def test_names_tell_runs_apart(tmp_path):
    folders = [tmp_path / name for name in ("a/run", "b/run")]
    assert run_names(folders) == ["a/run", "b/run"]
    assert run_names([tmp_path / "x", tmp_path / "x"]) == ["x", "x"]


def test_the_worst_come_first_and_no_image_twice(tmp_path):
    images = {"a": 0.5, "b": math.nan, "c": 0.1, "d": 0.9, "e": 0.3}
    write_evaluation(tmp_path, np.eye(19, dtype=int), CITYSCAPES, images=images, dataset={})
    evaluation = read_evaluation(tmp_path)
    assert extremes(evaluation, 3) == ["c", "e", "d"]
    assert extremes(evaluation, 6) == ["c", "e", "a", "d"]


def test_differences_have_a_sign():
    assert (delta(0.5, 0.4), delta(0.4, 0.5), delta(0.4, 0.4)) == ("+10.00", "−10.00", "±0.00")
    assert delta(math.nan, 0.4) == "–"


def test_the_costliest_confusions_come_first():
    space = LabelSpace(("a", "b", "c"), ((0, 0, 0),) * 3)
    scores = score(np.array([[90, 10, 0], [0, 20, 20], [0, 0, 60]]), space)
    assert confusions(scores, 3) == [("b", "c", 0.5, 0.1), ("a", "b", 0.1, 0.05)]


def test_metrics_of_nothing_are_empty(tmp_path):
    assert len(read_metrics(tmp_path / "metrics.jsonl")["iteration"]) == 0


# --- The folder of a stranger's run ---

SCRIPT = "</script><script>alert(1)</script>"
DEEP = "[" * 50_000
LINES = [f'{{"iteration": {i}, "loss_seg": 1.5, "seconds": 0.1}}' for i in range(3)]
HOSTILE_RECORDS = {
    "deep metrics": ("metrics.jsonl", DEEP),
    "deep environment": ("environment.json", DEEP),
    "metrics of other kinds": ("metrics.jsonl", '5\n[1]\n"iteration"\nnull\n{"iteration": null}\n{"iteration": [1]}'),
    "metrics without end": ("metrics.jsonl", "\n".join(f'{{"iteration": {i}, "loss_{i}": 1}}' for i in range(4000))),
    "a crowd of metrics at the end": (
        "metrics.jsonl",
        "".join(f'{{"iteration": {i}}}\n' for i in range(10_000))
        + json.dumps({"iteration": 10_000, **{f"loss_{i}": 1 for i in range(3000)}}),
    ),
    "losses beyond numbers": ("metrics.jsonl", '{"iteration": 0, "loss_D": 1e308}\n{"iteration": 1, "loss_D": -1e308}'),
    "losses that are none": ("metrics.jsonl", '{"iteration": 0, "loss_seg": NaN, "loss_adv": "x", "seconds": -1e999}'),
    "iterations beyond all numbers": ("metrics.jsonl", f'{{"iteration": {10**400}}}\n{{"iteration": 1e400}}'),
    "no time": ("metrics.jsonl", LINES[0].replace("0.1", "0")),
    "bytes": ("metrics.jsonl", "\udcff\udcfe\0"),
    "environment of another kind": ("environment.json", "[1, 2]"),
    "peaks of another kind": ("environment.json", '{"peak_memory_bytes": [1], "clan": {"a": 1}}'),
    "peaks that are no numbers": ("environment.json", '{"peak_memory_bytes": {"host": "much"}}'),
    "a script as a loss": ("metrics.jsonl", f'{{"iteration": 0, "loss_{SCRIPT}": 1.5}}'),
    "a script in the environment": ("environment.json", json.dumps({SCRIPT: SCRIPT, "peak_memory_bytes": {SCRIPT: 1}})),
    "half characters": ("environment.json", '{"\\ud800": "\\ud800"}'),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE_RECORDS)
def test_hostile_records_are_left_out_or_end_in_a_sentence(what, runs, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(runs[0] / "config.yaml", tmp_path / "run")
    (tmp_path / "run/metrics.jsonl").write_text("\n".join(LINES))
    name, content = HOSTILE_RECORDS[what]
    (tmp_path / "run" / name).write_bytes(content.encode(errors="surrogateescape"))
    tracemalloc.start()
    try:
        make_report([tmp_path / "run"], tmp_path / "r.html")
        assert SCRIPT not in (tmp_path / "r.html").read_text()
    except ClanError as error:
        assert str(error).startswith(f"{tmp_path}/run/{name} ")
        assert str(error).isprintable()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 60 << 20


@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json"])
def test_records_that_are_pipes_are_not_waited_for(name, runs, tmp_path):
    shutil.copy(runs[0] / "config.yaml", tmp_path)
    os.mkfifo(tmp_path / name)
    assert read_run(tmp_path).done == 0


HOSTILE_SCORES = {
    "counts below nothing": {"confusion": [[-1] * 19] * 19},
    "counts beyond all numbers": {"confusion": [[10**30] * 19] * 19},
    "counts whose sum is": {"confusion": [[2**62] * 19] * 19},
    "no counts": {"confusion": [[math.nan] * 19] * 19},
    "colours that are none": {"colors": [[999, 0, -1]] * 19},
    "colours beyond all numbers": {"colors": [[math.inf, 0, 0]] * 19},
    "other classes": {"classes": ["road"]},
    "too many classes": {"classes": ["x"] * 300, "colors": [[0] * 3] * 300, "confusion": [[0] * 300] * 300},
    "means of other classes": {"subsets": {"mean": [99]}},
    "images that are none": {"images": {"a": "x"}},
    "a version for the terminal": {"version": "\x1b[2J"},
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE_SCORES)
def test_hostile_scores_end_in_a_sentence(what, evaluated_runs, tmp_path):
    scores = json.loads((evaluated_runs / "result/first_4/scores.json").read_text()) | HOSTILE_SCORES[what]
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(ClanError, match=r"scores.json is damaged") as caught:
        read_evaluation(tmp_path)
    assert str(caught.value).isprintable()


def test_deep_and_hanging_scores_end_in_a_sentence(tmp_path):
    (tmp_path / "scores.json").write_text(DEEP)
    with pytest.raises(ClanError, match=r"scores.json is damaged"):
        read_evaluation(tmp_path)
    (tmp_path / "scores.json").unlink()
    os.mkfifo(tmp_path / "scores.json")
    with pytest.raises(ClanError, match=r"scores.json is no ordinary file"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("dataset", [{}, {"name": [], "root": 1, "split": {}}, {"name": "cityscapes", "root": None},
                                     {"name": "x", "description": {"name": SCRIPT}, "classes": 3}])  # fmt: skip
def test_a_hostile_data_set_of_scores_ends_in_a_sentence(dataset, evaluated_runs, tmp_path):
    scores = json.loads((evaluated_runs / "result/first_4/scores.json").read_text())
    (tmp_path / "scores.json").write_text(json.dumps(scores | {"dataset": dataset}))
    with pytest.raises(ClanError, match=r"scores.json is damaged") as caught:
        open_dataset(read_evaluation(tmp_path))
    assert str(caught.value).isprintable()


def test_scripts_and_numbers_without_end_in_scores_stay_text(runs, tmp_path):
    scores = json.loads((runs[0].parent / "result/first_4/scores.json").read_text())
    scores |= {"classes": [SCRIPT + str(i) for i in range(19)], "subsets": {SCRIPT: [0]}, "date": SCRIPT}
    scores |= {"weights": f"/x/SYS_{'9' * 5000}.pdparams", "dataset": {"root": SCRIPT}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    make_report(runs[:1], tmp_path / "r.html", evaluations=[tmp_path], images=0)
    assert SCRIPT not in (tmp_path / "r.html").read_text()


def test_what_cannot_be_reported_is_said(runs, tmp_path):
    with pytest.raises(ClanError, match=r"config\.yaml"):
        make_report([tmp_path], tmp_path / "r.html")
    with pytest.raises(ClanError, match=r"1 .* 2 runs"):
        make_report(runs, tmp_path / "r.html", evaluations=[runs[0].parent / "result/first_4"])
    with pytest.raises(ClanError, match=r"cannot write .*--output"):
        (tmp_path / "file").touch()
        make_report(runs, tmp_path / "file/r.html", images=0)


def test_what_was_chosen_without_labels_is_shown(runs, tmp_path, monkeypatch):
    values = [{"ensemble": 0.25, "entropy": 0.125}, {"ensemble": 0.375, "entropy": 0.0625}]
    judged = [Judged(f"SYS_{at}.pdparams", at, one) for at, one in zip((2, 4), values, strict=True)]
    chosen = Selection("ensemble", judged, 1, "3 images", ["the criteria disagree"])
    monkeypatch.setattr("clan.reporting.page.read_selection", lambda folder: chosen if folder == runs[0] else None)
    page = make_report(runs, tmp_path / "report.html", images=0)
    text = (tmp_path / "report.html").read_text()
    assert [panel.title for panel in page.criteria] == ["ensemble", "entropy"]
    assert [one.run for one in page.criteria[0].series] == [0]
    assert page.criteria[0].series[0].y.tolist() == [0.25, 0.375]
    assert [one.judged for one in page.runs[0].snapshots] == [0.25, 0.375]
    assert "Chosen without labels by ensemble, of 2: SYS_4.pdparams, on 3 images. Warning: the criteria" in text
    assert "<td>0.375</td>" in text


def test_a_choice_of_one_snapshot_is_none(runs, tmp_path, monkeypatch):
    alone = Selection("ensemble", [Judged("SYS_4.pdparams", 4, {"entropy": 0.5})], 0, "3 images")
    monkeypatch.setattr("clan.reporting.page.read_selection", lambda folder: alone)
    page = make_report(runs, tmp_path / "report.html", images=0)
    assert page.runs[0].selected == ""
    assert page.criteria == []


def test_a_damaged_choice_without_labels_is_left_out_of_the_report(runs, tmp_path):
    (tmp_path / "run/select").mkdir(parents=True)
    shutil.copy(runs[0] / "config.yaml", tmp_path / "run")
    (tmp_path / "run/select/selected.json").write_text("{")
    page = make_report([tmp_path / "run"], tmp_path / "report.html")
    assert page.criteria == []
    assert any("selected.json is damaged" in notice for notice in page.notices)
