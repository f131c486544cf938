"""The description of a data set: paths of its files, encoding of its labels, classes."""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, field_validator, model_validator

from clan.core.errors import ConfigError
from clan.core.schema import Section, Size, load_section, refuse
from clan.datasets.colors import Rgb, parse_color, to_hex
from clan.datasets.patterns import Pattern, glob_to_regex

Key = int | str
"""A label value: an id, or a colour as "#rrggbb"."""

Encoding = Literal["ids", "red", "green", "blue", "colors"]

MAX_CLASSES = 254
"""TrainIds have 8 bits: 255 is ignored, 254 marks values missing from the description."""

PACKAGED = {name: Path(__file__).with_name(f"{name}.yaml") for name in ("synthia", "gta5", "cityscapes")}
"""The descriptions of the data sets that are known by name."""


def _keys(value: Any) -> Any:
    """One or several ids or colours as a tuple of ids and "#rrggbb"."""
    if value is None:
        refuse("expected an id or a colour, got nothing: quote colours, since a bare # begins a comment")
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(_key(one) for one in several)


def _key(value: Any) -> Key:
    if isinstance(value, bool) or not isinstance(value, int | str | list | tuple):
        refuse(f"expected an id or a colour, got {value!r}")
    if isinstance(value, int):
        if not 0 <= value <= 65535:
            refuse(f"ids are 0…65535, got {value}")
        return value
    return to_hex(parse_color(value))


Keys = Annotated[tuple[Key, ...], BeforeValidator(_keys)]
Color = Annotated[Rgb, BeforeValidator(parse_color)]

CHOOSING = ("list", "every", "without")
"""Keys of a split besides parts: a list file, every n-th image, all images except those of other splits."""


def _constraint(value: Any) -> Any:
    if isinstance(value, str):
        return {"list": value}
    if not isinstance(value, dict):
        return value
    plain = {key: str(one) if type(one) is int else one for key, one in value.items()}
    if isinstance(without := plain.get("without"), list | tuple):
        plain["without"] = ", ".join(map(str, without))
    return plain


Constraint = Annotated[dict[str, str], BeforeValidator(_constraint)]


def split_names(without: str) -> list[str]:
    """The names of a comma-separated list of splits."""
    return [name.strip() for name in without.split(",") if name.strip()]


class Description(Section):
    """The description of a data set, without its folder."""

    name: str = Field(pattern=r"^[\w.+-]+$")
    """Name in messages and snapshots."""
    images: str
    """Pattern of the images' paths below the root, with named parts: `{split}/{name}.jpg`."""
    labels: str | None = None
    """Pattern of the labels' paths, with parts of `images`; none: unlabelled."""
    splits: dict[str, Constraint] = Field(default={})
    """Splits besides the values of `{split}`: a list file, or shell patterns for parts, every n-th image (`every`), all
    images except those of other splits (`without`)."""
    encoding: Encoding = "ids"
    """Encoding of labels: ids (grey or palette indices), ids in one channel, or colours."""
    bits: Literal[8, 16] | None = None
    """Bits per channel that labels must have; none: any."""
    classes: dict[str, Keys] = Field(default={})
    """Name of each class: its id or colour, or a list of them."""
    ignore: Keys | Literal["rest"] = ()
    """Ids or colours to ignore, or `rest`: all that are not listed under `classes`."""
    mean: tuple[float, float, float] | None = None
    """Mean of red, green and blue, 0…255, to subtract; none: the mean that the network's weights expect."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Standard deviation of red, green and blue to divide by; none: as the network's weights expect."""

    @field_validator("ignore", mode="before")
    @classmethod
    def _rest(cls, value: Any) -> Any:
        return value if value == "rest" or value == () else _keys(value)

    @field_validator("images", "labels")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                Pattern(value)
            except ValueError as error:
                refuse(str(error))
        return value

    @model_validator(mode="before")
    @classmethod
    def _triples_are_colors(cls, values: Any) -> Any:
        """Reads `[128, 64, 128]` as one colour, not as three ids, with encoding colors."""
        if not isinstance(values, dict) or values.get("encoding") != "colors":
            return values

        def merged(value: Any) -> Any:
            triple = isinstance(value, list | tuple) and len(value) == 3 and all(type(one) is int for one in value)
            return [value] if triple else value

        classes = values.get("classes")
        if isinstance(classes, dict):
            classes = {name: merged(value) for name, value in classes.items()}
        return values | {"classes": classes or {}} | {"ignore": merged(values.get("ignore", ()))}

    @model_validator(mode="after")
    def _consistent(self) -> "Description":
        self._check_patterns()
        self._check_keys()
        return self

    @property
    def has_splits(self) -> bool:
        """Whether the data set has splits."""
        return bool(self.splits) or "split" in Pattern(self.images).parts

    def _check_patterns(self) -> None:
        images = Pattern(self.images)
        if not images.parts and not images.has_wildcards:
            refuse(f"{self.images!r} names one file: write a part such as {{name}} for the varying text", "images")
        for part in images.parts:
            if part in CHOOSING:
                refuse(f"{{{part}}} cannot be a part, since {part} is a keyword in splits: rename it", "images")
        if self.labels is not None:
            labels = Pattern(self.labels)
            if labels.has_wildcards:
                refuse("labels take no *, ? or [01]: use parts of images, so that every image has one", "labels")
            for part in labels.parts:
                if part not in images.parts and part not in labels.choices:
                    refuse(f"{{{part}}} is no part of images: add it there, or list its values here", "labels")
            if not self.classes:
                refuse("labels need classes: list the ids or colours of each class", "labels")
        for split, constraint in self.splits.items():
            self._check_split(split, constraint, images.parts)

    def _check_split(self, split: str, constraint: dict[str, str], parts: tuple[str, ...]) -> None:
        for part, value in constraint.items():
            if part not in (*parts, *CHOOSING):
                refuse(f"{part} is neither a part of images nor one of {', '.join(CHOOSING)}", "splits", split)
            if part in parts:
                try:
                    re.compile(glob_to_regex(value))
                except re.error as error:
                    refuse(f"{value!r} is no shell pattern: {error}", "splits", split)
        every = constraint.get("every", "2")
        if not (every.isascii() and every.isdigit() and int(every) > 1):
            refuse(f"every must be a whole number from 2, got {every!r}", "splits", split)
        others, seen = split_names(constraint.get("without", "")), set[str]()
        while others:
            other = others.pop()
            if other == split:
                refuse(f"without is circular: {split} excludes its own images; remove it", "splits")
            if other in seen:
                continue
            seen.add(other)
            if other not in self.splits and "split" not in parts:
                refuse(f"without names {other}, which is no split: there are {', '.join(self.splits)}", "splits", split)
            others += split_names(self.splits.get(other, {}).get("without", ""))

    def _check_keys(self) -> None:
        if len(self.classes) > MAX_CLASSES:
            refuse(f"{len(self.classes)} classes exceed the limit of {MAX_CLASSES}: merge some", "classes")
        owners: dict[Key, str] = {}
        for name, field, key in self._named_keys():
            if (self.encoding == "colors") != isinstance(key, str):
                expected = 'a colour such as "#804080"' if self.encoding == "colors" else "an id"
                refuse(f"expected {expected} with encoding {self.encoding}, got {key!r}", *field)
            if key in owners:
                refuse(f"{key} belongs to both {owners[key]} and {name}: remove it from one of them", *field)
            owners[key] = name

    def _named_keys(self) -> Iterator[tuple[str, tuple[str, ...], Key]]:
        for name, keys in self.classes.items():
            for key in keys:
                yield name, ("classes", name), key
        for key in self.ignore if self.ignore != "rest" else ():
            yield "ignore", ("ignore",), key


class DescriptionFile(Description):
    """A description file: a description with the data set's folder, training size and display colours."""

    root: Path = Path()
    """The data set's folder, relative to this file's folder."""
    size: Size | None = None
    """Width and height to train at; none: those of the first image."""
    colors: dict[str, Color] = Field(default={})
    """Class name: its display colour; none: the labels' own colours, or customary ones."""

    @model_validator(mode="after")
    def _palette_fits(self) -> "DescriptionFile":
        if self.colors and (missing := [name for name in self.classes if name not in self.colors]):
            refuse(f"colors has no colour for class {missing[0]}: give every class one, or none", "colors")
        if unknown := [name for name in self.colors if name not in self.classes]:
            refuse(f"{unknown[0]} is none of the classes: remove its colour", "colors", unknown[0])
        return self

    @property
    def palette(self) -> dict[str, Rgb]:
        """The given colours, else those of the labels; empty if neither has colours."""
        if self.encoding != "colors" or self.colors:
            return self.colors
        return {name: parse_color(keys[0]) for name, keys in self.classes.items() if keys}

    @property
    def description(self) -> Description:
        """The description without root, size and colours, as stored in a run's configuration."""
        return Description.model_validate(self.model_dump(exclude={"root", "size", "colors"}))


def load_description(path: Path) -> DescriptionFile:
    """Reads a description file and makes its root absolute.

    Raises:
        ConfigError: the file is invalid; the message has file, line and key.
    """
    # Bytes that are not UTF-8 become hexadecimal numbers, since snapshots are named after the data set.
    name = re.sub("[\udc80-\udcff]", lambda found: f"{ord(found[0]) - 0xDC00:02x}", path.stem)
    loaded = load_section(DescriptionFile, path, name=name)
    home = os.path.expanduser(loaded.root)  # noqa: PTH111  # Path's raises an error at ~name of no user
    return loaded.model_copy(update={"root": (path.parent / home).resolve()})


@cache
def packaged(name: str) -> Description:
    """The description of a data set in `PACKAGED`.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in PACKAGED:
        raise ConfigError(f"{name!r} is neither a description file nor one of {', '.join(PACKAGED)}")
    return load_section(Description, PACKAGED[name], name=name)
