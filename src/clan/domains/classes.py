"""The classes that source and target share: named merges of what either calls its own."""

from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from clan.domains.colors import choose_colors
from clan.domains.description import MAX_CLASSES, Color, Description, DescriptionFile
from clan.labels import CITYSCAPES, IGNORE, LabelSpace
from clan.schema import Section, refuse

UNKNOWN = 254
"""Marks, in tables only, ids and colours that a description does not name."""


def _names(value: Any) -> Any:
    return () if value is None else (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Classes(Section):
    """The classes of a task, in the order of their trainIds.

    Each takes the pixels of the class of its own name, and of those listed with it.
    """

    classes: dict[str, Names] = Field(min_length=1, max_length=MAX_CLASSES)
    """Name of each class: further names that descriptions give what it holds."""
    colors: dict[str, Color] = Field(default={})
    """Name of each class: the colour to show it in; without it, customary ones."""
    subsets: dict[str, Names] = Field(default={})
    """Name of a further mean: the classes that it is taken over."""

    @model_validator(mode="after")
    def _consistent(self) -> "Classes":
        owners: dict[str, str] = {}
        for name, members in self.classes.items():
            for member in dict.fromkeys((name, *members)):
                if member in owners:
                    refuse(f"{member} is merged into both {owners[member]} and {name}: keep one", "classes", name)
                owners[member] = name
        for field, named in (("colors", {name: (name,) for name in self.colors}), ("subsets", self.subsets)):
            for key, names in named.items():
                for name in names:
                    if name not in self.classes:
                        refuse(f"{name} is none of the classes: {', '.join(self.classes)}", field, key)
        return self

    @cached_property
    def owners(self) -> dict[str, int]:
        """The trainId of every name that a class is known by."""
        return {
            member: train_id
            for train_id, (name, members) in enumerate(self.classes.items())
            for member in (name, *members)
        }

    @cached_property
    def label_space(self) -> LabelSpace:
        """Names, colours and the subsets that scores are averaged over."""
        colors = choose_colors(self.classes) | self.colors
        everything = {f"mIoU-{len(self.classes)}": tuple(range(len(self.classes)))}
        subsets = {key: tuple(self.owners[name] for name in names) for key, names in self.subsets.items()}
        return LabelSpace(
            names=tuple(self.classes),
            colors=tuple(colors[name] for name in self.classes),
            subsets=everything | subsets,
        )

    def unmerged(self, description: Description) -> list[str]:
        """Classes of a description that this task has no place for: their pixels are ignored."""
        return [name for name in description.classes if name not in self.owners]

    def absent(self, description: Description) -> list[str]:
        """Classes of this task that a description never yields."""
        found = {self.owners.get(name) for name in description.classes}
        return [name for train_id, name in enumerate(self.classes) if train_id not in found]

    def strange(self, *descriptions: Description) -> list[str]:
        """Names to be merged that no description has: mistyped, most likely."""
        known = {name for description in descriptions for name in description.classes}
        return [member for members in self.classes.values() for member in members if member not in known]

    def table(self, description: Description) -> np.ndarray:
        """The trainId of every id, or of every colour as 0xRRGGBB, of a description.

        Returns:
            uint8 [65536] or [2²⁴]; `IGNORE` for what is ignored, `UNKNOWN` for what is not named at all.
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
    """An id as it is, a colour "#rrggbb" as 0xRRGGBB."""
    return int(key[1:], 16) if isinstance(key, str) else key


def classes_of(file: DescriptionFile) -> Classes:
    """A data set's own classes, one by one: the task if nothing else is said. Without any, those of Cityscapes."""
    if not file.classes or (tuple(file.classes) == CITYSCAPES.names and not file.palette):
        return CITYSCAPES_CLASSES
    return Classes(classes=dict.fromkeys(file.classes, ()), colors=file.palette)


CITYSCAPES_CLASSES = Classes(
    classes=dict.fromkeys(CITYSCAPES.names, ()),
    colors=dict(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True)),
    subsets={
        name: tuple(CITYSCAPES.names[train_id] for train_id in subset) for name, subset in CITYSCAPES.subsets.items()
    },
)
"""The 19 classes of the Cityscapes benchmark, the task of the published figures."""
