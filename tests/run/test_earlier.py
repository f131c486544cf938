"""A new run in the folder of an earlier one."""

import json
import os
import shutil
from pathlib import Path

import pytest

from clan.cli.port import iou
from clan.cli.port.evaluate import _results
from clan.core.errors import ConfigError, DataError
from clan.data.dataset import Dataset
from clan.data.domains import evaluation_dataset
from clan.evaluation.bulk import evaluate_and_score
from clan.evaluation.scores_file import find_evaluations
from clan.reporting.inspection.subject import Options, Subject
from clan.run import earlier, records
from clan.run.checkpoint import States
from clan.run.folder import find_snapshots, run_folders
from clan.training.run import train
from clan.training.trainer import Trainer
from tests.conftest import assert_same_end, metrics

FOREIGN = (
    "notes.txt",
    "pretrained.pdparams",
    "images/holiday_1_x.png",
    "inspect/mine.txt",
    "result/a.png",
    "data.json",
)


@pytest.fixture(scope="module")
def finished(worlds, tmp_path_factory):
    """A run of every kind of file that runs write, and files of the user's."""
    from tests.conftest import tiny_config

    folder = tmp_path_factory.mktemp("earlier") / "run"
    train(tiny_config(worlds, folder, validate_every=2, method="adaptsegnet-multi"))
    for name in ("bad_samples.txt", "bad_samples.rank1.txt", "nonfinite/2.json", "visualdl/vdlrecords.1.log"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for name in FOREIGN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    return folder


def contents(folder):
    """The files below a folder by their names, which TensorBoard's and VisualDL's are given back."""
    shown = {path: path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {
        name.replace("tf-events", "tfevents").replace("vdl-records", "vdlrecords"): path.read_bytes()
        for path, name in shown.items()
    }


def ours(folder):
    return {name: content for name, content in contents(folder).items() if name not in FOREIGN}


def test_an_earlier_run_is_kept_as_a_whole_and_foreign_files_stay(run, tmp_path):
    before, said = ours(run), []
    earlier.set_aside(run, said.append)
    kept = tmp_path / "run.before"
    assert contents(kept) == before
    assert sorted(contents(run)) == sorted(FOREIGN)
    assert said == [
        f"{run} held an earlier run, which is now in {kept} as a whole (to go on with it: --resume with that as "
        "--snapshot-dir)"
    ]
    assert not [path for path in tmp_path.rglob("*") if "tfevents" in path.name or "vdlrecords" in path.name]
    earlier.set_aside(run, said.append)
    assert len(said) == 1, "foreign files alone are no run"
    shutil.copy(kept / "loss.txt", run)
    earlier.set_aside(run, said.append)
    assert sorted(contents(tmp_path / "run.before2")) == ["loss.txt"]
    assert contents(kept) == before
    (run / "resnet_101.pdparams").touch()
    (run / "GTA5_7_D.pdparams").touch()
    earlier.set_aside(run, said.append)
    assert sorted(contents(tmp_path / "run.before3")) == ["GTA5_7_D.pdparams"]
    assert said[-1].endswith("as a whole"), "there is no state to go on from"
    earlier.bring_back(kept)
    assert list((kept / "tensorboard").glob("*tfevents*"))


def test_a_folder_that_nothing_can_be_moved_out_of_keeps_the_earlier_run_inside(run, monkeypatch):
    before = ours(run)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    earlier.set_aside(run, lambda sentence: None)
    assert contents(run / "run.before") == before
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]
    assert not list(run.glob("SYS_*"))


def test_whoever_is_killed_while_setting_aside_loses_nothing(run, tmp_path, monkeypatch):
    """After any number of renames: the next run completes it, and one that resumes the earlier run undoes it."""
    before, rename = ours(run), Path.replace
    moves = []
    monkeypatch.setattr(Path, "replace", lambda path, target: moves.append(path) or rename(path, target))
    shutil.copytree(run, tmp_path / "copy/run")
    earlier.set_aside(tmp_path / "copy/run", lambda sentence: None)
    total = len(moves)
    for resumes in (False, True):
        for allowed in range(total):
            place = tmp_path / f"{resumes}{allowed}"
            folder = Path(shutil.copytree(run, place / "run"))
            left = iter(range(allowed))

            def replace(path, target, left=left):
                if next(left, None) is None:
                    raise KeyboardInterrupt
                return rename(path, target)

            monkeypatch.setattr(Path, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                earlier.set_aside(folder, lambda sentence: None)
            monkeypatch.setattr(Path, "replace", rename)
            assert earlier.resumable(folder)
            if resumes:
                earlier.bring_back(folder)
                assert sorted(path.name for path in place.iterdir()) == ["run"]
                assert ours(folder) == before
            else:
                earlier.set_aside(folder, lambda sentence: None)
                assert sorted(path.name for path in place.iterdir()) == ["run", "run.before"]
                assert contents(place / "run.before") == before
            shutil.rmtree(place)


def test_no_table_mixes_two_runs_and_the_earlier_one_goes_on_where_it_is(tiny, tmp_path, monkeypatch):
    config = tiny(snapshot_dir=tmp_path / "snapshots/run")
    train(config.model_copy(update={"num_steps_stop": 3}))
    train(config.model_copy(update={"num_steps_stop": 2, "seed": 5}))
    kept = tmp_path / "snapshots/run.before"
    assert [one.iteration for one in find_snapshots(config.snapshot_dir)] == [2]
    assert [one.iteration for one in find_snapshots(kept)] == [2, 3]
    assert run_folders(tmp_path / "snapshots") == [config.snapshot_dir]
    monkeypatch.setattr("clan.cli.port.evaluate.SNAPSHOTS", tmp_path / "snapshots")
    assert [weights.parent for weights, _ in _results(None, tmp_path)] == [config.snapshot_dir]
    train(config.model_copy(update={"snapshot_dir": kept}), resume=True)
    whole = config.model_copy(update={"snapshot_dir": tmp_path / "whole"})
    train(whole)
    assert_same_end(kept, whole.snapshot_dir)


def test_scores_of_an_earlier_run_are_not_those_of_the_new_one(tiny, worlds, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny(num_steps_stop=2, snapshot_dir=Path("snapshots/run"))
    dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val")
    train(config)
    evaluate_and_score(config.snapshot_dir, dataset, Path("result"), Path("books"), num_classes=None, upsampling=None)
    shutil.copytree("result/run_2", "result/run_4")
    for path in (Path("result/run_2"), Path("result/run_4")):
        os.utime(path, (0, 0))
    scores = Path("result/run_2/scores.json")
    date = json.loads(scores.read_bytes())["date"]
    scores.write_text(scores.read_text().replace(date, "2000-01-01T00:00:00+00:00"))
    shutil.copy(scores, "result/run_4")
    os.utime("result/run_4", (0, 0))
    train(config)
    snapshots, complaints = find_snapshots(config.snapshot_dir), []
    assert find_evaluations(config.snapshot_dir, snapshots, [Path("result")], on_damaged=complaints.append) == []
    assert "was scored before the run in snapshots/run began" in str(complaints[0])
    with pytest.raises(DataError, match="all label maps of run are of an earlier run"):
        iou.main_bulk([str(worlds / "Cityscapes/gtFine/val"), "result"])
    evaluate_and_score(config.snapshot_dir, dataset, Path("result"), Path("books"), num_classes=None, upsampling=None)
    assert len(find_evaluations(config.snapshot_dir, snapshots, [Path("result")])) == 1
    iou.main_bulk([str(worlds / "Cityscapes/gtFine/val"), "result"])
    assert "result/run_4 was written before the run in snapshots/run began: left out" in capsys.readouterr().out
    began = records.began(config.snapshot_dir)
    train(config.model_copy(update={"num_steps_stop": 3}), resume=True)
    assert records.began(config.snapshot_dir) == began


def test_a_run_is_found_with_its_data_from_any_folder(tiny, worlds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(worlds, "project/data")
    monkeypatch.chdir("project")
    roots = {"source__root": Path("data/SYNTHIA/RAND_CITYSCAPES"), "target__root": Path("data/Cityscapes")}
    train(tiny(**roots, num_steps_stop=2, snapshot_dir=Path("snapshots/run")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for project in ("project", "moved"):
        run = tmp_path / project / "snapshots/run"
        dataset = evaluation_dataset(run, domain=None, data_dir=None, data_list=None, split=None)
        assert dataset.root == tmp_path / project / "data/Cityscapes"
        assert Subject(run, Options(images=1)).source.root == tmp_path / project / "data/SYNTHIA/RAND_CITYSCAPES"
        if project == "project":
            (tmp_path / "project").rename(tmp_path / "moved")


def test_a_run_that_cannot_start_leaves_the_earlier_one_in_place(run, tiny, monkeypatch):
    before = contents(run)

    def refuse(folder, needed):
        raise ConfigError("no space")

    monkeypatch.setattr("clan.training.trainer.check_space", refuse)
    with pytest.raises(ConfigError, match="no space"):
        Trainer(tiny(), notify=lambda sentence: None)
    assert contents(run) == before


def test_resume_auto_starts_goes_on_and_leaves_what_is_finished(tiny, tmp_path, capsys):
    whole = tiny(snapshot_dir=tmp_path / "whole", validate_every=2)
    train(whole)
    config = tiny(validate_every=2)
    train(config.model_copy(update={"num_steps_stop": 3}), resume="auto")
    assert len(metrics(config.snapshot_dir)) == 3
    train(config, resume="auto")
    assert_same_end(config.snapshot_dir, whole.snapshot_dir)
    capsys.readouterr()
    before = contents(config.snapshot_dir)
    assert train(config, resume="auto") == config.snapshot_dir / "SYS_4.pdparams"
    assert f"the run in {config.snapshot_dir} is finished: there is nothing left to do" in capsys.readouterr().out
    assert contents(config.snapshot_dir) == before
    assert States(config.snapshot_dir).latest().iteration == 4


def test_resume_auto_sets_records_without_a_state_aside(tiny, tmp_path):
    config = tiny()
    config.snapshot_dir.mkdir()
    (config.snapshot_dir / "metrics.jsonl").write_text(json.dumps({"iteration": 0}) + "\n")
    train(config, resume="auto")
    assert len(metrics(config.snapshot_dir)) == 4
    assert len(metrics(tmp_path / "run.before")) == 1
