"""The description of a data set: where its files lie, how its labels are stored, which classes they hold."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, field_validator, model_validator

from clan.core.errors import ConfigError
from clan.core.schema import Section, Size, load_section, refuse
from clan.datasets.colors import Rgb, parse_color, to_hex
from clan.datasets.patterns import Pattern, translated

Key = int | str
"""What a pixel of a label holds: an id, or a colour as "#rrggbb"."""

Encoding = Literal["ids", "red", "green", "blue", "colors"]

MAX_CLASSES = 254
"""Labels are 8-bit trainIds: 255 is ignored, 254 marks what no description names."""

PACKAGED = {name: Path(__file__).with_name(f"{name}.yaml") for name in ("synthia", "gta5", "cityscapes")}
"""The descriptions of the data sets that are known by name."""


def _keys(value: Any) -> Any:
    """One id or colour, or several, as a tuple of ids and "#rrggbb"."""
    if value is None:
        refuse("expected an id or a colour, got nothing: quote colours, since a bare # begins a comment")
    several = list(value) if isinstance(value, list | tuple) else [value]
    if len(several) == 3 and all(isinstance(one, int) and not isinstance(one, bool) for one in several):
        return tuple(several)  # three ids, or one colour: the encoding tells
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
"""What a split may say beside shell patterns for parts: a list file, each n-th image, all but those of other splits."""


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
    """The splits that a split leaves out."""
    return [name.strip() for name in without.split(",") if name.strip()]


class Description(Section):
    """A data set, apart from where its folder is."""

    name: str = Field(pattern=r"^[\w.+-]+$")
    """What messages and snapshots call it."""
    images: str
    """Pattern of the images' paths below the root, with named parts: `{split}/{name}.jpg`."""
    labels: str | None = None
    """Pattern of the labels' paths, with parts that `images` names; none: unlabelled."""
    splits: dict[str, Constraint] = Field(default={})
    """Splits beside those that `{split}` finds: a list file, or shell patterns for some of the parts, each n-th image
    (`every`), all but those of other splits (`without`)."""
    encoding: Encoding = "ids"
    """What labels are: ids (grey or palette indices), ids in one channel, or colours."""
    bits: Literal[8, 16] | None = None
    """Bits per channel that labels must have; none: any."""
    classes: dict[str, Keys] = Field(default={})
    """Name of each class: its id or colour, or a list of them."""
    ignore: Keys | Literal["rest"] = ()
    """Ids or colours that are no class, or `rest`: all that `classes` does not name."""
    mean: tuple[float, float, float] | None = None
    """Mean of red, green and blue, 0…255, that is subtracted; none: as the network's weights want."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Deviation of red, green and blue that is divided by; none: as the network's weights want."""

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
        """With colour labels, `[128, 64, 128]` is one colour, not three ids."""
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
        """Whether a split means anything here."""
        return bool(self.splits) or "split" in Pattern(self.images).parts

    def _check_patterns(self) -> None:
        images = Pattern(self.images)
        if not images.parts and not images.has_wildcards:
            refuse(f"{self.images!r} names one file: write a part such as {{name}} for what differs", "images")
        for part in images.parts:
            if part in CHOOSING:
                refuse(f"{{{part}}} cannot be a part, since {part} has its own meaning in splits", "images")
        if self.labels is not None:
            labels = Pattern(self.labels)
            if labels.has_wildcards:
                refuse("labels take no *, ? or [01]: write parts that images names, so that each has one", "labels")
            for part in labels.parts:
                if part not in images.parts and part not in labels.choices:
                    refuse(f"{{{part}}} is no part of images, so nothing tells its value", "labels")
            if not self.classes:
                refuse("labels need classes: say which id or colour means what", "labels")
        for split, constraint in self.splits.items():
            self._check_split(split, constraint, images.parts)

    def _check_split(self, split: str, constraint: dict[str, str], parts: tuple[str, ...]) -> None:
        for part, value in constraint.items():
            if part not in (*parts, *CHOOSING):
                refuse(f"{part} is neither a part of images nor {', '.join(CHOOSING)}", "splits", split)
            if part in parts:
                try:
                    re.compile(translated(value))
                except re.error as error:
                    refuse(f"{value!r} is no shell pattern: {error}", "splits", split)
        every = constraint.get("every", "2")
        if not (every.isascii() and every.isdigit() and int(every) > 1):
            refuse(f"every must be a whole number from 2, got {every!r}", "splits", split)
        others, seen = split_names(constraint.get("without", "")), set[str]()
        while others:
            other = others.pop()
            if other == split:
                refuse(f"without leads from {split} back to it: a split cannot leave out its own images", "splits")
            if other in seen:
                continue
            seen.add(other)
            if other not in self.splits and "split" not in parts:
                refuse(f"without names {other}, which is no split: there are {', '.join(self.splits)}", "splits", split)
            others += split_names(self.splits.get(other, {}).get("without", ""))

    def _check_keys(self) -> None:
        if len(self.classes) > MAX_CLASSES:
            refuse(f"{len(self.classes)} classes are more than {MAX_CLASSES}: merge some", "classes")
        owners: dict[Key, str] = {}
        for name, field, key in self._named_keys():
            if (self.encoding == "colors") != isinstance(key, str):
                expected = 'a colour such as "#804080"' if self.encoding == "colors" else "an id"
                refuse(f"expected {expected} with encoding {self.encoding}, got {key!r}", *field)
            if key in owners:
                refuse(f"{key} belongs to both {owners[key]} and {name}: a pixel can be one thing only", *field)
            owners[key] = name

    def _named_keys(self) -> Iterator[tuple[str, tuple[str, ...], Key]]:
        for name, keys in self.classes.items():
            for key in keys:
                yield name, ("classes", name), key
        for key in self.ignore if self.ignore != "rest" else ():
            yield "ignore", ("ignore",), key


class DescriptionFile(Description):
    """A description as a file, which may also say where the data is and at what size to train on it."""

    root: Path = Path()
    """Folder that patterns and lists start from, relative to the file's own."""
    size: Size | None = None
    """Width and height to train at; none: those of the first image."""
    colors: dict[str, Color] = Field(default={})
    """Name of each class: the colour to show it in; none: the labels' own, or customary ones."""

    @model_validator(mode="after")
    def _palette_fits(self) -> "DescriptionFile":
        if self.colors and (missing := [name for name in self.classes if name not in self.colors]):
            refuse(f"the palette has no colour for class {missing[0]}: give every class one, or none", "colors")
        if strange := [name for name in self.colors if name not in self.classes]:
            refuse(f"{strange[0]} is none of the classes: drop its colour", "colors", strange[0])
        return self

    @property
    def palette(self) -> dict[str, Rgb]:
        """The colours that are given, or else those that the labels have."""
        if self.encoding != "colors" or self.colors:
            return self.colors
        return {name: parse_color(keys[0]) for name, keys in self.classes.items() if keys}

    @property
    def description(self) -> Description:
        """The part that a run embeds."""
        return Description.model_validate(self.model_dump(exclude={"root", "size", "colors"}))


def load_description(path: Path) -> DescriptionFile:
    """Reads a description; its root becomes absolute.

    Raises:
        ConfigError: names the file, the line, the key and what was expected.
    """
    # Bytes that are not UTF-8 as their numbers, since a name also stands in those of snapshots.
    name = re.sub("[\udc80-\udcff]", lambda found: f"{ord(found[0]) - 0xDC00:02x}", path.stem)
    loaded = load_section(DescriptionFile, path, name=name)
    return loaded.model_copy(update={"root": (path.parent / loaded.root.expanduser()).resolve()})


@cache
def packaged(name: str) -> Description:
    """The description of one of the data sets in `PACKAGED`.

    Raises:
        ConfigError: there is no such one.
    """
    if name not in PACKAGED:
        raise ConfigError(f"{name!r} is neither a description file nor one of {', '.join(PACKAGED)}")
    return load_section(Description, PACKAGED[name], name=name)
