"""Parsing colours, and default colours of classes."""

import colorsys
import re
from collections.abc import Iterable
from typing import Any

from clan.core.schema import refuse
from clan.datasets.labels import CITYSCAPES

Rgb = tuple[int, int, int]

CUSTOMARY: dict[str, Rgb] = dict(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True))
"""The Cityscapes colours by class name."""

SYNONYMS = {
    "pavement": "sidewalk", "tree": "vegetation", "pedestrian": "person", "bike": "bicycle", "bicyclist": "rider",
    "motorbike": "motorcycle", "vehicle": "car", "traffic light": "light", "traffic sign": "sign", "drivable": "road",
    "vehicles": "car", "cyclist": "rider", "living": "person",
}  # fmt: skip
"""Other class name → the Cityscapes class whose colour it gets."""


def parse_color(value: Any) -> Rgb:
    """Parses a colour, "#rrggbb" or [r, g, b], to a triple of 0…255.

    Raises:
        ValueError: the value is not a colour.
    """
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    triple: list[Any] = list(value) if isinstance(value, list | tuple) else []
    if len(triple) != 3 or not all(type(channel) is int and 0 <= channel <= 255 for channel in triple):
        refuse(f'expected a colour, "#rrggbb" in quotes or [r, g, b] of 0…255, got {value!r}')
    return triple[0], triple[1], triple[2]


def to_hex(color: Rgb) -> str:
    """A colour as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def choose_colors(names: Iterable[str]) -> dict[str, Rgb]:
    """A distinct colour for every class: the customary one of its name, else one different from those before."""
    chosen: dict[str, Rgb] = {}
    for number, name in enumerate(names):
        color = CUSTOMARY.get(SYNONYMS.get(name.lower(), name.lower()))
        if color is None or color in chosen.values():
            # Steps of the golden ratio keep hues far apart.
            color = _hsv(0.11 + 0.618034 * number, 0.75 - 0.25 * (number % 2), 0.95 - 0.2 * (number % 3))
        chosen[name] = color
    return chosen


def _hsv(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue
