"""What every configured value shares: validation, and what is wrong as one sentence with its line."""

import difflib
import reprlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from clan.core.errors import ConfigError
from clan.core.untrusted import quoted

Side = Annotated[int, Field(ge=1, le=16384)]
Size = tuple[Side, Side]
"""Width and height in pixels."""

NonNegativeInt = Annotated[int, Field(ge=0, le=10**9)]
PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
"""How many of something there are, from 0 or from 1; what no run has so many of is a slip of the hand."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A group of options: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


AnySection = TypeVar("AnySection", bound=Section)


def refuse(message: str, *keys: str | int) -> NoReturn:
    """Ends a validation with a sentence about the entry that `keys` lead to from the validated section."""
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
    """What a registry's entry `package.module:name` stands for, imported when it is needed."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def build(section: type[AnySection], values: Any, origin: str = "the options") -> AnySection:
    """Validates `values` into a `section`, turning what pydantic finds into one sentence.

    Raises:
        ConfigError: names the first field that does not fit, its value and what was expected.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {describe(error, section)}") from None


def validate_within(section: type[AnySection], values: Any) -> AnySection:
    """Validates `values` into a `section` while another section, which the caller is a validator of, is validated.

    Raises:
        PydanticCustomError: names the first key that does not fit, from `values` on.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = _first(error)
        refuse(_finding(first, section), *_keys(first))


def load_section(section: type[AnySection], path: Path, **defaults: Any) -> AnySection:
    """Reads a section from a YAML file of its own.

    Args:
        section: what the file describes.
        path: the file.
        defaults: values of keys that the file does not give.

    Raises:
        ConfigError: names the file, the line, the key and what was expected.
    """
    from clan.core.yaml_file import read_yaml  # here: --help reads no file

    document = read_yaml(path)
    try:
        return section.model_validate(defaults | document.values)
    except ValidationError as error:
        raise ConfigError(f"{document.where(_keys(_first(error)))}: {describe(error, section)}") from None


def describe(error: ValidationError, section: type[Section] | None = None) -> str:
    """The first finding of a validation as `field: what was expected, got value`."""
    first = _first(error)
    field = quoted(".".join(map(str, _keys(first))))
    finding = _finding(first, section)
    if first["type"] in ("extra_forbidden", "missing"):
        return f"{field} is {finding}"
    return f"{field}: {finding}" if field else finding


def _finding(first: ErrorDetails, section: type[Section] | None) -> str:
    """What is wrong with a field, without its name."""
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
    """The first finding; what is missing comes last, since a mistyped key explains it."""
    return min(error.errors(include_url=False), key=lambda finding: finding["type"] == "missing")


def _keys(finding: ErrorDetails) -> tuple[str | int, ...]:
    return (*finding["loc"], *finding.get("ctx", {}).get("keys", ()))
