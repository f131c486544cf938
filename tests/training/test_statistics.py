"""A run with rare-class sampling: statistics counted once and never stale, resuming, and what cannot be drawn."""

import os
import shutil

import numpy as np
import pytest

from clan.core import output
from clan.core.errors import ConfigError, DataError
from clan.run.folder import CLASS_PIXELS
from clan.training import statistics
from clan.training.batches import build_samplers
from clan.training.statistics import prepare_sampling
from clan.training.trainer import Trainer
from tests.conftest import assert_same_end

RARE = {"source__sampling": "rare-class", "augmentation__random_scale": False, "augmentation__crop_size": (32, 16)}
KNOWN, COUNTED = "are known from", "counting the pixels of each class"


@pytest.fixture
def said():
    """What `run` has said."""
    return []


@pytest.fixture
def run(tiny, said):
    """Trains; what it says is in `said`."""

    def call(*, resume=False, **fields):
        said.clear()
        trainer = Trainer(tiny(**RARE, **fields), resume=resume, notify=said.append)
        trainer.run()
        return trainer

    return call


@pytest.mark.plain
@pytest.mark.parametrize("fields", [{"method": "dacs", "batch_size": 2}, {"method": "source-only"}])
def test_it_resumes_bit_for_bit_whatever_the_workers(run, tmp_path, fields):
    run(**fields)
    run(snapshot_dir=tmp_path / "halves", num_steps_stop=2, num_workers=2, **fields)
    run(snapshot_dir=tmp_path / "halves", resume=True, **fields)
    assert_same_end(tmp_path / "run", tmp_path / "halves")


def test_labels_are_counted_once_and_again_after_a_change(run, said, tmp_path, worlds):
    root = shutil.copytree(worlds / "SYNTHIA/RAND_CITYSCAPES", tmp_path / "data")
    fields = {"method": "source-only", "num_steps": 1, "source__root": root}
    run(**fields)
    path = tmp_path / "run" / CLASS_PIXELS.format("source")
    first = path.read_text()
    assert not any(KNOWN in sentence for sentence in said)
    for resume in (True, False):
        run(**fields, resume=resume)
        assert any(f"3 labels of synthia {KNOWN} {path}" in sentence for sentence in said)
    label = next(root.glob("GT/LABELS/*.png"))
    os.utime(label, ns=(0, 1))
    run(**fields)
    assert not any(KNOWN in sentence for sentence in said) and path.read_text() != first


def test_long_counting_says_how_much_is_left(tiny, said, tmp_path, monkeypatch):
    monkeypatch.setattr(output.Pace, "first_after", 0.0)
    monkeypatch.setattr(output.Pace, "every", 0.0)
    config = tiny(**RARE)
    source, target = build_samplers(config)
    prepare_sampling(config, {"source": source, "target": target}, notify=said.append)
    assert [sentence.partition(",")[0] for sentence in said[:3]] == [
        f"{COUNTED}: {number} of 3 labels" for number in (1, 2, 3)
    ]
    assert said[0].endswith(" left")
    assert not (tmp_path / "run").exists(), "nothing is kept without a folder"


def test_an_unreadable_label_ends_the_run_or_is_never_drawn(tiny, said, tmp_path, worlds):
    root = shutil.copytree(worlds / "SYNTHIA/RAND_CITYSCAPES", tmp_path / "data")
    label = root / "GT/LABELS/0000001.png"
    label.write_bytes(label.read_bytes()[:-100])

    def prepared(tolerated):
        config = tiny(**RARE, source__root=root, tolerate_bad_samples=tolerated)
        samplers = dict(zip(("source", "target"), build_samplers(config), strict=True))
        prepare_sampling(config, samplers, folder=tmp_path / "kept", notify=said.append)
        return samplers["source"]

    with pytest.raises(DataError, match="cannot be decoded"):
        prepared(0)
    source = prepared(1)
    assert any(sentence.startswith(f"left out of the rare-class sampling: {label} cannot") for sentence in said)
    drawn = {source.dataset.names[source.index(position)] for position in range(100)}
    assert drawn and label.name not in drawn
    assert not (tmp_path / "kept").exists(), "so that no later run takes it for whole"


def test_a_target_is_drawn_by_class_only_for_a_method_that_reads_its_labels(tiny):
    with pytest.raises(ConfigError, match=r"target\.sampling rare-class .* which method dacs does not read"):
        Trainer(tiny(method="dacs", target__sampling="rare-class"), notify=lambda sentence: None)
    config = tiny(method="oracle", target__sampling="rare-class", target__split="val")
    trainer = Trainer(config, notify=lambda sentence: None)
    assert trainer.target.sampling.images and (config.snapshot_dir / CLASS_PIXELS.format("target")).is_file()


def test_without_it_nothing_is_counted(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(statistics, "count_pixels", None)
    Trainer(tiny(), notify=lambda sentence: None)
    assert not list((tmp_path / "run").glob("class_pixels*"))


def test_every_class_that_can_be_drawn_is_drawn_from_an_image_that_has_it(tiny):
    config = tiny(**RARE, source__rare_class__temperature=1.0)
    source, _ = build_samplers(config)
    prepare_sampling(config, {"source": source}, notify=lambda sentence: None)
    strategy = source.sampling
    for kind in np.flatnonzero(strategy.probabilities):
        for index in strategy.images[kind]:
            label = source.dataset.read_label(int(index))
            assert (label == kind).sum() * (64 * 32 / label.size) > strategy.needed
