"""The classes shared by source and target: named merges of the classes of both data sets."""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeGuard

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from clan.core.errors import ConfigError
from clan.core.schema import Section, load_section, refuse
from clan.datasets.colors import choose_colors
from clan.datasets.description import MAX_CLASSES, Color, Description, DescriptionFile
from clan.datasets.labels import CITYSCAPES, IGNORE, LabelSpace

UNKNOWN = 254
"""Marks ids and colours that a description does not name; used only in lookup tables."""


def _names(value: Any) -> Any:
    return () if value is None else (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Classes(Section):
    """The classes of a task, in the order of their trainIds.

    A class includes the pixels of the data set's class of the same name and of the classes listed with it.
    """

    classes: dict[str, Names] = Field(min_length=1, max_length=MAX_CLASSES)
    """Class name: names of further classes of descriptions to merge into it."""
    colors: dict[str, Color] = Field(default={})
    """Class name: its display colour; default: the customary colour."""
    subsets: dict[str, Names] = Field(default={})
    """Name of an additional mean IoU: the classes to average."""

    @model_validator(mode="after")
    def _consistent(self) -> "Classes":
        owners: dict[str, str] = {}
        for name, members in self.classes.items():
            for member in dict.fromkeys((name, *members)):
                if member in owners:
                    refuse(f"{member} is merged into both {owners[member]} and {name}: remove one", "classes", name)
                owners[member] = name
        for field, named in (("colors", {name: (name,) for name in self.colors}), ("subsets", self.subsets)):
            for key, names in named.items():
                for name in names:
                    if name not in self.classes:
                        refuse(f"{name} is none of the classes: {', '.join(self.classes)}", field, key)
        return self

    def __eq__(self, other: object) -> bool:
        # Dictionaries compare equal in any order, but the order defines the trainIds.
        return self.agrees(other) and (self.colors, self.subsets) == (other.colors, other.subsets)

    def agrees(self, other: object) -> TypeGuard["Classes"]:
        """Whether trainIds stand for the same classes, regardless of colours."""
        return isinstance(other, Classes) and [*self.classes.items()] == [*other.classes.items()]

    @property
    def title(self) -> str:
        """The number of classes, with their name if there is one: "16 classes of synthia-16"."""
        name = next((f" of {name}" for name, classes in NAMED_CLASSES.items() if classes == self), "")
        return f"{len(self.classes)} classes{name}"

    def require_count(self, count: int) -> None:
        """Refuses another number of classes, which would drop or shift classes.

        Raises:
            ConfigError: the number differs from that of the classes.
        """
        if count == len(self.classes):
            return
        fits = [name for name, classes in NAMED_CLASSES.items() if len(classes.classes) == count]
        named = f"--classes {fits[0]}" if fits else "--classes FILE"
        raise ConfigError(
            f"{count} is not the number of classes: there are the {self.title}; omit the number, or choose other "
            f"classes with {named}"
        )

    @cached_property
    def owners(self) -> dict[str, int]:
        """Name of every class and merged class → trainId."""
        return {
            member: train_id
            for train_id, (name, members) in enumerate(self.classes.items())
            for member in (name, *members)
        }

    @cached_property
    def label_space(self) -> LabelSpace:
        """The label space: names, colours and the subsets of the mean IoUs."""
        colors = choose_colors(self.classes) | self.colors
        everything = {f"mIoU-{len(self.classes)}": tuple(range(len(self.classes)))}
        subsets = {key: tuple(self.owners[name] for name in names) for key, names in self.subsets.items()}
        return LabelSpace(
            names=tuple(self.classes),
            colors=tuple(colors[name] for name in self.classes),
            subsets=everything | subsets,
        )

    def unmerged(self, description: Description) -> list[str]:
        """Classes of a description that no class of this task includes; their pixels are ignored."""
        return [name for name in description.classes if name not in self.owners]

    def absent(self, description: Description) -> list[str]:
        """Classes of this task that the description does not have."""
        found = {self.owners.get(name) for name in description.classes}
        return [name for train_id, name in enumerate(self.classes) if train_id not in found]

    def unknown_names(self, *descriptions: Description) -> list[str]:
        """Names of merged classes that none of the descriptions has."""
        known = {name for description in descriptions for name in description.classes}
        return [member for members in self.classes.values() for member in members if member not in known]

    def table(self, description: Description) -> np.ndarray:
        """The lookup table from a description's ids, or colours as 0xRRGGBB, to trainIds.

        Returns:
            uint8 [65536] or [2²⁴]; `IGNORE` for ignored codes, `UNKNOWN` for codes that the description lacks.
        """
        rest = IGNORE if description.ignore == "rest" else UNKNOWN
        table = np.full(1 << 24 if description.encoding == "colors" else 1 << 16, rest, np.uint8)
        for name, keys in description.classes.items():
            for key in keys:
                table[as_number(key)] = self.owners.get(name, IGNORE)
        for key in description.ignore if description.ignore != "rest" else ():
            table[as_number(key)] = IGNORE
        return table


def as_number(key: int | str) -> int:
    """An id unchanged, or a colour "#rrggbb" as 0xRRGGBB."""
    return int(key[1:], 16) if isinstance(key, str) else key


def classes_of(file: DescriptionFile) -> Classes:
    """The classes of a description, unmerged: the default task. Without classes, those of Cityscapes."""
    if not file.classes or (tuple(file.classes) == CITYSCAPES.names and not file.palette):
        return CITYSCAPES_CLASSES
    return Classes(classes=dict.fromkeys(file.classes, ()), colors=file.palette)


def _of_cityscapes(mean: str) -> Classes:
    """The Cityscapes classes of a mean IoU, with the mean IoUs over subsets of these classes."""
    chosen = CITYSCAPES.subsets[mean]
    return Classes(
        classes={CITYSCAPES.names[train_id]: () for train_id in chosen},
        colors={CITYSCAPES.names[train_id]: CITYSCAPES.colors[train_id] for train_id in chosen},
        subsets={
            name: tuple(CITYSCAPES.names[train_id] for train_id in subset)
            for name, subset in CITYSCAPES.subsets.items()
            if set(subset) < set(chosen) or mean == name == "mIoU-19"
        },
    )


CITYSCAPES_CLASSES = _of_cityscapes("mIoU-19")
"""The 19 classes of the Cityscapes benchmark."""

NAMED_CLASSES: Mapping[str, Classes] = {
    "cityscapes": CITYSCAPES_CLASSES,
    "synthia-16": _of_cityscapes("mIoU-16"),
    "synthia-13": _of_cityscapes("mIoU-13"),
}
"""Built-in classes: Cityscapes, and the 16- and 13-class protocols of SYNTHIA."""


def load_classes(name: Path | str) -> Classes:
    """Loads the classes of a task by name or from a file.

    Raises:
        ConfigError: the name is unknown, or the file is invalid; the message has file, line and key.
    """
    if str(name) in NAMED_CLASSES:
        return NAMED_CLASSES[str(name)]
    if not Path(name).suffix and not Path(name).exists():
        raise ConfigError(f"{str(name)!r} is neither a file of classes (.yaml) nor one of {', '.join(NAMED_CLASSES)}")
    return load_section(Classes, Path(name))


def placeholders(names: Iterable[str]) -> list[str]:
    """The names that are placeholders of `clan data init`, such as `class_7`."""
    return [name for name in names if re.fullmatch(r"class_\d+", name)]
