"""Splits, lists, names and encodings of described data sets."""

import cv2
import numpy as np
import pytest
from PIL import Image

from clan.data.check import check
from clan.data.datasets import Dataset, find_splits
from clan.domains import Classes, Description
from clan.errors import DataError

CLASSES = Classes(classes={"ground": ("road",), "sky": (), "thing": ()})


def described(**fields):
    return Description.model_validate(
        {
            "name": "mine",
            "images": "{split}/{ride}/{name}.png",
            "labels": "{split}/{ride}/{name}_ids.png",
            "classes": {"road": 0, "sky": [7, 300], "mud": 9},
            "ignore": 255,
            **fields,
        }
    )


@pytest.fixture
def root(tmp_path):
    """Two rides a split, two frames a ride, numbered alike, images and labels side by side."""
    for split in ("train", "val"):
        for ride in ("north", "south"):
            folder = tmp_path / split / ride
            folder.mkdir(parents=True)
            for name in ("1", "2"):
                Image.new("RGB", (4, 2)).save(folder / f"{name}.png")
                Image.fromarray(np.array([[0, 7, 9, 255]] * 2, np.uint8)).save(folder / f"{name}_ids.png")
    return tmp_path


def test_images_are_found_and_their_labels_are_not_taken_for_images(root):
    dataset = Dataset(described(), root, split="val", classes=CLASSES)
    assert dataset.names == ["north/1.png", "north/2.png", "south/1.png", "south/2.png"]
    assert dataset.stems == ["north/1", "north/2", "south/1", "south/2"], "no two label maps of one name"
    assert dataset.label_path(2) == root / "val/south/1_ids.png"
    np.testing.assert_array_equal(dataset.read_pair(0)[1], [[0, 1, 255, 255]] * 2)
    assert check(dataset).ok


def test_splits_by_folders_patterns_and_lists(root):
    (root / "some.txt").write_text("south/2\n\nnorth/1.png\n")
    splits = {"southern": {"split": "train", "ride": "s*"}, "few": {"split": "val", "list": "some.txt"}}
    description = described(splits=splits)
    assert find_splits(description, root) == ["train", "val", "southern", "few"]
    southern, few = (Dataset(description, root, split=split) for split in splits)
    assert [southern.image_path(k) for k in range(2)] == [root / f"train/south/{k}.png" for k in (1, 2)]
    assert len(southern) == 2
    assert few.names == ["south/2.png", "north/1.png"]
    assert few.image_root == root / "val"
    with pytest.raises(DataError, match="there are few"):
        Dataset(described(images="val/{ride}/{name}.png", labels=None, splits={"few": "some.txt"}), root)
    with pytest.raises(DataError, match=r"has the splits train, val, southern, few"):
        Dataset(description, root, split="test")


def test_16_bit_ids(root):
    label = np.array([[0, 300, 9, 255]] * 2, np.uint16)
    Image.fromarray(label).save(root / "val/north/1_ids.png")
    dataset = Dataset(described(), root, split="val", classes=CLASSES)
    np.testing.assert_array_equal(dataset.read_label(0), [[0, 1, 255, 255]] * 2)
    with pytest.raises(DataError, match="has 16 bits a channel, but those of mine have 8"):
        Dataset(described(bits=8), root, split="val").read_label(0)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channel", ["red", "green", "blue"])
def test_ids_in_a_channel(channel, depth, root):
    stored = np.full((2, 4, 3), 1, depth)
    stored[:, :, ["blue", "green", "red"].index(channel)] = [0, 7, 9, 255]
    cv2.imwrite(str(root / "val/north/1_ids.png"), stored)
    dataset = Dataset(described(encoding=channel), root, split="val", classes=CLASSES)
    np.testing.assert_array_equal(dataset.read_label(0), [[0, 1, 255, 255]] * 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colors(mode, root):
    colors = np.array([[(128, 64, 128), (70, 130, 180), (1, 2, 3), (0, 0, 0)]] * 2, np.uint8)
    Image.fromarray(colors).convert(mode, palette=Image.Palette.ADAPTIVE).save(root / "val/north/1_ids.png")
    classes = {"road": "#804080", "sky": [70, 130, 180], "mud": "#010203"}
    description = described(encoding="colors", classes=classes, ignore="#000000")
    dataset = Dataset(description, root, split="val", classes=CLASSES)
    np.testing.assert_array_equal(dataset.read_label(0), [[0, 1, 255, 255]] * 2)
