"""Runs on SYNTHIA's 16 classes by every command, and what is said of classes that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clan.cli import main as cli
from clan.cli.port import evaluate, iou, train
from clan.data.dataset import Dataset
from clan.datasets import NAMED_CLASSES
from clan.datasets.labels import CITYSCAPES, CITYSCAPES_TO_TRAIN_ID
from clan.evaluation.confusion import confusion_matrix
from clan.evaluation.iou import score
from clan.run import presets as recipes
from clan.run.config import load

NAME = "synthia-16"


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch, worlds):
    monkeypatch.setitem(recipes.PRESETS, "official", lambda source: tiny())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/Cityscapes").symlink_to(worlds / "Cityscapes")
    return tmp_path


def test_16_classes_from_training_to_scores(folder, capsys):
    truth = "data/Cityscapes/gtFine/val"
    train.main(["--classes", NAME, "--num-classes", "16", "--num-steps", "1", "--warmup-steps", "0"])
    assert "pixels of terrain, truck, train are ignored" in capsys.readouterr().out
    run = folder / "run"
    assert "classes: synthia-16" in (run / "config.yaml").read_text()
    assert load(run / "config.yaml").network.num_classes == 16
    snapshot = str(run / "SYS_1.pdparams")
    evaluate.main(["--restore-from", snapshot, "--save", "maps", "--input-size", "64,32"])
    evaluate.main(["--restore-from", snapshot, "--save", "ids", "--input-size", "64,32", "--label-ids"])
    capsys.readouterr()
    iou.main([truth, "maps"])
    said = capsys.readouterr().out
    cli.dispatch(["iou", truth, "ids", "--label-ids"])
    assert capsys.readouterr().out == said
    cli.dispatch(["evaluate", snapshot])
    assert capsys.readouterr().out.partition("\n")[2] == said
    stored = json.loads(Path("result/run_SYS_1/scores.json").read_text())
    assert list(stored["means"]) == ["mIoU-16", "mIoU-13"]

    classes = NAMED_CLASSES[NAME]
    space = classes.label_space
    dataset, total = (
        Dataset("cityscapes", folder / "data/Cityscapes", split="val", classes=classes),
        np.zeros((16, 16), np.int64),
    )
    for index, stem in enumerate(dataset.stems):
        predicted = np.asarray(Image.open(f"maps/{stem}.png"))
        assert predicted.max() < 16
        total = total + confusion_matrix(dataset.read_label(index), predicted, 16)
        as_ids = [
            next(key for key, train_id in CITYSCAPES_TO_TRAIN_ID.items() if CITYSCAPES.names[train_id] == name)
            for name in space.names
        ]
        np.testing.assert_array_equal(np.asarray(Image.open(f"ids/{stem}.png")), np.array(as_ids)[predicted])
        colors = np.asarray(Image.open(f"maps/{stem}_color.png").convert("RGB"))
        np.testing.assert_array_equal(colors, np.array(space.colors)[predicted])
    assert stored["confusion"] == total.tolist()
    assert f"===> mIoU-16:\t{100 * score(total, space).means['mIoU-16']:.2f}" in said


def test_classes_that_do_not_fit_are_refused_by_every_command(folder, error_of, capsys):
    offer = "--classes synthia-16"
    assert offer in error_of(train.main, "--num-classes", 16)
    assert offer in error_of(cli.dispatch, "train", "--network.num-classes", 16)
    assert not (folder / "run").exists()
    train.main(["--num-steps", "1", "--warmup-steps", "0"])
    capsys.readouterr()
    snapshot = folder / "run/SYS_1.pdparams"
    assert offer in error_of(evaluate.main, "--restore-from", snapshot, "--save", "maps", "--num-classes", 16)
    assert offer in error_of(cli.dispatch, "evaluate", snapshot, "--num-classes", 16)
    assert offer in error_of(
        cli.dispatch, "predict", "data/Cityscapes/leftImg8bit/val", "--weights", snapshot, "--num-classes", 16
    )
    trained = "was trained on the 19 classes of cityscapes"
    assert trained in error_of(cli.dispatch, "evaluate", snapshot, "--classes", NAME)
    assert trained in error_of(evaluate.main, "--restore-from", snapshot, "--save", "maps", "--classes", NAME)
    (folder / "alone").mkdir()
    bare = snapshot.rename(folder / "alone/SYS_1.pdparams")
    assert offer in error_of(cli.dispatch, "evaluate", bare, "--num-classes", 16)

    text = (folder / "run/config.yaml").read_text()
    text = text.replace("classes: cityscapes", "classes: synthia-16").replace("num_classes: 19", "num_classes: 16")
    (folder / "alone/config.yaml").write_text(text)
    said = error_of(cli.dispatch, "evaluate", bare)
    assert "was trained for 19 classes, but 16 are said" in said
    assert not (folder / "maps").exists()
    (folder / "wrong.yaml").write_text(text.replace("classes: synthia-16", "classes: synthia-15"))
    assert "expected cityscapes, synthia-16, synthia-13 or classes, got 'synthia-15'" in error_of(
        cli.dispatch, "train", "--config", "wrong.yaml"
    )


def test_label_maps_of_16_classes_are_not_scored_as_19(folder, error_of):
    (folder / "maps").mkdir()
    (folder / "maps/classes.json").write_text(json.dumps(NAMED_CLASSES[NAME].model_dump(mode="json")))
    said = error_of(cli.dispatch, "iou", "data/Cityscapes/gtFine/val", "maps", "--classes", "cityscapes")
    assert "hold the 16 classes of synthia-16" in said
    (folder / "maps").rename(folder / "run_1")
    said = error_of(iou.main_bulk, "data/Cityscapes/gtFine/val", ".", "--classes", "cityscapes")
    assert "hold the 16 classes of synthia-16" in said
