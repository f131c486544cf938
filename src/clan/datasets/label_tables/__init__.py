"""Tables of the ids and colours of public data sets, for suggesting class names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from clan.core.yaml_file import read_yaml
from clan.datasets.colors import parse_color

TABLES = (
    "cityscapes_train_ids", "cityscapes", "idd", "idd_level3", "idd_lite", "carla", "carla_0_9_13", "synthia",
    "camvid_11", "camvid_32", "voc", "mapillary_2_0", "mapillary_1_2", "ade20k", "a2d2", "loveda", "uavid", "isprs",
    "freiburg_forest",
)  # fmt: skip
"""The table files in this folder; of equally good matches, the first is suggested."""

COMMON = 0.01
"""Minimum share of the pixels of a table's common classes."""


@dataclass(frozen=True)
class LabelTable:
    """The class names of a public data set's ids and colours.

    Args:
        title: the name of the data set.
        hints: matches the paths of its labels.
        void: names that its benchmark does not evaluate.
        common: classes with many pixels in every label.
        ids: id → name.
        colors: colour 0xRRGGBB → name.
    """

    title: str
    hints: re.Pattern[str]
    void: frozenset[str] = frozenset()
    common: tuple[str, ...] = ()
    ids: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[int, str] = field(default_factory=dict)


def suggest(counts: Mapping[int, int], *, colors: bool, path: str) -> LabelTable | None:
    """The best matching table that contains every value; None if there is none.

    Ids are ambiguous, so that the table's hints must match the path too. Two or more colours besides black and white
    suffice.

    Args:
        counts: number of pixels of each id, or of each colour 0xRRGGBB.
        colors: whether the values are colours.
        path: folder, patterns and example paths of the labels.
    """
    fitting = []
    for number, title in enumerate(TABLES):
        table = _load(title)
        names = table.colors if colors else table.ids
        if not counts or not set(counts) <= set(names):
            continue
        hinted = bool(table.hints.search(path))
        telling = colors and len(set(counts) - {0, 0xFFFFFF}) > 1
        if hinted or telling:
            # Of two versions of a table, choose the one whose common classes occur.
            shares = [sum(pixels for value, pixels in counts.items() if names[value] == name) for name in table.common]
            share = min(shares, default=0) / sum(counts.values()) if hinted else 0
            if share >= COMMON or not table.common or not hinted:
                fitting.append((not hinted, -share, number, table))
    return min(fitting)[-1] if fitting else None


@cache
def _load(name: str) -> LabelTable:
    values: dict[str, Any] = read_yaml(Path(__file__).parent / f"{name}.yaml").values
    return LabelTable(
        title=values["title"],
        hints=re.compile(values["hints"]),
        void=frozenset(values.get("void", ())),
        common=tuple(values.get("common", ())),
        ids={number: label for label, number in values.get("ids", {}).items()},
        colors={
            _number(color): label
            for label, listed in values.get("colors", {}).items()
            for color in (listed if isinstance(listed, list) else [listed])
        },
    )


def _number(color: str) -> int:
    red, green, blue = parse_color(color)
    return red << 16 | green << 8 | blue
