"""A Markdown extension for the site: reference pages made from the code, and formulas as MathML.

A page of `docs/` holds a comment such as `<!-- made: configuration -->`, whose place the text of that name takes.
Nothing here imports Paddle.
"""

import argparse
import html
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from latex2mathml.converter import convert as to_mathml
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.postprocessors import Postprocessor
from markdown.preprocessors import Preprocessor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from clan.cli import main as cli  # noqa: E402
from clan.cli.arguments import METAVARS, Parameter, Value, documented, parameters_of, value_of  # noqa: E402
from clan.cli.commandline import size  # noqa: E402
from clan.cli.port import evaluate, iou, train  # noqa: E402
from clan.core.schema import Section  # noqa: E402
from clan.datasets import Classes, Description  # noqa: E402
from clan.run import presets as recipes  # noqa: E402
from clan.run.config import Config, flat_options  # noqa: E402
from clan.run.method_options import METHOD_OPTIONS  # noqa: E402

SCRIPTS: dict[str, Callable[[], None]] = {
    "CLAN_train.py": train.main,
    "CLAN_evaluate.py": evaluate.main,
    "CLAN_iou.py": iou.main,
    "CLAN_evaluate_bulk.py": evaluate.main_bulk,
    "CLAN_iou_bulk.py": iou.main_bulk,
}

Row = tuple[str, ...]


# --- what Markdown calls ---


class Made(Preprocessor):
    """Replaces markers in a page by generated text."""

    def run(self, lines: list[str]) -> list[str]:
        """Returns a page's lines with markers replaced."""
        marker = re.compile(r"^<!-- made: (\w+) -->$", re.MULTILINE)
        return marker.sub(lambda found: MADE[found[1]](), "\n".join(lines)).split("\n")


class Formulas(Postprocessor):
    """Converts TeX formulas of `pymdownx.arithmatex` to MathML, which needs no script, font or network."""

    TEX = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)

    def run(self, text: str) -> str:
        """Returns a page's HTML with formulas converted."""
        return self.TEX.sub(self._formula, text)

    @staticmethod
    def _formula(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        return f'<{match[1]} class="arithmatex">{to_mathml(html.unescape(match[3]), display=display)}</{match[1]}>'


class Joined(InlineProcessor):
    """Joins lines that break between Chinese characters, where a browser would show a space."""

    CHINESE = r"[\u3000-\u303f\u4e00-\u9fff\uff01-\uff5e]"

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        """Replaces the line's end by nothing."""
        return "", m.start(0), m.end(0)


class Documentation(Extension):
    """The Markdown extension with all processors."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Called by Markdown."""
        md.preprocessors.register(Made(md), "made", 200)
        md.inlinePatterns.register(Joined(rf"(?<={Joined.CHINESE})\n(?={Joined.CHINESE})", md), "joined", 200)
        md.postprocessors.register(Formulas(md), "formulas", -10)


def makeExtension(**_: Any) -> Documentation:
    """Called by Markdown for the name of this module."""
    return Documentation()


# --- the command line ---


class Caught(Exception):
    """Carries a command's parser out of the command."""


def parser_of(command: Callable[[], object]) -> argparse.ArgumentParser:
    """Returns the first parser that a command builds, caught before it parses."""

    def catch(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise Caught(parser)

    with patch.object(argparse.ArgumentParser, "parse_known_args", catch):
        try:
            command()
        except Caught as caught:
            return caught.args[0]
    raise AssertionError(f"{command} reads no arguments")


def commands() -> str:
    """Returns a section for every command except `clan train`, whose flags are the configuration's."""
    named = cli.COMMANDS | {f"data {name}": command for name, command in cli.DATA_COMMANDS.items()}
    return "\n\n".join(_command(name, named[name]) for name in sorted(named))


def _command(name: str, command: Callable[..., None]) -> str:
    summary, _ = documented(command)
    positional, rows = [], []
    for parameter in parameters_of(command):
        value, default = _value(parameter.annotation), _default(parameter.default)
        if parameter.positional:
            word = parameter.name.upper() + ("…" if value.endswith("…") else "")
            positional.append(f"[{word}]" if default else word)
            rows.append((f"`{word}`", default, parameter.text))
        else:
            rows.append((f"`{_flag(parameter, value)}`", default, parameter.text))
    usage = " ".join(["clan", name, *positional, "[options]"])
    return (
        f"### clan {name}\n\n{summary}\n\n```text\n{usage}\n```\n\n{_table(('argument', 'default', 'meaning'), rows)}"
    )


def _flag(parameter: Parameter, value: str) -> str:
    name = parameter.name.replace("_", "-")
    if parameter.annotation is bool:
        return f"--{name}" if parameter.default is False else f"--[no-]{name}"
    aliases = (value_of(parameter.annotation) or Value(str)).aliases
    return " ".join([*(f"{alias}," for alias in aliases), f"--{name}", value])


def _value(annotation: Any) -> str:
    """Returns the placeholder of a value in a usage line."""
    value = value_of(annotation)
    if value is None:
        return ""
    word = value.metavar if isinstance(value.metavar, str) else " ".join(value.metavar)
    return f"{word}…" if value.count is None else word


def scripts() -> str:
    """Returns a section for each of the five scripts."""
    return "\n\n".join(_script(name, parser_of(main)) for name, main in SCRIPTS.items())


def _script(name: str, parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        if action.dest == "help":
            continue
        value = "" if action.nargs == 0 else _word(action)
        default = _default(action.default) if action.default is not argparse.SUPPRESS else ""
        words = " ".join([", ".join(action.option_strings), value]).strip() if action.option_strings else action.dest
        rows.append((f"`{words}`", default, action.help or ""))
    about = " ".join(text for text in (parser.description, parser.epilog) if text)
    return f"### {name}\n\n{about}\n\n{_table(('flag', 'default', 'meaning'), rows)}"


def _word(action: argparse.Action) -> str:
    """Returns the placeholder of a flag's value."""
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return "WIDTH,HEIGHT" if action.type is size else METAVARS.get(action.type, "NAME")


# --- the configuration ---


def configuration() -> str:
    """Returns a table of every option: flag and key, default, meaning."""
    plain = [name for name, field in Config.model_fields.items() if name != "method" and not _section(field.annotation)]
    parts = [f"## The run\n\n{_options(Config, '', plain)}"]
    shown: set[type] = set()
    for name, field in Config.model_fields.items():
        section = _section(field.annotation)
        if name == "method":
            parts.append(_methods())
            continue
        if section is None or section in shown:
            continue
        shown.add(section)
        names = [other for other, one in Config.model_fields.items() if one.annotation is section]
        title = " and ".join(f"`{other}`" for other in names)
        about = inspect.getdoc(section) or ""
        parts.append(
            f"## {title} {{ #{name} }}\n\n{about}\n\n{_options(section, f'{names[0]}.', section.model_fields)}"
        )
    return "\n\n".join(parts)


def _methods() -> str:
    """Returns a section for every method with its options."""
    parts = [
        "## `method` { #method }\n\nThe adaptation method, `--method NAME` on the command line, and its own options. A "
        "name alone stands for the method with its defaults.\n\n"
        + _table(
            ("option", "value", "default", "meaning"),
            [("`method.name`", ", ".join(f"`{name}`" for name in METHOD_OPTIONS), "`clan`", "The adaptation method.")],
        )
    ]
    for name, options in METHOD_OPTIONS.items():
        about = inspect.getdoc(options) or ""
        table = _options(options, "method.", options.model_fields) if options.model_fields else "It has no options."
        parts.append(f"### {name} {{ #method-{name} }}\n\n{about}\n\n{table}")
    return "\n\n".join(parts)


def _section(annotation: Any) -> type[Section] | None:
    """Returns a group of options, or None for a group that a file describes."""
    if inspect.isclass(annotation) and issubclass(annotation, Section) and annotation not in (Description, Classes):
        return annotation
    return None


def _options(section: type[Section], prefix: str, names: Iterable[str]) -> str:
    schema = section.model_json_schema()
    rows = []
    for name in names:
        field = section.model_fields[name]
        values = _kind(schema["properties"][name])
        default = "required" if field.is_required() else _default(field.default) or "none"
        if name == "classes":
            values, default = "`cityscapes` or a file", "`cityscapes`"
        if name == "dataset":
            values = "`synthia`, `gta5`, `cityscapes` or a file"
        meaning = " ".join((field.description or "").split())
        rows.append((f"`{prefix}{name}`", values, default, meaning))
    return _table(("option", "value", "default", "meaning"), rows)


def _kind(schema: Mapping[str, Any]) -> str:
    """Returns the values that a JSON schema accepts, in words."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join("none" if one.get("type") == "null" else _kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        parts = schema.get("prefixItems")
        return " and ".join(map(_kind, parts)) if parts else f"{_kind(schema['items'])}, …"
    if schema.get("format") == "path":
        return "path"
    words = {"integer": "integer", "number": "number", "boolean": "true, false", "string": "name"}
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " ".join([words.get(schema.get("type", ""), "value"), ", ".join(limits)]).strip()


def presets() -> str:
    """Returns a table of every option in which presets differ, for both sources."""
    runs = {
        (preset, source): dict(flat_options(make(source).model_dump(mode="json")))
        for preset, make in recipes.PRESETS.items()
        for source in recipes.SOURCE_ROOTS
    }
    rows = []
    for option in dict.fromkeys(option for run in runs.values() for option in run):
        cells = [
            _cell([runs[preset, source].get(option) for source in recipes.SOURCE_ROOTS]) for preset in recipes.PRESETS
        ]
        if len(set(cells)) > 1:
            rows.append((f"`{option}`", *cells))
    return _table(("option", *(f"`{preset}`" for preset in recipes.PRESETS)), rows)


def _cell(values: list[Any]) -> str:
    """Returns the common value, or SYNTHIA's and GTA5's."""
    shown = [_shown(value) for value in values]
    return shown[0] if len(set(shown)) == 1 else " / ".join(shown)


# --- tables ---


def _default(value: Any) -> str:
    if value in (None, inspect.Parameter.empty) or type(value).__name__ == "PydanticUndefinedType":
        return ""
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    """Formats a value as on the command line."""
    if isinstance(value, tuple | list):
        return " ".join(map(_shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(head: Row, rows: Iterable[Row]) -> str:
    """Returns a Markdown table without empty columns."""
    filled = [column for column in zip(head, *rows, strict=True) if any(column[1:])]
    title, *body = zip(*filled, strict=True)
    lines = [title, ("---",) * len(title), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


MADE: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "scripts": scripts,
    "configuration": configuration,
    "presets": presets,
}
"""Generators by marker."""
