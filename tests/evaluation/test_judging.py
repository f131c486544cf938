"""`clan select`: it reads no label of the target, measures each snapshot once, and writes what it chose."""

import json
import shutil
from functools import partial

import numpy as np
import pytest

from clan.cli.main import dispatch
from clan.core.errors import ConfigError, DataError
from clan.evaluation import judging
from clan.evaluation.judging import describe, judge_runs, mean_of, rank_runs
from clan.evaluation.label_maps import load_segmenter
from clan.evaluation.measuring import measure, open_material
from clan.evaluation.selection import RESULT, read_selection
from clan.models.weight_files import read_arrays
from clan.run.config import load, to_yaml
from tests.conftest import tiny_config

pytestmark = pytest.mark.plain
ALONE = {"heads", "consistency", "snd", "information", "entropy", "source"}


@pytest.fixture(scope="module")
def unlabelled(worlds, tmp_path_factory):
    """Two runs of three snapshots each, `clan` and `source-only`, whose target has lost all labels since."""
    from clan.training.run import train

    folder = tmp_path_factory.mktemp("select")
    shutil.copytree(worlds, folder / "worlds")
    for method in ("clan", "source-only"):
        train(tiny_config(folder / "worlds", folder / method, method=method, num_steps=6, loggers=()))
    shutil.rmtree(folder / "worlds/Cityscapes/gtFine")
    return folder


def select(*arguments):
    dispatch(["select", *map(str, arguments)])


def judge_run(folder, **options):
    [one] = judge_runs([folder], **options)
    return one


@pytest.fixture
def unmeasured(monkeypatch):
    """Nothing may be measured."""
    monkeypatch.setattr(judging, "measure", lambda *given, **options: pytest.fail("measured"))


def test_labels_of_the_target_are_not_needed(unlabelled, capsys):
    select(unlabelled / "clan", "--images", 2)
    out = capsys.readouterr().out
    found = read_selection(unlabelled / "clan")
    assert {*found.names} == ALONE | {"ensemble", "averaged"}
    assert [one.iteration for one in found.snapshots] == [2, 4, 6]
    chosen = found.snapshots[found.chosen]
    assert chosen.values["consistency"] == max(found.column("consistency"))
    assert f"chosen by consistency: {unlabelled / 'clan' / chosen.snapshot}" in out
    content = json.loads((unlabelled / "clan/select" / RESULT).read_text())
    assert content["selected"] == chosen.snapshot
    assert (unlabelled / "clan" / content["selected"]).is_file()


def test_a_snapshot_is_measured_again_only_if_it_or_the_images_changed(unlabelled, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(unlabelled / "clan", run, ignore=shutil.ignore_patterns("select"))
    measured = []

    def counting(segmenter, *arguments, **options):
        measured.append(segmenter)
        return measure(segmenter, *arguments, **options)

    monkeypatch.setattr(judging, "measure", counting)
    roots = {"data_dir": unlabelled / "worlds/SYNTHIA/RAND_CITYSCAPES"}
    judge = partial(judge_run, run, images=2, **roots)
    first = judge().selection
    assert len(measured) == 3 + 1  # the snapshots, and the mean of their weights
    assert judge().selection.column("ensemble") == first.column("ensemble")
    assert len(measured) == 4
    shutil.copy(run / "SYS_2.pdparams", run / "SYS_4.pdparams")
    again = judge().selection
    assert len(measured) == 4 + 2  # the changed one, and the mean
    assert again.snapshots[0].values == again.snapshots[1].values
    [path] = (run / "select").glob("SYS_6.*")
    path.write_bytes(b"damaged")
    judge()
    assert len(measured) == 7
    judge(images=1)
    assert len(measured) == 11


def test_images_are_told_apart_by_their_content(unlabelled, tmp_path, unmeasured):
    run, copies = unlabelled / "clan", tmp_path / "worlds"
    shutil.copytree(unlabelled / "worlds", copies)
    config = tiny_config(copies, run)
    material = open_material(config, run, 2)
    assert material.fingerprint() == open_material(load(run / "config.yaml"), run, 2).fingerprint()
    seen = {material.fingerprint()}
    for path in (material.source.image_path, material.source.label_path, material.target.image_path):
        shutil.copy(path(0), path(1))
        seen.add(open_material(config, run, 2).fingerprint())
    assert len(seen) == 4
    (copies / "config.yaml").write_text(to_yaml(config))
    shutil.copy(run / "SYS_6.pdparams", copies)
    with pytest.raises(ConfigError, match="have other target images"):
        list(judge_runs([run, copies], images=2))


def test_a_pass_counts_every_cell_once_and_leaves_no_trace(unlabelled):
    run = unlabelled / "clan"
    config = load(run / "config.yaml")
    segmenter = load_segmenter(run / "SYS_6.pdparams", config.network)
    before = {name: tensor.numpy().copy() for name, tensor in segmenter.state_dict().items()}
    material = open_material(config, run, 2)
    seen = []
    segmenter.train()
    found = measure(segmenter, material, teacher=segmenter, on_image=lambda: seen.append(1))
    assert segmenter.training
    assert len(seen) == len(material.target) + len(material.source)
    assert all(np.array_equal(before[name], tensor.numpy()) for name, tensor in segmenter.state_dict().items())
    cells = 2 * (64 // 4) * (32 // 4)
    assert {found[name].sum() for name in ("heads", "flip", "jitter", "scale", "teacher")} == {cells}
    assert found["teacher"].trace() == cells  # it agrees with itself
    assert found["mean_probability"].sum() == pytest.approx(1, abs=1e-5)
    assert 0 < found["entropy"][0] < 1
    assert found["points"].shape == (2 * material.points, 19)
    assert np.abs(found["points"].sum(axis=1, dtype=int) - 255).max() <= 10  # rounding
    assert found["points"].mean(axis=0) / 255 == pytest.approx(found["mean_probability"], abs=0.03)


def test_the_mean_of_weights_is_their_mean(unlabelled):
    run = unlabelled / "clan"
    paths = [run / f"SYS_{iteration}.pdparams" for iteration in (2, 4, 6)]
    found = mean_of(paths, load(run / "config.yaml")).state_dict()
    arrays = [read_arrays(path) for path in paths]
    assert found["backbone.conv1.weight"].numpy() == pytest.approx(
        np.mean([one["conv1.weight"] for one in arrays], axis=0), abs=1e-6
    )


def test_runs_are_ranked_by_their_chosen_snapshots(unlabelled, capsys):
    runs = [unlabelled / "clan", unlabelled / "source-only"]
    select(*runs, "--images", 2, "--json")
    found = json.loads(capsys.readouterr().out)
    assert [one["run"] for one in found["runs"]] == list(map(str, runs))
    values = [one["values"]["consistency"] for one in found["ranking"]]
    assert values == sorted(values, reverse=True)
    assert {"averaged", "teacher"}.isdisjoint(found["ranking"][0]["values"])
    by_entropy = rank_runs(list(judge_runs(runs, images=2, criterion="entropy")), "entropy")
    values = [place.values["entropy"] for place in by_entropy]
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("criterion", "reason"),
    [("averaged", "compares snapshots of one run"), ("teacher", "compares snapshots"), ("heads", "has one head")],
)
def test_a_criterion_that_cannot_choose_is_refused_before_anything_is_measured(
    unlabelled, tmp_path, unmeasured, criterion, reason
):
    config = load(unlabelled / "source-only/config.yaml")
    single = config.network.model_copy(update={"num_heads": 1})
    (tmp_path / "config.yaml").write_text(to_yaml(config.model_copy(update={"network": single})))
    shutil.copy(unlabelled / "source-only/SYS_6.pdparams", tmp_path)
    with pytest.raises(ConfigError, match=reason):
        list(judge_runs([unlabelled / "clan", tmp_path], images=3, criterion=criterion))


def test_a_folder_that_cannot_be_written_is_found_first_and_does_not_hide_the_table(
    unlabelled, tmp_path, monkeypatch, error_of, capsys
):
    run = tmp_path / "run"
    shutil.copytree(unlabelled / "clan", run, ignore=shutil.ignore_patterns("select"))
    (run / "select").touch()
    with monkeypatch.context() as patch:
        patch.setattr(judging, "measure", lambda *given, **options: pytest.fail("measured"))
        assert "make the run's folder writable" in error_of(dispatch, "select", run)
    (run / "select").unlink()
    (run / "select" / RESULT).mkdir(parents=True)
    with pytest.raises(DataError, match="make the run's folder writable"):
        select(run, "--images", 1)
    assert "chosen by consistency" in capsys.readouterr().out


def test_unreadable_images_are_left_out_as_far_as_the_run_tolerates_them(worlds, tmp_path):
    shutil.copytree(worlds, tmp_path / "worlds")
    config = tiny_config(tmp_path / "worlds", tmp_path, tolerate_bad_samples=1)
    material = open_material(config, tmp_path)
    material.target.image_path(1).write_bytes(b"damaged")
    found = open_material(config, tmp_path)
    assert found.target.names == [material.target.names[0], material.target.names[2]]
    assert len(found.remarks) == 1 and f"left out: {material.target.image_path(1)}" in describe(found)
    material.source.label_path(0).write_bytes(b"damaged")
    with pytest.raises(DataError, match="--tolerate-bad-samples 1 are used up"):
        open_material(config, tmp_path)


def test_a_split_val_of_the_source_that_cannot_be_used_gives_way_to_training_images(worlds, tmp_path):
    root = tmp_path / "source"
    shutil.copytree(worlds / "SYNTHIA/RAND_CITYSCAPES", root)
    config = tiny_config(worlds, tmp_path, source__root=root)
    described = config.source.dataset.model_copy(update={"splits": {"train": {}, "val": {"list": "val.txt"}}})
    config = config.model_copy(update={"source": config.source.model_copy(update={"dataset": described})})

    def used():
        found = open_material(config, tmp_path)
        assert all(remark in describe(found) for remark in found.remarks)
        return found.held_out, found.source.names, " ".join(found.remarks)

    _, names, remark = used()
    assert len(names) == 3 and "the split val of synthia is not used" in remark and "val.txt" in remark
    (root / "val.txt").write_text(names[0])
    assert used() == (True, names[:1], "")
    open_material(config, tmp_path).source.label_path(0).unlink()
    assert used() == (False, names[1:], "the split val of synthia is not used (it has no labels)")


def test_what_a_user_gets_wrong_is_one_sentence(unlabelled, error_of, tmp_path, unmeasured):
    main = dispatch
    run = unlabelled / "clan"
    assert "'miou' is not a criterion: there are ensemble" in error_of(main, "select", run, "--criterion", "miou")
    assert "the criterion teacher is not known of every snapshot" in error_of(
        main, "select", run, "--criterion", "teacher"
    )
    assert "holds no config.yaml" in error_of(main, "select", tmp_path)
    assert "--data-dir-target" in error_of(main, "select", run, "--data-dir-target", tmp_path / "nowhere")
    assert "named twice" in error_of(main, "select", run, run)
    assert "--images -1" in error_of(main, "select", run, "--images", -1)
