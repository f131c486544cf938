import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clan.core.errors import DataError
from clan.data import transforms
from clan.data.dataset import Dataset
from clan.data.encodings import read_codes
from clan.data.image_files import read_id_label, read_rgb
from clan.data.loader import DomainSampler, PairedLoader
from clan.datasets import packaged
from clan.run.config import AugmentationConfig

OFFICIAL_SCALES = AugmentationConfig().scales


@pytest.mark.parametrize(("name", "size"), [("synthia", (320, 190)), ("city", (256, 128))])
@pytest.mark.parametrize("k", range(4))
def test_samples_equal_the_official_ones(shared, golden, name, size, k):
    expected = golden.arrays(f"data_{name}")
    root = {"synthia": "SYNTHIA/RAND_CITYSCAPES", "city": "Cityscapes"}[name]
    dataset = Dataset({"city": "cityscapes"}.get(name, name), shared / "data/mini" / root)
    assert dataset.names[k] == expected[f"name{k}"]
    scale_draw, mirror_draw = expected[f"draws{k}"]
    scale = transforms.choose_scale(scale_draw, OFFICIAL_SCALES)
    image = transforms.normalize(transforms.resize_image(dataset.read_image(k), size, scale))
    if mirror_draw < 0.5:
        image = transforms.mirror(image)
    assert image.shape == expected[f"image{k}"].shape
    assert np.abs(image - expected[f"image{k}"]).max() < 1e-3
    if name == "synthia":
        label = transforms.resize_label(dataset.read_label(k), size)
        np.testing.assert_array_equal(transforms.mirror(label) if mirror_draw < 0.5 else label, expected[f"label{k}"])


def test_gta5_labels_are_palette_indices(shared):
    dataset = Dataset("gta5", shared / "data/mini/GTA5")
    image, label = dataset.read_pair(0)
    assert image.size == label.shape[::-1]
    assert len(np.unique(label)) > 5
    assert set(np.unique(label)) <= {*range(19), 255}


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_mirroring_twice_is_the_identity(height, width, seed):
    array = np.random.default_rng(seed).normal(size=(3, height, width)).astype(np.float32)
    np.testing.assert_array_equal(transforms.mirror(transforms.mirror(array)), array)


@given(st.floats(0, 1, exclude_max=True))
def test_scales_are_drawn_as_officially(draw):
    expected = 0.8 if draw < 0.3 else 1.1 if draw > 0.7 else 1.0
    if draw not in (0.3, 0.7):
        assert transforms.choose_scale(draw, OFFICIAL_SCALES) == expected


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.floats(1e-7, 2))
def test_a_scaled_image_has_at_least_a_pixel(size, scale):
    resized = transforms.resize_image(Image.new("RGB", (5, 3)), size, scale)
    assert resized.size == transforms.scaled(size, scale) == tuple(int(side * scale) or 1 for side in size)


def test_normalisation_is_undone_exactly():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(transforms.denormalize(transforms.normalize(Image.fromarray(rgb))), rgb)


def test_an_image_is_mirrored_and_normalised_in_one_pass_into_its_place():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8))
    batch = np.empty((2, 3, 5, 7), np.float32)
    for place, mirrored in zip(batch, (False, True), strict=True):
        assert transforms.normalize(image, mirrored=mirrored, out=place) is place
    np.testing.assert_array_equal(batch[0], transforms.normalize(image))
    np.testing.assert_array_equal(batch[1], transforms.mirror(batch[0]))


@pytest.fixture
def city(tmp_path):
    """Five numbered pictures in Cityscapes' layout."""
    folder = tmp_path / "leftImg8bit/train/town"
    folder.mkdir(parents=True)
    for number in range(5):
        pixels = np.full((8, 16, 3), 40 * number, np.uint8)
        pixels[:, :8] += 10
        cv2.imwrite(str(folder / f"town_{number}_leftImg8bit.png"), pixels)
    return Dataset("cityscapes", tmp_path)


def sampler(dataset, **options):
    defaults = {
        "size": (16, 8),
        "augmentation": AugmentationConfig(),
        "batch_size": 2,
        "shuffle": True,
        "labelled": False,
        "seed": (7, 0),
    }
    return DomainSampler(dataset, **{**defaults, **options})


def test_the_order_is_the_same_with_any_number_of_workers_and_from_any_start(city):
    def pairs(workers, start, count):
        loader = iter(PairedLoader(sampler(city), sampler(city, seed=(7, 1)), num_workers=workers, start=start))
        taken = list(itertools.islice(loader, count))
        loader.close()
        return taken

    reference = pairs(0, 0, 9)
    assert len({pair.source.images.shape for pair in reference}) > 1, "scales vary"
    for workers, start in ((1, 0), (4, 0), (4, 5), (0, 3)):
        for pair, expected in zip(pairs(workers, start, 9 - start), reference[start:], strict=True):
            assert pair.source.names == expected.source.names
            np.testing.assert_array_equal(pair.source.images, expected.source.images)
            np.testing.assert_array_equal(pair.target.images, expected.target.images)


def test_every_pass_sees_every_image_once_in_a_new_order(city):
    indices = [sampler(city).index(position) for position in range(15)]
    passes = [tuple(indices[k : k + 5]) for k in (0, 5, 10)]
    assert all(sorted(one) == list(range(5)) for one in passes)
    assert len(set(passes)) > 1
    assert [sampler(city, shuffle=False).index(k) for k in range(7)] == [0, 1, 2, 3, 4, 0, 1]
    assert indices != [sampler(city, seed=(8, 0)).index(position) for position in range(15)]


def test_others_take_the_place_of_bad_samples_but_not_their_neighbours(city):
    """The substitutes of a position are the same whoever asks and whenever, and its neighbours come last."""
    one, other = sampler(city), sampler(city)
    list(map(other.index, range(20)))
    for position in range(12):
        first, *substitutes = one._candidates(position)
        assert first == one.index(position)
        assert sorted([first, *substitutes]) == list(range(5))
        around = {one.index(near) for near in (position - 1, position + 1) if near >= 0} - {first}
        assert set(substitutes[len(substitutes) - len(around) :]) == around
        assert substitutes == list(other._candidates(position))[1:]


def test_bad_samples_are_tolerated_up_to_a_number_in_a_batch(city):
    for index in (1, 2):
        city.image_path(index).write_bytes(b"")
    strict = sampler(city, shuffle=False, batch_size=5, labelled=False)
    with pytest.raises(DataError, match=r"town_1_leftImg8bit\.png cannot be decoded"):
        strict.batch(0)
    with pytest.raises(DataError, match="--tolerate-bad-samples 1 are used up"):
        strict.batch(0, tolerate=1)
    batch = strict.batch(0, tolerate=2)
    assert sorted(batch.skipped) == [city.names[1], city.names[2]]
    assert [name for name in batch.names if name in batch.skipped] == []
    assert [batch.names[k] for k in (0, 3, 4)] == [city.names[k] for k in (0, 3, 4)]


def test_an_error_in_a_worker_reaches_the_caller_as_it_is(city):
    city.image_path(3).write_bytes(city.image_path(3).read_bytes()[:60])
    loader = iter(PairedLoader(sampler(city), sampler(city), num_workers=3))
    with pytest.raises(DataError, match=r"town_3_leftImg8bit\.png cannot be decoded"):
        for _ in range(6):
            next(loader)


def test_a_flipped_bit_is_noticed(city):
    path = city.image_path(0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be decoded"):
        city.read_image(0)


def test_a_synthia_label_keeps_its_16_bit_classes(tmp_path):
    for folder in ("RGB", "GT/LABELS"):
        (tmp_path / folder).mkdir(parents=True)
    label = np.zeros((4, 4, 3), np.uint16)
    label[..., 2] = [[3, 4, 2, 21], [5, 7, 15, 9], [6, 16, 1, 10], [17, 8, 22, 0]]
    label[..., 1] = 40_000
    cv2.imwrite(str(tmp_path / "GT/LABELS/0.png"), label)
    cv2.imwrite(str(tmp_path / "RGB/0.png"), np.zeros((4, 4, 3), np.uint8))
    read = Dataset("synthia", tmp_path).read_label(0)
    np.testing.assert_array_equal(read, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 255, 255]])


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_synthia_label_is_named(tmp_path, damage):
    path = tmp_path / "0.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 23, (8, 8, 3)).astype(np.uint16))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes({"flipped": content, "truncated": content[:-20], "empty": b""}[damage])
    with pytest.raises(DataError, match=r"0\.png cannot be decoded"):
        read_codes(path, packaged("synthia"))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_unusual_files_are_read_by_the_general_libraries(tmp_path, suffix):
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, (4, 6)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / f"grey{suffix}")
    np.testing.assert_array_equal(read_rgb(tmp_path / f"grey{suffix}"), np.repeat(grey[:, :, None], 3, axis=2))
    few = Image.fromarray(grey % 4)
    few.putpalette([0, 0, 0, 9, 9, 9, 8, 8, 8, 7, 7, 7])
    few.save(tmp_path / f"few{suffix}")  # as PNG, two bits a pixel
    np.testing.assert_array_equal(read_id_label(tmp_path / f"few{suffix}"), grey % 4)
    deep = random.integers(0, 2**16, (4, 6, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), np.dstack([deep, deep[:, :, 0]]))  # with transparency
    np.testing.assert_array_equal(read_codes(tmp_path / "deep.png", packaged("synthia")), deep[:, :, 2])


def test_a_batch_shares_one_scale_but_not_the_mirroring(city):
    batch = sampler(city, batch_size=5).batch(0)
    assert batch.images.shape[0] == 5
    assert batch.size == (8, 16)
    left_brighter = batch.images[:, 0, :, 0].mean(axis=1) > batch.images[:, 0, :, -1].mean(axis=1)
    assert 0 < left_brighter.sum() < 5
