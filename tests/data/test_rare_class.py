"""Rare-class sampling: published probabilities, images and crops with enough of the drawn class, pure draws."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.core.errors import ConfigError
from clan.data.class_pixels import ClassPixels, count_pixels
from clan.data.dataset import Dataset
from clan.data.loader import DomainSampler, PairedLoader
from clan.data.rare_class import RareClass, draw_probabilities
from clan.datasets import Classes
from clan.run.config import AugmentationConfig

SIZES = [(64, 32), (64, 32), (128, 64), (64, 32)]
"""Width and height of the files."""


def refuse(error):
    raise error


@pytest.fixture
def scenes(tmp_path):
    """Four images: road everywhere, with 8 × 8 pixels of light in the second, 16 × 16 of bus in the third, which is
    twice as large, and 2 × 2 pixels of train in the fourth, of which half is ignored."""
    for kind in ("leftImg8bit", "gtFine"):
        (tmp_path / kind / "train" / "town").mkdir(parents=True)
    for number, (width, height) in enumerate(SIZES):
        label = np.full((height, width), 7, np.uint8)
        if number == 1:
            label[:8, -8:] = 19
        if number == 2:
            label[-16:, :16] = 28
        if number == 3:
            label[:, : width // 2] = 0
            label[10:12, 40:42] = 31
        image = np.repeat(label[..., None] * 8, 3, axis=2)
        cv2.imwrite(str(tmp_path / f"leftImg8bit/train/town/town_{number}_leftImg8bit.png"), image)
        cv2.imwrite(str(tmp_path / f"gtFine/train/town/town_{number}_gtFine_labelIds.png"), label)
    return Dataset("cityscapes", tmp_path)


ROAD, LIGHT, BUS, TRAIN = 0, 6, 15, 16


def strategy(tiny, dataset, *, pixels=40.0, size=(64, 32), seed=7, **fields):
    """A prepared strategy that needs `pixels` of an image at the training size, and what it says."""
    area = np.prod(fields.get("augmentation__crop_size", size)) / 512**2
    config = tiny(
        source__size=size, source__rare_class__pixels=pixels / area, augmentation__random_scale=False, **fields
    )
    made = RareClass(dataset, (seed, 0), config)
    return made, made.prepare(count_pixels(dataset, on_unreadable=refuse))


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_probabilities_are_those_of_the_authors(golden, temperature):
    arrays = golden.arrays("selftraining/pieces")
    found = draw_probabilities(arrays["rcs/pixels"], temperature)
    np.testing.assert_allclose(found, arrays[f"rcs/{temperature}"], rtol=1e-6, atol=1e-12)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=30), st.floats(1e-6, 1e3))
def test_probabilities_fall_with_the_share_and_leave_out_absent_classes(pixels, temperature):
    pixels = np.array(pixels)
    found = draw_probabilities(pixels, temperature)
    assert found.sum() == pytest.approx(float(pixels.any()))
    assert (found[pixels == 0] == 0).all()
    present = np.flatnonzero(pixels)
    ordered = found[present[np.argsort(pixels[present])]]
    assert (np.diff(ordered) <= 1e-12).all()


def test_images_have_more_than_the_needed_pixels_at_the_training_size(tiny, scenes):
    """The bus has 256 pixels in its file, which is twice as large, so 64 in training; the train has 4."""
    made, said = strategy(tiny, scenes)
    assert [list(made.images[kind]) for kind in (ROAD, LIGHT, BUS, TRAIN)] == [[0, 1, 2, 3], [1], [2], []]
    assert made.probabilities[TRAIN] == 0
    (sentence,) = said
    assert "never draws train, since no image of cityscapes has more than 40 pixels at 64×32 of it" in sentence
    exact, _ = strategy(tiny, scenes, pixels=64.0)
    assert not exact.probabilities[[LIGHT, BUS]].any(), "more than, not as many"
    assert exact.probabilities[ROAD] == 1


def test_shares_are_of_all_labelled_pixels_and_the_rare_are_drawn_most(tiny, scenes):
    made, _ = strategy(tiny, scenes)
    pixels = np.zeros(19)
    pixels[[ROAD, LIGHT, BUS, TRAIN]] = 2048 * 2 - 64 + 8192 - 256 + 1024 - 4, 64, 256, 4
    weights = np.exp((1 - pixels / pixels.sum() - 1) / 0.01)[[ROAD, LIGHT, BUS]]
    np.testing.assert_allclose(made.probabilities[[ROAD, LIGHT, BUS]], weights / weights.sum(), rtol=1e-5)
    drawn = np.bincount([made.index(position) for position in range(400)], minlength=4) / 400
    np.testing.assert_allclose(drawn[[1, 2]], made.probabilities[[LIGHT, BUS]], atol=0.08)


def test_a_crop_needs_half_of_the_pixels_of_the_drawn_class(tiny, scenes):
    made, _ = strategy(tiny, scenes, augmentation__crop_size=(32, 32))
    position = next(number for number in itertools.count() if made.index(number) == 1)
    label = np.zeros((32, 32), np.uint8)
    label.flat[:20] = LIGHT
    assert not made.accepts(position, label)
    label.flat[:21] = LIGHT
    assert made.accepts(position, label)
    label[label == LIGHT] = BUS
    assert not made.accepts(position, label)


def test_crops_are_drawn_until_the_class_is_in_them_and_do_not_depend_on_workers(tiny, scenes):
    def sampler(seed):
        augmentation = AugmentationConfig(random_scale=False, crop_size=(32, 32), random_mirror=False)
        made = DomainSampler(
            scenes, size=(64, 32), augmentation=augmentation, batch_size=2, shuffle=True, labelled=True, seed=seed
        )
        made.sampling, _ = strategy(tiny, scenes, augmentation__crop_size=(32, 32))
        return made

    def taken(workers, start, count):
        loader = iter(PairedLoader(sampler((7, 0)), sampler((7, 0)), num_workers=workers, start=start))
        pairs = list(itertools.islice(loader, count))
        loader.close()
        return pairs

    pairs = taken(0, 0, 20)
    for pair, other in zip(pairs[5:], taken(3, 5, 15), strict=True):
        np.testing.assert_array_equal(pair.source.labels, other.source.labels)
    holding = [
        np.isin([LIGHT, BUS], label).any()
        for pair in pairs
        for name, label in zip(pair.source.names, pair.source.labels, strict=True)
        if not name.endswith(("_0_leftImg8bit.png", "_3_leftImg8bit.png"))
    ]
    assert len(holding) > 30 and np.mean(holding) > 0.85, "a single crop has one of three chances"


def test_classes_are_those_of_the_run(tiny, scenes):
    """Merged ones are counted together, and what no class takes is no pixel of any."""
    merged = Classes(classes={"lit": ("light", "bus"), "train": ("train",)})
    dataset = Dataset("cityscapes", scenes.root, classes=merged)
    counts = count_pixels(dataset, on_unreadable=refuse)
    assert counts.counts.tolist() == [[0, 0], [64, 0], [256, 0], [0, 4]]
    assert counts.areas.tolist() == [width * height for width, height in SIZES]


def test_an_ignored_class_is_not_drawn(tiny, scenes):
    made, _ = strategy(tiny, scenes, ignore_label=LIGHT)
    assert made.probabilities[LIGHT] == 0 and made.probabilities[BUS] > 0.9


def test_labels_without_enough_of_any_class_are_refused(tiny, scenes):
    with pytest.raises(ConfigError, match=r"no image of cityscapes has more than 9,999 pixels at 64×32 of any class, "):
        strategy(tiny, scenes, pixels=9999.0)
    config = tiny(source__sampling="rare-class")
    nothing = ClassPixels(np.zeros((4, 19), np.int64), np.full(4, 100))
    with pytest.raises(ConfigError, match=r"of any class, since every pixel of their labels is ignored.*source\.rare"):
        RareClass(scenes, (7, 0), config).prepare(nothing)
