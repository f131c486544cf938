"""Building a command's parser from a function's signature or from the fields of a configuration.

Parameters before `/` are positional; all other parameters and all fields are flags, with docstrings as help.
`Annotated[Path, "-o"]` adds another name of a flag; a parameter annotated with a dataclass becomes that class's fields,
so that commands share them. Values are converted here and validated by their consumer.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from clan.cli.commandline import Parser
from clan.core.errors import ConfigError

if TYPE_CHECKING:
    from clan.core.schema import Section

    AnySection = TypeVar("AnySection", bound=Section)

METAVARS: Mapping[Any, str] = {Path: "PATH", int: "N", float: "X", str: "NAME"}
KINDS: Mapping[Any, str] = {int: "a whole number", float: "a number"}

Readers = Mapping[type, Callable[[str], Any]]
"""Type → function that converts a word to it, such as by reading a file of that name."""


@dataclass(frozen=True)
class Value:
    """The values that a parameter or field takes.

    Args:
        kind: converts a word to a value.
        count: number of words; None: any.
        pairs: number of words per entry of a list.
        choices: allowed values; empty: all.
        optional: the word None means no value.
        aliases: further names of the flag.
    """

    kind: Callable[[str], Any]
    count: int | None = 1
    pairs: int = 1
    choices: tuple[Any, ...] = ()
    optional: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def metavar(self) -> str | tuple[str, ...]:
        """The placeholder in usage and help."""
        if self.choices:
            return "{" + ",".join(map(str, self.choices)) + "}"
        return ("WIDTH", "HEIGHT") if self.count == 2 else METAVARS.get(self.kind, "NAME|FILE")

    def convert(self, word: str) -> Any:
        """Converts a word.

        Raises:
            ArgumentTypeError: the word is not a valid value.
        """
        if self.optional and word == "None":
            return None
        try:
            value = self.kind(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{word!r} is not {KINDS[self.kind]}") from None
        if self.choices and value not in self.choices:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(map(str, self.choices))}")
        return value


def value_of(annotation: Any, readers: Readers = {}) -> Value | None:  # noqa: B006 (never changed)
    """Returns the values of a type annotation; None for a switch."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is bool:
        return None
    if annotation in readers:
        return Value(readers[annotation])
    if origin is Annotated:
        inner = value_of(arguments[0], readers)
        names = tuple(one for one in arguments[1:] if isinstance(one, str))
        choices = tuple(name for one in arguments[1:] for name in getattr(one, "registry", ()))
        return inner and replace(inner, aliases=names, choices=choices or inner.choices)
    if origin in (Union, UnionType):
        (inner,) = (one for one in arguments if one is not NoneType)
        return replace(value_of(inner, readers) or Value(bool), optional=True)
    if origin is Literal:
        return Value(type(arguments[0]), choices=arguments)
    if origin is tuple:
        inner = value_of(arguments[0], readers)
        assert inner is not None
        return replace(inner, count=None if arguments[-1] is Ellipsis else len(arguments), pairs=inner.count or 1)
    return Value(annotation)


class _Store(argparse.Action):
    """Stores a value or a tuple of values."""

    def __init__(self, *, value: Value, **options: Any) -> None:
        super().__init__(**options)
        self.value = value

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Called by argparse."""
        if (pairs := self.value.pairs) > 1:
            if len(values) % pairs:
                raise argparse.ArgumentError(self, f"takes {pairs} values each, got {len(values)} in all")
            values = [tuple(values[start : start + pairs]) for start in range(0, len(values), pairs)]
        setattr(namespace, self.dest, tuple(values) if isinstance(values, list) else values)


class _Switch(argparse.Action):
    """--x and --no-x; for optional values also `--x None`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Called by argparse."""
        setattr(namespace, self.dest, None if values else option_string == self.option_strings[0])


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command, or a field of a group of flags that is one of its parameters.

    Args:
        name: of the parameter or field.
        annotation: its type.
        default: `inspect.Parameter.empty` where there is none.
        positional: given without a flag.
        text: its line in the docstring.
        group: name and dataclass of the parameter that it is a field of.
    """

    name: str
    annotation: Any
    default: Any
    positional: bool
    text: str
    group: tuple[str, type[Any]] | None = None


def parameters_of(command: Callable[..., None]) -> Iterator[Parameter]:
    """Yields the parameters of a command; in place of one annotated with a dataclass, that class's fields."""
    _, texts = documented(command)
    for name, one in inspect.signature(command, eval_str=True).parameters.items():
        kind: type[Any] = one.annotation
        if is_dataclass(kind):
            _, told = documented(kind)
            types = get_type_hints(kind, include_extras=True)
            for part in dataclass_fields(kind):
                yield Parameter(part.name, types[part.name], part.default, False, told[part.name], (name, kind))
        else:
            yield Parameter(name, kind, one.default, one.kind is one.POSITIONAL_ONLY, texts[name])


def parse_call(command: Callable[..., None], prog: str, words: Sequence[str]) -> Callable[[], None]:
    """Parses a command line for a function, whose docstring is the help.

    Returns:
        The function with its arguments bound.

    Raises:
        SystemExit: 0 after help, 2 after an error message.
    """
    parameters = list(parameters_of(command))
    parser = _parser(prog, documented(command)[0])
    for one in parameters:
        _add(parser, one.name, value_of(one.annotation), one.text, one.default, positional=one.positional)
    given = vars(_parse(parser, words))
    placed = [given.pop(one.name) for one in parameters if one.positional]
    for name, kind in dict.fromkeys(one.group for one in parameters if one.group):
        of_group = [one.name for one in parameters if one.group == (name, kind)]
        given[name] = kind(**{field: given.pop(field) for field in of_group if field in given})
    return functools.partial(command, *(value for value in placed if value is not None), **given)


def parse_section(
    base: AnySection, words: Sequence[str], description: str, readers: Readers, first: Parser
) -> AnySection:
    """Overrides fields of a configuration by a command line, such as `--loss.gamma 1`.

    Args:
        base: the configuration.
        words: the command line without the words that `first` has parsed.
        description: description of the command for its help.
        readers: converters of fields of some types.
        first: parser of the flags that `base` depends on; shown in the help too.

    Returns:
        The changed configuration.

    Raises:
        SystemExit: as `parse_call`.
        ConfigError: a value is invalid; the message names the flag.
    """
    from clan.core.schema import change

    prog = first.prog
    parser = _parser(prog, description, usage=f"{prog} [options]", parents=[first], conflict_handler="resolve")
    known = set()
    groups: dict[str, Any] = {}
    for name, annotation, value, text in fields(base, readers):
        known.add(name)
        section = name.rpartition(".")[0]
        group = groups.setdefault(section, parser.add_argument_group(section or "the run"))
        _add(group, name, value_of(annotation, readers), text, value)
    try:
        given = vars(_parse(parser, words))
        given = {name: value for name, value in given.items() if name in known}
        return change(base, given, shown=lambda name: "--" + name.replace("_", "-"))
    except ConfigError as error:
        raise ConfigError(f"{error}; see {prog} --help") from None


def fields(section: Section, readers: Readers, prefix: str = "") -> Iterator[tuple[str, Any, Any, str]]:
    """Yields full name, such as "loss.gamma", type, value and help of every field."""
    for name, field in type(section).model_fields.items():
        value, annotation = getattr(section, name), field.annotation
        for choice in (one for one in field.metadata if hasattr(one, "registry")):
            annotation = Annotated[annotation, choice]
        if hasattr(annotation, "model_fields") and annotation not in readers:
            yield from fields(value, readers, f"{prefix}{name}.")
        else:
            yield prefix + name, annotation, value, field.description or ""


def _parser(prog: str, description: str, **options: Any) -> Parser:
    formatter = argparse.HelpFormatter  # _add says what the defaults are
    return Parser(prog=prog, description=description, exit_on_error=False, formatter_class=formatter, **options)


def _add(parser: Any, name: str, value: Value | None, text: str, default: Any, *, positional: bool = False) -> None:
    """Adds a parameter or field to a parser; arguments that are not given are absent from the result."""
    section, dot, field = name.replace("_", "-").rpartition(".")
    shown = "" if default in (None, (), inspect.Parameter.empty) else f" (default: {_shown(default)})"
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": (text + shown).replace("%", "%%")}
    if value is None or value.kind is bool:
        names = (f"--{section}{dot}{field}", f"--{section}{dot}no-{field}")
        options |= {"nargs": "?", "choices": ("None",)} if value else {"nargs": 0}
        parser.add_argument(*names, dest=name, action=_Switch, **options)
        return
    options |= {"action": _Store, "value": value, "type": value.convert, "metavar": value.metavar}
    if positional:
        optional = default is not inspect.Parameter.empty
        several = "*" if optional else "+"
        options |= {"default": None}  # argparse would take SUPPRESS for a word
        options |= {"metavar": name.upper(), "nargs": several if value.count is None else "?" if optional else None}
        parser.add_argument(name, **options)
    else:
        options |= {"nargs": "*" if value.count is None else value.count if value.count > 1 else None}
        needed = default is inspect.Parameter.empty
        parser.add_argument(*value.aliases, f"--{section}{dot}{field}", dest=name, required=needed, **options)


def _parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parses words; in flags _ equals -."""
    words = [re.sub(r"^--[^=]+", lambda flag: flag[0].replace("_", "-"), word) for word in words]
    try:
        return parser.parse_args(words)
    except argparse.ArgumentError as error:
        flag = (error.argument_name or "").split("/")[-1]
        sentence = f"{flag}: {error.message}".replace("2 arguments", "WIDTH HEIGHT").replace("one argument", "a value")
        if error.message.startswith("expected") and flag in words:
            start = words.index(flag) + 1
            following = next((at for at in range(start, len(words)) if words[at].startswith("--")), len(words))
            sentence += f", got {' '.join(words[start:following])}" if following > start else ""
        parser.error(sentence)


def documented(command: Callable[..., object] | type) -> tuple[str, Mapping[str, str]]:
    """Returns the docstring before "Args:", and the text of every argument."""
    about, _, rest = (inspect.getdoc(command) or "").partition("\n\nArgs:\n")
    texts = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", rest, re.MULTILINE)
    return about, {name: " ".join(text.split()) for name, text in texts}


def _shown(value: Any) -> str:
    """Formats a value as typed on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{len(value.classes)} classes" if hasattr(value, "owners") else getattr(value, "name", None) or str(value)
