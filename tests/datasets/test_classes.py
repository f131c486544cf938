"""Named label spaces: SYNTHIA's protocols are Cityscapes' classes without some, in every table and every colour."""

import numpy as np
import pytest

from clan.core.errors import ConfigError
from clan.datasets import (
    CITYSCAPES_CLASSES,
    NAMED_CLASSES,
    Classes,
    load_classes,
    packaged,
    placeholders,
)
from clan.datasets.labels import CITYSCAPES, IGNORE
from clan.evaluation.iou import headline, score

MISSING = {"synthia-16": {"terrain", "truck", "train"}}
MISSING["synthia-13"] = MISSING["synthia-16"] | {"wall", "fence", "pole"}


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.parametrize("data", ["synthia", "gta5", "cityscapes"])
def test_a_protocol_keeps_its_classes_and_ignores_the_others(name, data):
    whole, part = CITYSCAPES_CLASSES.table(packaged(data)), NAMED_CLASSES[name].table(packaged(data))
    space = NAMED_CLASSES[name].label_space
    assert set(CITYSCAPES.names) - set(space.names) == MISSING[name]
    for label_id in range(256):
        train_id = whole[label_id]
        kept = train_id != IGNORE and CITYSCAPES.names[train_id] not in MISSING[name]
        assert part[label_id] == (space.names.index(CITYSCAPES.names[train_id]) if kept else IGNORE)
    colors = dict(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True))
    assert dict(zip(space.names, space.colors, strict=True)) == {each: colors[each] for each in space.names}


@pytest.mark.parametrize("name", MISSING)
def test_the_means_of_a_protocol_are_those_over_the_same_classes(name):
    space = NAMED_CLASSES[name].label_space
    confusion = np.random.default_rng(0).integers(0, 9, (19, 19))
    kept = [CITYSCAPES.names.index(each) for each in space.names]
    rest = np.delete(np.arange(19), kept)
    confusion[rest], confusion[:, rest] = 0, 0
    whole, part = score(confusion, CITYSCAPES), score(confusion[np.ix_(kept, kept)], space)
    assert list(part.means) == [f"mIoU-{len(kept)}"] + ["mIoU-13"] * (len(kept) == 16)
    assert part.means == pytest.approx({mean: whole.means[mean] for mean in part.means})
    assert headline("synthia", part.means) == headline("gta5", part.means) == f"mIoU-{len(kept)}"
    assert headline("synthia", whole.means) == "mIoU-13"


def test_another_number_of_classes_is_refused_with_what_fits_it():
    CITYSCAPES_CLASSES.require_count(19)
    NAMED_CLASSES["synthia-16"].require_count(16)
    for classes, count, said in (
        (CITYSCAPES_CLASSES, 16, "16 is not the number of classes: there are the 19 classes of cityscapes.*synthia-16"),
        (CITYSCAPES_CLASSES, 13, "--classes synthia-13"),
        (NAMED_CLASSES["synthia-16"], 19, "the 16 classes of synthia-16; .*--classes cityscapes"),
        (Classes(classes={"a": (), "b": ()}), 19, "the 2 classes; "),
        (CITYSCAPES_CLASSES, 7, "--classes FILE"),
    ):
        with pytest.raises(ConfigError, match=said):
            classes.require_count(count)


def test_classes_differ_by_their_order():
    turned = Classes(**{**CITYSCAPES_CLASSES.model_dump(), "classes": dict.fromkeys(reversed(CITYSCAPES.names), ())})
    assert turned != CITYSCAPES_CLASSES
    assert turned.title == "19 classes"
    assert Classes.model_validate(CITYSCAPES_CLASSES.model_dump(mode="json")) == CITYSCAPES_CLASSES


def test_names_that_are_neither_a_file_nor_known():
    assert load_classes("synthia-13") is NAMED_CLASSES["synthia-13"]
    with pytest.raises(ConfigError, match=r"'synthia16' is neither a file of classes .* synthia-16"):
        load_classes("synthia16")


def test_placeholders_are_numbered_and_nothing_else():
    assert placeholders(["class_0", "class_a", "class", "class_12", "my_class_1", "class_1b"]) == [
        "class_0",
        "class_12",
    ]
