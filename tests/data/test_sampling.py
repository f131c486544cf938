"""Joint scaling and cropping of image and label, and strategies of sampling."""

import itertools

import cv2
import numpy as np
import pytest

from clan.data.dataset import Dataset
from clan.data.loader import DomainSampler, PairedLoader
from clan.data.sampling import Uniform, largest_share
from clan.run.config import AugmentationConfig
from tests.conftest import assert_same_end


@pytest.fixture
def blocks(tmp_path):
    """Four images, each of random black and white blocks, labelled 0 where black and 1 where white."""
    random = np.random.default_rng(0)
    for kind in ("leftImg8bit", "gtFine"):
        (tmp_path / kind / "train" / "town").mkdir(parents=True)
    for number in range(4):
        white = np.kron(random.integers(0, 2, (4, 8)), np.ones((16, 16), int)).astype(np.uint8)
        image = np.repeat(255 * white[..., None], 3, axis=2)
        cv2.imwrite(str(tmp_path / f"leftImg8bit/train/town/town_{number}_leftImg8bit.png"), image)
        cv2.imwrite(str(tmp_path / f"gtFine/train/town/town_{number}_gtFine_labelIds.png"), 7 + white)
    return Dataset("cityscapes", tmp_path)


def sampler(dataset, *, seed=(7, 0), **augmentation):
    return DomainSampler(
        dataset, size=(128, 64), augmentation=AugmentationConfig(**augmentation), batch_size=2, shuffle=True,
        labelled=True, seed=seed,
    )  # fmt: skip


JOINT = {"scale_labels": True, "scales": ((0.75, 0.5), (1.25, 0.5)), "crop_size": (48, 32)}


@pytest.mark.parametrize("changes", [{}, {"crop_size": None}, {"random_scale": False}])
def test_image_and_label_stay_together(blocks, changes):
    options = JOINT | changes
    crop, sizes, places = options["crop_size"], set(), set()
    for number in range(12):
        batch = sampler(blocks, **options).batch(number)
        assert batch.labels is not None
        assert batch.images.shape[2:] == batch.labels.shape[1:] == batch.size
        white = batch.images[:, 0] > 127 - 104
        assert (white == (batch.labels == 1)).mean() > 0.97, "but for the resized images' edges"
        sizes.add(batch.size)
        places.add(batch.images.tobytes())
    assert len(places) == 12
    assert sizes == ({(crop[1], crop[0])} if crop else {(48, 96), (80, 160)})


def test_without_joint_scaling_labels_stay_at_base_size(blocks):
    batch = sampler(blocks, scales=((1.25, 1.0),)).batch(0)
    assert batch.images.shape[2:] == (80, 160)
    assert batch.labels is not None and batch.labels.shape[1:] == batch.size == (64, 128)


def test_crops_do_not_depend_on_workers_or_the_start(blocks):
    def pairs(workers, start, count):
        both = (sampler(blocks, seed=(7, role), **JOINT) for role in (0, 1))
        loader = iter(PairedLoader(*both, num_workers=workers, start=start))
        taken = list(itertools.islice(loader, count))
        loader.close()
        return taken

    for pair, expected in zip(pairs(2, 2, 3), pairs(0, 0, 5)[2:], strict=True):
        np.testing.assert_array_equal(pair.source.images, expected.source.images)
        np.testing.assert_array_equal(pair.source.labels, expected.source.labels)


class MostlyWhite(Uniform):
    """Takes the first image alone, and of it crops that are mostly white."""

    def index(self, position):
        return 0

    def accepts(self, position, label):
        return (label == 1).mean() > 0.6


def test_a_strategy_chooses_images_and_crops(blocks):
    plain, chosen = (sampler(blocks, random_scale=False, crop_size=(32, 32)) for _ in range(2))
    chosen.sampling = MostlyWhite(len(blocks), (7, 0), shuffle=True)
    batches = [chosen.batch(number) for number in range(6)]
    assert {name for batch in batches for name in batch.names} == {blocks.names[0]}
    shares = [(label == 1).mean() for batch in batches for label in batch.labels]
    others = [(label == 1).mean() for number in range(6) for label in plain.batch(number).labels]
    assert np.mean([share > 0.6 for share in shares]) > 0.9 > np.mean([share > 0.6 for share in others])


def test_crops_of_nearly_one_class_are_drawn_again(blocks):
    free, choosy = (
        sampler(blocks, random_scale=False, crop_size=(24, 24), crop_class_share=share) for share in (1.0, 0.75)
    )
    counts = [
        sum(largest_share(label, 255) >= 0.75 for number in range(20) for label in one.batch(number).labels)
        for one in (free, choosy)
    ]
    assert counts[0] > 10 and counts[1] < 3, "ten tries may fail"


def test_the_largest_share_leaves_out_what_is_ignored():
    assert largest_share(np.array([[0, 0, 1, 255]], np.uint8), 255) == pytest.approx(2 / 3)
    assert largest_share(np.array([[0, 1, 7, 7, 255]], np.uint8), 7) == pytest.approx(1 / 2)
    assert largest_share(np.array([[3, 255]], np.uint8), 255) == largest_share(np.full((2, 2), 255, np.uint8), 255) == 1


def test_a_cropped_run_resumes_bit_for_bit(tiny, tmp_path):
    from clan.training.trainer import Trainer

    options = {f"augmentation__{name}": value for name, value in JOINT.items()} | {"augmentation__crop_size": (32, 16)}

    def run(resume=False, **fields):
        Trainer(tiny(method="source-only", **options, **fields), resume=resume, notify=lambda sentence: None).run()

    run()
    run(snapshot_dir=tmp_path / "halves", num_steps_stop=2)
    run(snapshot_dir=tmp_path / "halves", resume=True)
    assert_same_end(tmp_path / "run", tmp_path / "halves")
