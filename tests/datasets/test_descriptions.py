"""Descriptions and classes as values: they survive files, and mapping then merging equals one table."""

from contextlib import nullcontext

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from clan.core.schema import build
from clan.data.domains import load_classes, named_domain
from clan.datasets import CITYSCAPES_CLASSES, PACKAGED, Classes, Description, packaged
from clan.datasets.classes import UNKNOWN, as_number
from clan.datasets.colors import choose_colors
from clan.datasets.labels import CITYSCAPES, CITYSCAPES_TO_TRAIN_ID, IGNORE, SYNTHIA_TO_TRAIN_ID, lookup_table
from clan.evaluation.iou import score
from clan.run.config import Config, DomainConfig, load, to_yaml

TABLES = {"synthia": SYNTHIA_TO_TRAIN_ID, "gta5": CITYSCAPES_TO_TRAIN_ID, "cityscapes": CITYSCAPES_TO_TRAIN_ID}
NAMES = st.sampled_from(["road", "sky", "car", "tree", "pole", "wall", "mud"])


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_descriptions_hold_the_published_tables(name):
    table = CITYSCAPES_CLASSES.table(packaged(name))
    np.testing.assert_array_equal(table[:256], lookup_table(TABLES[name]))
    assert set(table[256:]) == {IGNORE}
    assert CITYSCAPES_CLASSES.label_space == CITYSCAPES


@st.composite
def descriptions(draw):
    """Descriptions by ids or by colours, with one or more of them to a class."""
    by_color = draw(st.booleans())
    keys = st.integers(0, 0xFFFFFF if by_color else 0xFFFF)
    drawn = draw(st.lists(keys, min_size=8, max_size=12, unique=True))
    shown = [f"#{key:06x}" if by_color else key for key in drawn]
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    classes = {name: shown[number] for number, name in enumerate(names)}
    classes[names[0]] = [shown[0], *shown[4:7]]
    return Description.model_validate(
        {
            "name": "drawn",
            "images": "{split}/{name}.jpg",
            "labels": "{split}/{name}.png",
            "encoding": "colors" if by_color else "ids",
            "classes": classes,
            "ignore": draw(st.sampled_from(["rest", shown[7], [shown[7]]])),
        }
    )


@given(descriptions())
def test_a_description_survives_its_file(description):
    text = yaml.safe_dump(description.model_dump(mode="json"))
    assert Description.model_validate(yaml.safe_load(text)) == description


@given(st.lists(st.integers(0, 65535), max_size=4, unique=True), st.integers(), st.sampled_from(["classes", "ignore"]))
def test_ids_have_16_bits_however_many_a_list_has(ids, other, field):
    fits = 0 <= other <= 65535 and other not in ids
    values = {"name": "drawn", "images": "{name}.jpg", "classes": {"road": []}, "ignore": []}
    values |= {"classes": {"road": [*ids, other]}} if field == "classes" else {"ignore": [*ids, other]}
    with nullcontext() if fits else pytest.raises(ValidationError):
        Description.model_validate(values)


@settings(max_examples=20, deadline=None)
@given(descriptions())
def test_mapping_to_own_classes_and_merging_those_is_one_table(description):
    merged = Classes(classes={"ground": ("road", "mud"), "tree": (), "thing": ("car", "pole", "wall")})
    own = Classes(classes=dict.fromkeys(description.classes, ()))
    first = own.table(description)
    second = np.arange(256, dtype=np.uint8)
    second[: len(own.classes)] = [merged.owners.get(name, IGNORE) for name in own.classes]
    np.testing.assert_array_equal(second[first], merged.table(description))
    for name, keys in description.classes.items():
        assert {int(merged.table(description)[as_number(key)]) for key in keys} == {merged.owners.get(name, IGNORE)}
    unnamed = IGNORE if description.ignore == "rest" else UNKNOWN
    assert np.bincount(merged.table(description))[unnamed] > 60_000


@given(st.permutations(["road", "sky", "car", "tree"]), st.integers(0, 2**31))
def test_permuting_the_classes_permutes_their_scores(order, seed):
    names = ["road", "sky", "car", "tree"]
    subsets = {"mIoU-ground": ("road", "tree")}
    confusion = np.random.default_rng(seed).integers(0, 50, (4, 4))
    permutation = [names.index(name) for name in order]
    plain = score(confusion, Classes(classes=dict.fromkeys(names, ()), subsets=subsets).label_space)
    permuted = score(
        confusion[np.ix_(permutation, permutation)],
        Classes(classes=dict.fromkeys(order, ()), subsets=subsets).label_space,
    )
    np.testing.assert_array_equal(permuted.iou, plain.iou[permutation])
    assert permuted.means == pytest.approx(plain.means, nan_ok=True)
    assert list(plain.means) == ["mIoU-4", "mIoU-ground"]


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=5), unique=True, max_size=60))
def test_every_class_gets_a_color_of_its_own(names):
    colors = choose_colors([*names, "road", "pavement", "sidewalk"])
    assert len(set(colors.values())) == len(colors)
    assert colors["road"] == (128, 64, 128)
    assert colors["pavement"] == (244, 35, 232), "customary for the sidewalk, by whatever name"


OWN = """
images: "{split}/{name}.jpg"
labels: "{split}annot/{name}.png"
encoding: colors
splits:
  night: {split: val, name: "n_*"}
  some: lists/some.txt
classes:
  street: ["#804080", [1, 2, 3]]
  sky: [70, 130, 180]
ignore: "#000000"
mean: [90.5, 91, 92]
root: pictures
size: [64, 32]
"""


def test_a_run_needs_no_file_but_its_config(tmp_path, tiny):
    (tmp_path / "mine.yaml").write_text(OWN)
    (tmp_path / "classes.yaml").write_text("classes:\n  road: street\n  sky:\nsubsets:\n  mIoU-up: sky\n")
    named, classes = named_domain(str(tmp_path / "mine.yaml")), load_classes(tmp_path / "classes.yaml")
    assert named.root == tmp_path / "pictures"
    assert named.classes.label_space.colors == ((128, 64, 128), (70, 130, 180)), "the labels' own"
    values = tiny().model_dump()
    values["source"] = {"dataset": named.description, "root": named.root, "size": named.size}
    values["network"]["num_classes"] = 2
    config = build(Config, values | {"classes": classes})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    (tmp_path / "mine.yaml").unlink()
    (tmp_path / "classes.yaml").unlink()
    again = load(tmp_path / "config.yaml")
    assert again == config
    assert again.classes.table(again.source.dataset)[0x010203] == 0
    assert again.network.normalization(again.source.dataset).mean == (90.5, 91, 92)
    assert again.network.normalization(again.target.dataset).mean[2] == 104.00698793


def test_a_packaged_data_set_stays_a_word_in_the_config(tiny):
    values = yaml.safe_load(to_yaml(tiny()))
    assert (values["source"]["dataset"], values["classes"]) == ("synthia", "cityscapes")
    assert DomainConfig.model_validate(values["source"]) == tiny().source
