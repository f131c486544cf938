"""Proposals of `clan data init` for incomplete, lossy or ambiguous folders."""

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from clan.core.errors import DataError
from clan.core.output import encoded
from clan.data.dataset import Dataset
from clan.data.domains import named_domain
from clan.data.image_files import read_rgb
from clan.data.proposal import propose
from clan.datasets.label_tables import TABLES, _load, suggest

SIZE = (64, 48)
COLORS = np.array([[128, 64, 128], [0, 0, 142], [70, 130, 180]], np.uint8)


def areas():
    found = np.zeros(SIZE[::-1], np.uint8)
    found[:20], found[16:30, 10:40] = 2, 1
    return found


def put(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def photo(path, seed=0, size=SIZE):
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    put(Image.fromarray(noise), path)


def proposed(root):
    proposal = propose(root, relative_to=root.parent)
    return proposal, yaml.safe_load(proposal.text), "\n".join(proposal.seen)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_labels_stored_as_jpeg_are_named_and_not_proposed(mode, tmp_path):
    for number in range(3):
        photo(tmp_path / f"d/images/{number}.jpg", number)
        label = Image.fromarray(areas() * 9) if mode == "L" else Image.fromarray(COLORS[areas()])
        put(label, tmp_path / f"d/labels/{number}.jpg")
    _, found, said = proposed(tmp_path / "d")
    assert found["images"] == "images/{name}.jpg"
    assert "labels" not in found
    assert "labels/{name}.jpg (3 files): JPEG changes ids and colours" in said


def test_colours_with_smoothed_edges_become_classes_and_the_rest_is_counted(tmp_path):
    for number in range(3):
        photo(tmp_path / f"d/images/{number}.png", number, (256, 192))
        large = Image.fromarray(COLORS[areas()]).resize((1024, 768), Image.Resampling.NEAREST).rotate(number + 1)
        put(large.resize((256, 192), Image.Resampling.LANCZOS), tmp_path / f"d/labels/{number}.png")
    proposal, found, said = proposed(tmp_path / "d")
    assert found["labels"] == "labels/{name}.png"
    assert found["ignore"] == "rest"
    assert len(found["classes"]) < 12
    assert "rarer values" in said
    assert not proposal.unnamed or any(name.startswith("class_") for name in found["classes"])


def test_labels_of_another_size_are_not_proposed(tmp_path):
    for number in range(3):
        photo(tmp_path / f"d/images/{number}.png", number)
        put(Image.fromarray(areas()[::2, ::2]), tmp_path / f"d/small_labels/{number}.png")
    _, found, said = proposed(tmp_path / "d")
    assert "labels" not in found
    assert "small_labels/{name}.png (3 files): they are 32x24 where images are 64x48" in said
    for number in range(3):
        put(Image.fromarray(areas()), tmp_path / f"d/labels/{number}.png")
    assert proposed(tmp_path / "d")[1]["labels"] == "labels/{name}.png"


def test_numbers_of_objects_alone_are_no_labels(tmp_path):
    for number in range(3):
        photo(tmp_path / f"d/image_2/{number}.png", number)
        put(Image.fromarray(areas().astype(np.uint16) * 256), tmp_path / f"d/instance/{number}.png")
    _, found, said = proposed(tmp_path / "d")
    assert "labels" not in found
    assert "instance/{name}.png (3 files)" in said


def test_photographs_of_16_bits_a_channel_are_images_and_label_maps_said_to_be_none(tmp_path):
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 65535, (SIZE[1], SIZE[0], 3), np.uint16)
        for folder in ("deep/images", "maps/images"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"deep/images/{number}.png"), noise)
        for path in (f"deep/labels/{number}.png", f"maps/labels/{number}.png", f"maps/images/{number}.png"):
            put(Image.fromarray(areas()), tmp_path / path)
    for name in ("deep", "maps"):
        _, found, said = proposed(tmp_path / name)
        assert (found["images"], found["labels"]) == ("images/{name}.png", "labels/{name}.png")
        assert ("images hold ids as labels do: are they label maps?" in said) == (name == "maps")


def test_links_are_followed_and_what_cannot_be_used_is_counted(tmp_path):
    for number in range(3):
        photo(tmp_path / f"store/images/{number}.jpg", number)
        put(Image.fromarray(areas()), tmp_path / f"store/labels/{number}.png")
    root = tmp_path / "d"
    root.mkdir()
    (root / "images").symlink_to("../store/images")
    (root / "labels").symlink_to("../store/labels")
    (tmp_path / "store/images/back").symlink_to("..")
    (tmp_path / "store/images/9.jpg").symlink_to("nowhere.jpg")
    photo(root / "previews/all.png")
    _, found, said = proposed(root)
    assert (found["images"], found["labels"]) == ("images/{name}.jpg", "labels/{name}.png")
    assert "1 of 4 images have no label, such as images/9.jpg" in said
    assert "1 other image files, such as previews/all.png" in said
    with pytest.raises(DataError, match=r"9\.jpg is a link to nowhere\.jpg, which does not exist"):
        read_rgb(root / "images/9.jpg")


ODD = ["a\nb", "\x7f", "\x85", "\u2028", '"', "\\n", " #", "{a}", "[0]", "a|b", "%s", "null", "~", "\udcd6\udcd0", "街"]


@pytest.mark.parametrize("name", ODD)
def test_a_proposal_of_names_of_any_characters_finds_its_files(name, tmp_path):
    root = tmp_path / name
    for number in range(3):
        photo(root / f"images/{name}/{number}{name}.png", number)
        put(Image.fromarray(areas()), root / f"labels/{name}/{number}{name}.png")
    (tmp_path / "mine.yaml").write_bytes(encoded(propose(root, relative_to=tmp_path).text))
    named = named_domain(str(tmp_path / "mine.yaml"))
    assert named.root == root
    dataset = Dataset(named.description, named.root, classes=named.classes)
    assert len(dataset) == 3 and all(dataset.has_label(index) for index in range(3))


def test_images_without_labels(tmp_path):
    for split in ("trainA", "testA"):
        for number in range(2):
            photo(tmp_path / f"d/{split}/night{number}_cam.jpg", number)
    proposal, found, said = proposed(tmp_path / "d")
    assert found["images"] == "{split}/{name}_cam.jpg"
    assert "splits: testA, trainA" in said
    assert not proposal.unnamed


def test_drawn_pictures_with_few_colours_are_images_if_names_say_so(tmp_path):
    for number in range(3):
        put(Image.fromarray(COLORS[areas()] // 2), tmp_path / f"d/images/{number}.png")
        put(Image.fromarray(areas()), tmp_path / f"d/labels/{number}.png")
    _, found, _ = proposed(tmp_path / "d")
    assert (found["images"], found["labels"]) == ("images/{name}.png", "labels/{name}.png")


def test_label_maps_alone_are_no_images(tmp_path):
    for number in range(3):
        put(Image.fromarray(areas()), tmp_path / f"d/{number}.png")
    assert "no photographs" in proposed(tmp_path / "d")[2]


def test_a_list_with_unknown_images_is_reported(tmp_path):
    for number in range(3):
        photo(tmp_path / f"d/images/{number}.jpg", number)
    for name, text in {"train": "./0.jpg\n# two\n1\n", "val_list": "images/2.jpg x.png\n", "test": "2\n7\n"}.items():
        (tmp_path / f"d/{name}.txt").write_text(text)
    _, found, said = proposed(tmp_path / "d")
    assert found["splits"] == {"train": "train.txt", "val": "val_list.txt"}
    assert "not used: test.txt names 7, which is not among the images" in said


@pytest.mark.parametrize("name", TABLES)
def test_known_tables(name):
    table = _load(name)
    assert table.ids or table.colors
    for values in (table.ids, table.colors):
        assert set(table.void) <= {*table.ids.values(), *table.colors.values()}
        assert not values or set(table.common) <= set(values.values())
        if values:
            found = suggest(dict.fromkeys(values, 9), colors=values is table.colors, path="")
            assert (found is not None) == (values is table.colors), "ids need a hint"
    assert table.hints.search("") is None


def test_values_that_a_table_lacks_get_no_names():
    assert suggest({7: 5, 26: 5}, colors=False, path="x_labelIds.png").title == "Cityscapes labelIds"
    assert suggest({7: 5, 77: 5}, colors=False, path="x_labelIds.png") is None
    assert suggest({0x804080: 5, 0x00008E: 5, 0x010203: 1}, colors=True, path="x_labelIds.png") is None
    assert suggest({7: 50, 1: 20, 14: 1}, colors=False, path="carla/x.png").title == "CARLA up to 0.9.13"
    assert suggest({1: 50, 11: 20, 14: 9}, colors=False, path="carla/x.png").title == "CARLA from 0.9.14"
