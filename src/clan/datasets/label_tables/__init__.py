"""Ids and colours that public data sets use, for suggesting names of classes."""

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
"""Files beside this one; of tables that fit equally well, the first is suggested."""

COMMON = 0.01
"""Share of the pixels that the classes which a table calls common have at least."""


@dataclass(frozen=True)
class Table:
    """What the values of labels mean in a public data set.

    Args:
        title: what it is called.
        hints: what paths of such labels hold, a regular expression.
        void: names that its benchmark does not evaluate.
        common: names of classes that every label has many pixels of.
        ids: name of each id.
        colors: name of each colour 0xRRGGBB.
    """

    title: str
    hints: re.Pattern[str]
    void: frozenset[str] = frozenset()
    common: tuple[str, ...] = ()
    ids: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[int, str] = field(default_factory=dict)


def suggest(counts: Mapping[int, int], *, colors: bool, path: str) -> Table | None:
    """The table that knows every value, if there is one that fits well.

    Ids are small numbers that any table may hold: its hints have to be found in the path too. Colours speak for
    themselves, if there are two or more beside black and white.

    Args:
        counts: how many pixels have which id, or which colour as 0xRRGGBB.
        colors: whether they are colours.
        path: folder, patterns and examples of paths.
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
            # Of two versions of a table, the one whose common classes are.
            shares = [sum(pixels for value, pixels in counts.items() if names[value] == name) for name in table.common]
            share = min(shares, default=0) / sum(counts.values()) if hinted else 0
            if share >= COMMON or not table.common or not hinted:
                fitting.append((not hinted, -share, number, table))
    return min(fitting)[-1] if fitting else None


@cache
def _load(name: str) -> Table:
    values: dict[str, Any] = read_yaml(Path(__file__).parent / f"{name}.yaml").values
    return Table(
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
