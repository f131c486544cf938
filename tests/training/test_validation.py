"""Validation while training: it counts what evaluation counts, keeps the best, and leaves no trace in training."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from clan.core.errors import ConfigError, Interrupted
from clan.core.ranks import ALONE
from clan.data.dataset import Dataset
from clan.evaluation.bulk import evaluate_and_score
from clan.evaluation.scores_file import find_evaluations, read_evaluation
from clan.models.weight_files import read_arrays
from clan.reporting.page import make_report
from clan.run.checkpoint import States
from clan.run.folder import find_snapshots
from clan.run.observer import Observer, Validation
from clan.run.records import read_run, read_validations
from clan.training.trainer import Trainer
from clan.training.validation import Validator
from tests.conftest import assert_same_end

pytestmark = pytest.mark.plain


def train(config, *observers, resume=False):
    trainer = Trainer(config, resume=resume, notify=lambda sentence: None)
    trainer.run(*observers)
    return trainer


def assert_same_training(left, right):
    """Records of training, states and snapshots of two folders are the same to the last bit."""
    assert_same_end(left, right)
    for path in left.glob("*_[0-9]*.pdparams"):
        same_weights(path, right / path.name)


def same_weights(left, right):
    one, other = read_arrays(left), read_arrays(right)
    assert one.keys() == other.keys()
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []


OPTIONS = {
    "plain": {"shuffle": True, "num_workers": 2},
    "averaged, per domain": {"optimizer__ema_decay": 0.3, "network__batch_norm": "per-domain"},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_training_does_not_notice_validation(tiny, tmp_path, options):
    plain = tiny(**OPTIONS[options])
    watched = tiny(**OPTIONS[options], validate_every=1, snapshot_dir=tmp_path / "watched")
    train(plain)
    train(watched)
    assert len(read_validations(watched.snapshot_dir / "validation.jsonl")) == 4
    assert_same_training(plain.snapshot_dir, watched.snapshot_dir)


@pytest.fixture(scope="module")
def whole(worlds, tmp_path_factory):
    """A run with an average of the weights, validated three times, and its configuration."""
    from tests.conftest import tiny_config

    options = {"optimizer__ema_decay": 0.3, "optimizer__learning_rate": 0.02, "num_steps": 6, "loggers": ()}
    config = tiny_config(worlds, tmp_path_factory.mktemp("whole") / "run", validate_every=2, save_every=3, **options)
    train(config)
    return config


def test_it_scores_as_evaluation_does(whole, worlds, tmp_path):
    """On the label maps that `clan evaluate` writes of the same snapshots."""
    folder = whole.snapshot_dir
    dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val")
    found = {one.iteration: one for one in read_validations(folder / "validation.jsonl")}
    assert list(found) == [2, 4, 6]
    evaluate_and_score(folder, dataset, tmp_path, tmp_path / "books", num_classes=None, upsampling=None)
    top = max(found.values(), key=lambda one: one.score)
    by_iteration = {6: "run_6", top.iteration: f"run_{top.iteration}"}
    for iteration, name in by_iteration.items():
        scores = read_evaluation(tmp_path / name).scores
        assert found[iteration].means == pytest.approx(scores.means, nan_ok=True)
        assert list(found[iteration].iou.values()) == pytest.approx(scores.iou.tolist(), nan_ok=True)
    options = {"num_classes": None, "upsampling": None}
    evaluate_and_score(folder / "SYS_best.pdparams", dataset, tmp_path / "alone", tmp_path, **options)
    for results in ([tmp_path / "alone"], [tmp_path, tmp_path / "alone"]):
        evaluations = find_evaluations(folder, find_snapshots(folder), results)
        assert len({one.iteration for one in evaluations}) == len(evaluations), "none counts twice"
        (best,) = [one for one in evaluations if one.iteration == top.iteration]
        assert best.scores.means["mIoU-13"] == pytest.approx(top.score)
    assert found[6].headline == "mIoU-13"
    assert found[6].dataset == "cityscapes val, 2 images"


def test_the_best_is_kept_with_its_scores(whole):
    folder = whole.snapshot_dir
    lines = (folder / "validation.jsonl").read_text().splitlines()
    top = max(map(json.loads, lines), key=lambda one: one["means"]["mIoU-13"])
    assert json.loads((folder / "SYS_best.json").read_text()) == top
    assert States(folder).latest().notes["best"] == top
    if top["iteration"] == 6:
        same_weights(folder / "SYS_best.pdparams", folder / "SYS_6.pdparams")


class Kill(BaseException):
    """What ends a run without its say."""


class Interrupting(Observer):
    """Ends a run at some point: by a signal, or as a kill does."""

    def __init__(self, trainer, *, step=None, validating=None, validated=None, kill=False):
        self.trainer, self.kill = trainer, kill
        self.at = {"step": step, "validating": validating, "validated": validated}

    def _maybe(self, event, iteration):
        if self.at[event] == iteration:
            if self.kill:
                raise Kill
            self.trainer.interruption.signal = 15

    def step(self, step):
        self._maybe("step", step.iteration + 1)

    def validating(self, done, total):
        self._maybe("validating", self.trainer.iteration)

    def validated(self, validation, best):
        self._maybe("validated", validation.iteration)


ENDS = {
    "killed after a validation and before the next state": {"validated": 4, "kill": True},
    "killed between": {"step": 5, "kill": True},
    "killed in a validation": {"validating": 4, "kill": True},
    "a signal puts off the validation that is due": {"step": 4},
    "a signal breaks off a validation": {"validating": 4},
    "a signal in the last validation": {"validating": 6},
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_interrupted_around_a_validation_equals_one_that_was_not(whole, tmp_path, end):
    parts = whole.model_copy(update={"snapshot_dir": tmp_path / "parts"})
    trainer = Trainer(parts, notify=lambda sentence: None)
    with pytest.raises((Kill, Interrupted)):
        trainer.run(Interrupting(trainer, **ENDS[end]))
    assert len((parts.snapshot_dir / "validation.jsonl").read_text().splitlines()) < 3
    train(parts, resume=True)
    left, right = whole.snapshot_dir, parts.snapshot_dir
    assert_same_training(left, right)
    assert (left / "validation.jsonl").read_bytes() == (right / "validation.jsonl").read_bytes()
    assert (left / "SYS_best.json").read_bytes() == (right / "SYS_best.json").read_bytes()
    same_weights(left / "SYS_best.pdparams", right / "SYS_best.pdparams")
    assert States(left).latest().notes == States(right).latest().notes


def scored(iteration, score, dataset="cityscapes val, 2 images"):
    return Validation(iteration, dataset, "mIoU-13", {"mIoU-13": score}, {"road": score})


def test_the_first_of_equals_is_best_and_no_score_never(tiny, monkeypatch):
    validator = Validator(tiny(validate_every=1), ALONE)
    confusions = iter([np.zeros((19, 19), np.int64), *(np.diag([n, *[0] * 18]) for n in (3, 5))])
    monkeypatch.setattr(Validator, "_count", lambda *rest: (next(confusions), False, False))

    def validate(iteration):
        return validator.validate(None, iteration, on_image=print, stop=lambda: False)

    assert math.isnan(validate(1).score)
    assert validator.best is None
    first = validate(2)
    assert validate(3).score == first.score == 1
    assert validator.best is first
    assert validator.notes() == {"validated": 3, "best": first.record()}


def test_a_best_of_other_images_is_none(tiny):
    validator = Validator(tiny(validate_every=1), ALONE)
    validator.restore({"validated": 4, "best": scored(2, 0.5).record()})
    assert validator.best == scored(2, 0.5)
    validator.restore({"validated": 4, "best": scored(2, 0.5, "cityscapes val, 500 images").record()})
    assert (validator.best, validator.latest) == (None, 4)
    validator.restore({})
    assert validator.latest == 0


def test_some_images_are_spread_over_the_split(tiny):
    assert Validator(tiny(validate_every=1, validation_images=1), ALONE).name == "cityscapes val, 1 images"
    many = Validator(tiny(validate_every=1, validation_images=99), ALONE)
    assert many.dataset.names == Dataset("cityscapes", tiny().target.root, split="val").names


def test_a_split_without_labels_is_refused_before_training(tiny):
    config = tiny(validate_every=1, validation_split="train")
    with pytest.raises(ConfigError, match=r"3 of 3 .* lindenau.* cityscapes.*--validation-split"):
        Trainer(config, notify=lambda sentence: None)
    assert not config.snapshot_dir.exists()


def test_scores_survive_their_line():
    before = replace(scored(2, 0.1 + 0.2), iou={"road": math.nan, "路": 0.5})
    after = Validation.of(json.loads(json.dumps(before.record())))
    assert repr(after) == repr(before)


def test_a_torn_line_is_left_out(whole, tmp_path):
    text = (whole.snapshot_dir / "validation.jsonl").read_text()
    (tmp_path / "validation.jsonl").write_text(text + '[1]\n{"iteration": 8, "mea')
    assert [one.iteration for one in read_validations(tmp_path / "validation.jsonl")] == [2, 4, 6]


def test_a_best_snapshot_counts_once(whole, tmp_path):
    """It stands under its own name where no snapshot has its number."""
    for name in ("SYS_2", "SYS_4", "SYS_4_D", "SYS_best"):
        (tmp_path / f"{name}.pdparams").touch()

    def found(best):
        (tmp_path / "SYS_best.json").write_text(json.dumps(best))
        return [(one.path.stem, one.iteration) for one in find_snapshots(tmp_path)]

    assert found({"iteration": 4}) == [("SYS_2", 2), ("SYS_4", 4)]
    assert found({"iteration": 3}) == [("SYS_2", 2), ("SYS_best", 3), ("SYS_4", 4)]
    assert found({}) == [("SYS_2", 2), ("SYS_4", 4), ("SYS_best", None)]


def test_the_report_shows_validations(whole, tmp_path):
    page = make_report([whole.snapshot_dir], tmp_path / "report.html")
    assert [panel.title for panel in page.validations] == [f"mIoU-{n} in validation, %" for n in (19, 16, 13)]
    found = read_run(whole.snapshot_dir).validations
    (series,) = page.validations[2].series
    assert series.x.tolist() == [2, 4, 6]
    assert series.y.tolist() == [100 * one.score for one in found]
    top = max(found, key=lambda one: one.score)
    assert page.runs[0].state.endswith(f"mIoU-13 {100 * top.score:.2f} after {top.iteration} ({top.dataset})")
    assert "mIoU-13 in validation" in (tmp_path / "report.html").read_text()


def test_a_new_run_in_the_folder_keeps_the_old_best_apart(whole, tmp_path):
    config = whole.model_copy(update={"snapshot_dir": tmp_path / "run", "num_steps_stop": 2})
    train(config)
    old = (config.snapshot_dir / "SYS_best.json").read_text()
    train(config.model_copy(update={"validate_every": 0}))
    of_best = {"SYS_best.json", "SYS_best.pdparams", "validation.jsonl"}
    assert not of_best & {path.name for path in config.snapshot_dir.iterdir()}
    assert of_best <= {path.name for path in (tmp_path / "run.before").iterdir()}
    assert (tmp_path / "run.before/SYS_best.json").read_text() == old


def test_a_run_that_stops_validating_hands_on_the_best(whole, tmp_path):
    config = whole.model_copy(update={"snapshot_dir": tmp_path / "run", "num_steps_stop": 2})
    train(config)
    best = States(config.snapshot_dir).latest().notes["best"]
    assert best["iteration"] == 2
    train(config.model_copy(update={"validate_every": 0, "num_steps_stop": 3}), resume=True)
    trainer = Trainer(config.model_copy(update={"num_steps_stop": 3}), resume=True, notify=lambda sentence: None)
    assert trainer.validator.best.record() == best
    trainer.run()
    assert len((config.snapshot_dir / "validation.jsonl").read_text().splitlines()) == 1
