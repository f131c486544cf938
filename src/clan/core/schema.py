"""Base of all configuration sections: pydantic validation with errors as one sentence that names file and line."""

import difflib
import re
import reprlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from clan.core.errors import ConfigError
from clan.core.files import quoted

LONGEST_SIDE = 16384
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
Size = tuple[Side, Side]
"""Width and height in pixels."""

NonNegativeInt = Annotated[int, Field(ge=0, le=10**9)]
PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
"""Counts from 0 or from 1; larger ones than 10⁹ are typing errors."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def require_size(size: tuple[int, int] | None, flag: str) -> None:
    """Raises ConfigError unless a width and a height, if they are given, are those of a `Size`."""
    if size and not all(1 <= side <= LONGEST_SIDE for side in size):
        raise ConfigError(f"{flag} {size[0]} {size[1]} is no size of an image: give 1 to {LONGEST_SIDE} pixels a side")


class Section(BaseModel):
    """A group of options: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def changed(self: "AnySection", **given: Any) -> "AnySection":
        """Returns a copy with other values, validated as a whole; `model_copy` of pydantic would validate nothing.

        Args:
            given: values by name; options of a section within have names such as "loss.gamma", so
                `config.changed(num_steps=2000, **{"loss.gamma": 0})`.

        Raises:
            ConfigError: names the option that is unknown or whose value does not fit.
        """
        return change(self, given)


AnySection = TypeVar("AnySection", bound=Section)


def refuse(message: str, *keys: str | int) -> NoReturn:
    """Fails a validation.

    Args:
        message: the sentence.
        keys: path from the validated section to the wrong entry.

    Raises:
        PydanticCustomError: always.
    """
    raise PydanticCustomError("clan", "{message}", {"message": message, "keys": keys})


class OneOf:
    """Metadata of a text: it must name an entry of a registry, as that is when the value is given.

    Args:
        registry: the entries by name.
    """

    def __init__(self, registry: Mapping[str, Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name not in self.registry:
            refuse(f"expected {', '.join(self.registry)}, got {name!r}")
        return name


def find(place: str) -> Any:
    """Imports and returns the object of a registry entry `package.module:name`."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def build(section: type[AnySection], values: Any, origin: str = "the options") -> AnySection:
    """Validates `values` as a `section`.

    Raises:
        ConfigError: names `origin`, the first invalid field, its value and what is expected.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {describe(error, section)}") from None


def change(
    base: AnySection, given: Mapping[str, Any], *, shown: Callable[[str], str] = str, prefix: str = ""
) -> AnySection:
    """Replaces options of a section.

    Args:
        base: the section.
        given: values by full name, such as "loss.gamma".
        shown: how a message writes the name of an option that was given.
        prefix: of all names in messages.

    Raises:
        ConfigError: see `Section.changed`.
    """
    values = dict(base)
    values |= {name: value for name, value in given.items() if "." not in name}
    for section in sorted({name.partition(".")[0] for name in given if "." in name}):
        inner = {name.removeprefix(f"{section}."): one for name, one in given.items() if name.startswith(f"{section}.")}
        if not isinstance(part := values.get(section), Section):
            raise ConfigError(f"{shown(f'{prefix}{section}.{min(inner)}')} is not an option: {section} has none within")
        values[section] = change(part, inner, shown=shown, prefix=f"{prefix}{section}.")
    try:
        return type(base).model_validate(values)
    except ValidationError as error:
        field, colon, rest = describe(error, type(base)).partition(": ")
        option = re.sub(r"(\.\d+)+$", "", field)  # drops the index into several values
        raise ConfigError(f"{shown(prefix + option) if option in given else field}{colon}{rest}") from None


def validate_within(section: type[AnySection], values: Any) -> AnySection:
    """Validates `values` as a `section` from within a validator of the enclosing section.

    Raises:
        PydanticCustomError: names the first invalid key, relative to `values`.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = _first(error)
        refuse(_finding(first, section), *_keys(first))


def load_section(section: type[AnySection], path: Path, **defaults: Any) -> AnySection:
    """Reads a section from a YAML file.

    Args:
        section: class to validate as.
        path: the file.
        defaults: values of keys that are not in the file.

    Raises:
        ConfigError: names the file, the line, the key and what is expected.
    """
    from clan.core.yaml_file import read_yaml  # slow import; --help needs none

    document = read_yaml(path)
    try:
        return section.model_validate(defaults | document.values)
    except ValidationError as error:
        raise ConfigError(f"{document.where(_keys(_first(error)))}: {describe(error, section)}") from None


def describe(error: ValidationError, section: type[Section] | None = None) -> str:
    """Formats a validation's first finding as `field: what is expected, got value`."""
    first = _first(error)
    field = quoted(".".join(map(str, _keys(first))))
    finding = _finding(first, section)
    if first["type"] in ("extra_forbidden", "missing"):
        return f"{field} is {finding}"
    return f"{field}: {finding}" if field else finding


def _finding(first: ErrorDetails, section: type[Section] | None) -> str:
    """Formats a finding without the field's name."""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("value_error", "clan"):
        return message
    if first["type"] == "extra_forbidden":
        known = list(section.model_fields) if section is not None and len(first["loc"]) == 1 else []
        if close := difflib.get_close_matches(str(first["loc"][-1]), known, n=1):
            return f"not an option here: did you mean {close[0]}?"
        return "not an option here" + (f": choose among {', '.join(known)}" if known else "")
    if first["type"] == "missing":
        return "missing"
    return f"{message[:1].lower()}{message[1:]}, got {reprlib.repr(first['input'])}"


def _first(error: ValidationError) -> ErrorDetails:
    """The first finding; missing keys come last, since a mistyped key may be the cause."""
    return min(error.errors(include_url=False), key=lambda finding: finding["type"] == "missing")


def _keys(finding: ErrorDetails) -> tuple[str | int, ...]:
    return (*finding["loc"], *finding.get("ctx", {}).get("keys", ()))
