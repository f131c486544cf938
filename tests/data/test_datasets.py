"""Splits, lists, names and encodings of described data sets."""

import cv2
import numpy as np
import pytest
from PIL import Image

from clan.core.errors import DataError
from clan.data.checks import check
from clan.data.dataset import Dataset, find_splits
from clan.datasets import Classes, Description

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
    with pytest.raises(DataError, match=r"has 16 bits a channel, .* of mine .* 8"):
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


def test_one_label_of_several_images_has_to_be_meant(tmp_path):
    for name in ("a", "b"):
        for beta in ("0.01", "0.02"):
            Image.new("RGB", (4, 2)).save(tmp_path / f"{name}_beta_{beta}.png")
        Image.fromarray(np.array([[0, 7, 9, 255]] * 2, np.uint8)).save(tmp_path / f"{name}_ids.png")
    shared = {"images": "{name}_beta_{beta}.png", "labels": "{name}_ids.png"}
    with pytest.raises(DataError, match=r"list its values in images: \{beta:0\.01\|0\.02\}"):
        Dataset(described(**shared), tmp_path, classes=CLASSES)
    shared["images"] = "{name}_beta_{beta:0.01|0.02}.png"
    splits = {"light": {"beta": "0.01"}}
    dataset = Dataset(described(**shared), tmp_path, classes=CLASSES)
    assert dataset.stems == ["a_beta_0.01", "a_beta_0.02", "b_beta_0.01", "b_beta_0.02"]
    assert [dataset.label_path(index).name for index in range(4)] == ["a_ids.png"] * 2 + ["b_ids.png"] * 2
    assert check(dataset).ok
    assert len(Dataset(described(**shared, splits=splits), tmp_path, split="light", classes=CLASSES)) == 2
    with pytest.raises(DataError, match="share the label"):
        Dataset(described(images="*_{name:beta}_*.png", labels="a_ids.png"), tmp_path, classes=CLASSES)


def test_suffixes_of_several_kinds(tmp_path):
    for image, label in (("a.jpg", "a.png"), ("b.JPG", "b.PNG"), ("c.png", "c.png")):
        for path in (tmp_path / "images" / image, tmp_path / "labels" / label):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((2, 4), 7, np.uint8)).save(path)
    description = described(images="images/{name}.{end:jpg|JPG|png}", labels="labels/{name}.{label_end:png|PNG}")
    dataset = Dataset(description, tmp_path, classes=CLASSES)
    assert [dataset.label_path(index).name for index in range(3)] == ["a.png", "b.PNG", "c.png"]
    assert check(dataset).ok
    for form in ("images/{0} labels/{1}", "labels/{1}", "{0},{1}"):
        lines = [form.format(dataset.names[index], dataset.label_path(index).name) for index in (1, 2, 0)]
        (tmp_path / "list.txt").write_text("\n".join(lines))
        listed = Dataset(description, tmp_path, list_file=tmp_path / "list.txt", classes=CLASSES)
        assert listed.names == ["b.JPG", "c.png", "a.jpg"]
    Image.fromarray(np.full((2, 4), 7, np.uint8)).save(tmp_path / "images/c.jpg")
    assert Dataset(description, tmp_path).stems == ["a.jpg", "b.JPG", "c.jpg", "c.png"], "no two results of one name"
    Image.fromarray(np.full((2, 4), 7, np.uint8)).save(tmp_path / "labels/c.PNG")
    with pytest.raises(DataError, match="two labels"):
        Dataset(description, tmp_path)


def test_each_nth_image_and_the_others(tmp_path):
    for number in range(10):
        Image.new("RGB", (4, 2)).save(tmp_path / f"{number}.png")
    splits = {
        "val": {"every": 4},
        "test": {"without": "val", "every": "3"},
        "train": {"without": ["val", "test"]},
        "high": {"name": "[5-9]", "every": 2},
    }
    description = described(images="{name}.png", labels=None, splits=splits)
    names = {split: "".join(Dataset(description, tmp_path, split=split).stems) for split in splits}
    assert names == {"val": "048", "test": "159", "train": "2367", "high": "579"}
    assert Description.model_validate(description.model_dump(mode="json")) == description


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"val": {"every": 1}}, "whole number from 2"),
        ({"val": {"every": "x"}}, "whole number from 2"),
        ({"val": {"without": "train"}, "train": {"without": "val"}}, "without .*val excludes its own"),
        ({"val": {"without": "tset"}}, "tset, which is no split"),
        ({"val": {"name": "[z-a]"}}, "no shell pattern"),
    ],
)
def test_splits_that_cannot_be(splits, said):
    with pytest.raises(ValueError, match=said):
        described(images="{name}.png", labels=None, splits=splits)
