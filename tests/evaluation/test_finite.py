"""Networks of finite weights whose logits overflow: nothing makes a label map or a number of them."""

import math
import shutil

import numpy as np
import paddle
import pytest

import clan
from clan.cli.main import dispatch
from clan.core.ranks import ALONE
from clan.evaluation.finite import NotFinite
from clan.evaluation.label_maps import load_segmenter
from clan.models.weights import save_weights
from clan.run.config import load
from clan.training.run import train
from clan.training.trainer import Trainer
from clan.training.validation import Validator
from tests.conftest import tiny_config

pytestmark = pytest.mark.plain


def overflow(segmenter):
    for parameter in segmenter.heads[0].parameters():
        parameter.set_value(paddle.full_like(parameter, 3e38))
    return segmenter


@pytest.fixture(scope="module")
def run(worlds, tmp_path_factory):
    """A run's folder with one snapshot, whose weights are finite."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    weights = train(tiny_config(worlds, folder, num_steps=2))
    save_weights(overflow(load_segmenter(weights, load(folder / "config.yaml").network)), weights)
    return folder


@pytest.fixture
def picture(worlds):
    return next((worlds / "Cityscapes/leftImg8bit/val").rglob("*.png"))


@pytest.mark.parametrize("views", [(), ("--tta", "flip"), ("--window", 32, 32)])
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_label_maps_are_refused(command, views, run, picture, tmp_path, error_of):
    weights = run / "SYS_2.pdparams"
    given = [weights, "--save", tmp_path / "out"] if command == "evaluate" else [picture, "--weights", weights]
    output = [] if command == "evaluate" else ["-o", tmp_path / "out"]
    sentence = error_of(dispatch, command, *given, *output, *views)
    assert sentence.startswith(f"error: what {weights} predicts is not finite")
    assert not list(tmp_path.rglob("*.png"))


def test_predictions_in_python_are_refused(run):
    model = clan.load(run / "SYS_2.pdparams")
    with pytest.raises(NotFinite):
        model(np.zeros((32, 64, 3), np.uint8))


def test_they_are_not_exported(run, tmp_path, error_of):
    sentence = error_of(dispatch, "export", run / "SYS_2.pdparams", "-o", tmp_path / "network")
    assert sentence.startswith("error: what SYS_2.pdparams predicts is not finite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("select", "--images", 1), ("suggest", "-n", 1), ("inspect", "--images", 2)])
def test_nothing_is_concluded_from_them(command, run, tmp_path, error_of):
    name, *options = command
    copy = shutil.copytree(run, tmp_path / "run")
    network = f"SYS_2 of {copy}" if name == "select" else copy / "SYS_2.pdparams"
    assert error_of(dispatch, name, copy, *options).startswith(f"error: what {network} predicts is not finite")


def test_a_validation_of_them_has_no_score_and_is_never_best(run, worlds):
    config = load(run / "config.yaml").changed(validate_every=1)
    segmenter = overflow(load_segmenter(run / "SYS_2.pdparams", config.network))
    validator = Validator(config, ALONE)
    found = validator.validate(segmenter, 1, on_image=lambda *given: None, stop=lambda: False)
    assert math.isnan(found.score)
    assert all(map(math.isnan, found.iou.values()))
    assert validator.best is None


def test_a_snapshot_of_them_is_saved_without_pictures(worlds, tmp_path):
    trainer = Trainer(tiny_config(worlds, tmp_path / "run"))
    overflow(trainer.method.segmenter)
    assert trainer.snapshots.save(1) == {}
    assert trainer.snapshots.path(1).is_file()
