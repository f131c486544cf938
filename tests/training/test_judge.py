"""`--select-without-labels`: what `clan select` would measure later, without leaving a trace in training."""

import shutil

import pytest

from clan.core.errors import Interrupted
from clan.evaluation import judging
from clan.evaluation.finite import NotFinite
from clan.evaluation.judging import judge_runs
from clan.evaluation.selection import read_selection
from clan.run.observer import Observer
from clan.training.judge import Judge
from clan.training.trainer import Trainer
from tests.conftest import assert_same_end, tiny_config

pytestmark = pytest.mark.plain


def judge_run(folder, **options):
    [one] = judge_runs([folder], **options)
    return one


def train(config, *observers, resume=False):
    said = []
    Trainer(config, resume=resume, notify=said.append).run(*observers)
    return said


def test_training_does_not_notice_it_and_select_has_nothing_left_to_measure(tiny, tmp_path, monkeypatch):
    options = {"optimizer__ema_decay": 0.3, "loggers": ()}
    plain = tiny(**options)
    judged = tiny(**options, select_without_labels=True, snapshot_dir=tmp_path / "judged")
    train(plain)
    said = train(judged)
    assert_same_end(plain.snapshot_dir, judged.snapshot_dir)
    found = read_selection(judged.snapshot_dir)
    assert [one.iteration for one in found.snapshots] == [2, 4]
    assert "ensemble" in found.names
    assert any(sentence.startswith("SYS_4, without labels: ") for sentence in said)

    measured = []
    monkeypatch.setattr(judging, "load_segmenter", lambda weights, network: measured.append(weights.stem))
    monkeypatch.setattr(judging, "mean_of", lambda weights, config: measured.append("mean"))
    monkeypatch.setattr(judging, "measure", lambda *given, **options: statistics)
    statistics = judging.kept(judged.snapshot_dir, "SYS_4", *key_and_classes(judged))
    judge_run(judged.snapshot_dir)
    assert measured == ["mean"]


def key_and_classes(config):
    material = judging.open_material(config, config.snapshot_dir)
    return judging.key_of(material.fingerprint(), config.snapshot_dir / "SYS_4.pdparams"), material.num_classes


def test_a_teacher_is_compared_with(tiny):
    config = tiny(method="dacs", loss__gamma=0.0, select_without_labels=True, loggers=())
    train(config)
    found = read_selection(config.snapshot_dir)
    assert "teacher" in found.names
    judge_run(config.snapshot_dir, images=1)  # of other images, without a teacher
    again = judge_run(config.snapshot_dir).selection
    assert again.column("teacher") == pytest.approx(found.column("teacher"))


def test_damaged_images_that_the_run_tolerates_are_left_out_and_snapshots_that_are_gone_forgotten(worlds, tmp_path):
    shutil.copytree(worlds, tmp_path / "worlds")
    run = tmp_path / "run"
    options = {"select_without_labels": True, "tolerate_bad_samples": 2, "loggers": ()}
    config = tiny_config(tmp_path / "worlds", run, **options)
    damaged = Judge(config).material.target.image_path(0)
    damaged.write_bytes(b"damaged")
    said = [sentence for sentence in train(config) if "without labels: " in sentence]
    assert [f"left out: {damaged}" in sentence for sentence in said] == [True, False]
    assert str(damaged) in judge_run(run).selection.images

    judge = Judge(config)

    def judged():
        return [one.snapshot.path.stem for one in judge._all()]

    assert judged() == ["SYS_2", "SYS_4"]
    shutil.copy(run / "SYS_4.pdparams", run / "SYS_best.pdparams")
    shutil.copy(run / "SYS_4.pdparams", run / "SYS_2.pdparams")
    assert judged() == ["SYS_4"]
    (run / "SYS_4.pdparams").rename(run / "SYS_5.pdparams")
    assert judged() == []


def test_training_goes_on_without_judging_a_snapshot_whose_predictions_are_not_finite(tiny, monkeypatch):
    def diverged(*given, **options):
        raise NotFinite

    monkeypatch.setattr("clan.training.judge.measure", diverged)
    config = tiny(select_without_labels=True, loggers=())
    said = [sentence for sentence in train(config) if "not judged without labels" in sentence]
    assert [sentence.partition(",")[0] for sentence in said] == ["SYS_2", "SYS_4"]
    assert read_selection(config.snapshot_dir) is None


def test_a_signal_leaves_the_measurement_to_select(tiny):
    class Signal(Observer):
        def validating(self, done, total):
            trainer.interruption.signal = 15

    config = tiny(select_without_labels=True, loggers=())
    trainer = Trainer(config, notify=lambda sentence: None)
    with pytest.raises(Interrupted):
        trainer.run(Signal())
    assert read_selection(config.snapshot_dir) is None
    train(config, resume=True)
    assert [one.iteration for one in read_selection(config.snapshot_dir).snapshots] == [4]
    assert [one.iteration for one in judge_run(config.snapshot_dir).selection.snapshots] == [2, 4]
    train(config)  # a new run sets the earlier one aside, with what was measured of it
    before = config.snapshot_dir.with_name("run.before")
    assert (before / "select/selected.json").is_file()
    shutil.rmtree(before)
