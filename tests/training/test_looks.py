"""Looking at self-training: right numbers and pictures, and no trace in what is trained."""

import json
import shutil

import numpy as np
import paddle
import pytest
from PIL import Image

from clan.data.loader import PairedLoader
from clan.evaluation.confusion import confusion_matrix
from clan.methods.base import Domain
from clan.run.checkpoint import States
from clan.run.observer import PseudoLabels
from clan.run.records import read_run
from clan.training import looks
from clan.training.looks import LINE, TILE, Looks, pseudo_label_scores
from clan.training.trainer import Trainer
from tests.conftest import assert_same_end, tiny_config

MIC = {"name": "mic", "mask_block": 8, "confidence": 0.1}
CROPPED = {"augmentation__random_scale": False, "augmentation__crop_size": (48, 32), "batch_size": 2}
LABELLED = {"method": MIC, "target__split": "val", **CROPPED}
"""The tiny worlds have labels of the target in split val alone."""


def trained(config, resume=False):
    trainer = Trainer(config, resume=resume, notify=lambda sentence: None)
    trainer.run()
    return trainer


@pytest.fixture(scope="module")
def whole(worlds, tmp_path_factory):
    """A run that is looked at every second iteration."""
    return trained(tiny_config(worlds, tmp_path_factory.mktemp("whole") / "run", validate_every=2, **LABELLED))


def test_shares_are_those_of_the_pixels():
    confusion = np.array([[6, 2, 0], [1, 1, 0], [0, 0, 0]])
    found = pseudo_label_scores(5, 2, confusion, ("a", "b", "c"))
    assert found.right == 0.7
    assert found.precision == pytest.approx({"a": 6 / 7, "b": 1 / 3, "c": np.nan}, nan_ok=True)
    assert found.recall == pytest.approx({"a": 6 / 8, "b": 1 / 2, "c": np.nan}, nan_ok=True)
    again = PseudoLabels.of(json.loads(json.dumps(found.record())))
    assert repr(again) == repr(found)


def test_the_labels_are_those_of_the_trained_crops(whole):
    """The same image and crop as the loader's, and the ground truth at its place."""
    loader = PairedLoader(whole.source, whole.target)
    for number in range(4):
        trained_on, looked_at = loader.pair(number).target, whole.looks.batch(number)
        assert looked_at is not None and looked_at.names == trained_on.names
        np.testing.assert_array_equal(looked_at.images, trained_on.images)
        assert looked_at.labels.shape == (2, 32, 48) and trained_on.labels is None


def test_comparing_counts_the_teacher_s_labels_and_leaves_no_trace(whole):
    method, before = whole.method, {name: t.numpy() for name, t in whole.learner.state_dict().items()}
    generator = paddle.get_rng_state()[0].current_seed()
    found = whole.looks.compare(4, [3, 2, 1, 0])
    after = {name: t.numpy() for name, t in whole.learner.state_dict().items()}
    assert [name for name in before if not np.array_equal(before[name], after[name])] == []
    assert paddle.get_rng_state()[0].current_seed() == generator
    total = np.zeros((19, 19), np.int64)
    with looks.undisturbed(method):
        for number in (3, 2, 1, 0):
            batch = whole.looks.batch(number)
            made = method.label(Domain(paddle.to_tensor(batch.images), batch.size))[0].labels.numpy()
            total += confusion_matrix(batch.labels, made, 19)
    expected = pseudo_label_scores(4, 8, total, whole.config.classes.label_space.names)
    assert repr(found) == repr(expected)
    assert repr(read_run(whole.folder).pseudo_labels[-1]) == repr(expected)


def test_a_run_that_is_looked_at_trains_the_same(whole, tiny, monkeypatch):
    monkeypatch.setattr(Looks, "compare", lambda *arguments: None)
    monkeypatch.setattr(Looks, "sheet", lambda *arguments: {})
    config = tiny(validate_every=0, **LABELLED)
    trained(config)
    one, other = (States(folder).latest() for folder in (whole.folder, config.snapshot_dir))
    assert [name for name in one.arrays if not np.array_equal(one.arrays[name], other.arrays[name])] == []
    assert not (config.snapshot_dir / "pseudo_labels.jsonl").exists()


def test_resuming_leaves_the_same_records_and_pictures(whole, tiny):
    config = tiny(validate_every=2, **LABELLED)
    trained(config.model_copy(update={"num_steps_stop": 3}))
    trained(config, resume=True)
    assert_same_end(whole.folder, config.snapshot_dir)
    for name in ("validation.jsonl", "images/SYS_2_self-training.png", "images/SYS_4_self-training.png"):
        assert (config.snapshot_dir / name).read_bytes() == (whole.folder / name).read_bytes(), name
    ends = [(folder / "pseudo_labels.jsonl").read_text().splitlines() for folder in (whole.folder, config.snapshot_dir)]
    assert [json.loads(line)["iteration"] for line in ends[0]] == [2, 4]
    assert [json.loads(line)["iteration"] for line in ends[1]] == [2, 3, 4], "the first part ended, and saved, at 3"
    assert [ends[1][0], ends[1][2]] == ends[0]


def test_a_sheet_has_a_picture_of_every_view(whole):
    run = read_run(whole.folder)
    assert list(run.sheets) == [2, 4]
    with Image.open(run.sheets[4]) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    columns = pixels.shape[1] // TILE
    assert columns == 8, "source, target, mixture with their labels, pseudo-labels, masked"
    target = pixels[LINE + 20 : LINE + 100, 2 * (TILE + 6) + 20 : 2 * (TILE + 6) + 120]
    assert target.std() > 5, "a picture, not one colour"
    assert sheet.height < 2 * TILE * 32 / 48, "save_images is 1, so one row"


def test_images_in_half_precision_are_drawn_alike(whole, monkeypatch):
    view = (whole.method.views["mixed"].astype("bfloat16"),) * 2
    pictures = []
    for mixed in (view[0], view[1].astype("float32")):
        monkeypatch.setitem(whole.method.views, "mixed", mixed)
        [path] = whole.looks.sheet(4, 3, "half").values()
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("fields", [{"save_images": 0}, {"method": "clan"}])
def test_nothing_is_drawn_of_no_images_or_no_teacher(tiny, fields):
    config = tiny(num_steps=2, **LABELLED | fields)
    trained(config)
    assert not list((config.snapshot_dir / "images").glob("*self-training*"))
    assert (config.snapshot_dir / "pseudo_labels.jsonl").exists() == ("save_images" in fields)


def test_targets_without_labels_or_with_damaged_ones_are_only_drawn(tiny, worlds, tmp_path):
    without = tiny(**LABELLED | {"target__split": "train", "num_steps": 2})
    trained(without)
    assert not (without.snapshot_dir / "pseudo_labels.jsonl").exists()
    assert (without.snapshot_dir / "images/SYS_2_self-training.png").exists()

    root = shutil.copytree(worlds / "Cityscapes", tmp_path / "data")
    for label in root.glob("gtFine/val/*/*labelIds.png"):
        label.write_bytes(b"damaged")
    damaged = tiny(**LABELLED | {"target__root": root, "num_steps": 2, "snapshot_dir": tmp_path / "damaged"})
    trainer = trained(damaged)
    assert trainer.looks.compare(2, [0, 1]) is None and not trainer.target.bad


@pytest.mark.parametrize("export", ["student", "teacher"])
def test_both_networks_are_validated_and_the_saved_one_decides(tiny, export):
    config = tiny(method={**MIC, "export": export}, num_steps=2, validate_every=2, **CROPPED)
    (found,) = read_run(trained(config).folder).validations
    other = {"student": "teacher", "teacher": "student"}[export]
    assert list(found.others) == [other]
    assert found.others[other].means.keys() == found.means.keys()
    assert found.others[other].iou.keys() == found.iou.keys()
    alone = tiny(method={**MIC, "export": export, "validate_both": False}, num_steps=2, validate_every=2, **CROPPED)
    (only,) = read_run(trained(alone).folder).validations
    assert not only.others and repr(only.means) == repr(found.means)
    assert "others" not in only.record()
