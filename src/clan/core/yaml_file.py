"""Reading untrusted YAML, with line numbers for error messages, and writing YAML.

Only mappings, lists, text, numbers, booleans and null are accepted. Aliases are refused: nine lines of them can make a
billion entries.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import RoundTripConstructor, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import AliasEvent, ScalarEvent

from clan.core.errors import ConfigError
from clan.core.files import quoted, read_whole, reading

_LARGEST_FILE = 64 << 10  # a whole config has 2 kB; reading this much takes 2 s
_DEEPEST = 20  # a config has 4 levels
_LONGEST_NUMBER = 100  # characters


@dataclass(frozen=True)
class Document:
    """A YAML file whose top level is a mapping.

    Args:
        path: the file, for messages.
        values: nested mappings (keys are text or whole numbers), lists and plain values.
    """

    path: Path
    values: dict[Any, Any]

    def line(self, keys: Sequence[Any] = ()) -> int:
        """Returns the line, from 1, of an entry.

        Args:
            keys: path of keys and list indices, such as ("loss", "gamma"). If the file lacks the entry, the line of the
                closest enclosing entry is returned.
        """
        value: Any = self.values
        line = 0
        for key in keys:
            try:
                line = (value.lc.item if hasattr(value, "append") else value.lc.key)(key)[0]
                value = value[key]
            except (AttributeError, KeyError, IndexError, TypeError):  # a plain value, or no such entry
                break
        return line + 1

    def where(self, keys: Sequence[Any] = ()) -> str:
        """Formats an entry's place as "FILE, line 12", or as "FILE" without keys."""
        return f"{self.path}, line {self.line(keys)}" if keys else str(self.path)


def read_yaml(path: Path) -> Document:
    """Reads a YAML file of at most 64 kB.

    Raises:
        ConfigError: the file cannot be read, is not YAML in UTF-8, is not a mapping, or has an alias, a tag, a
            repeated key or more than 20 levels; the message names the line.
    """
    with reading(path, "check its name and permissions", ConfigError):
        return parse_yaml(read_whole(path, _LARGEST_FILE), path)


def parse_yaml(content: bytes, path: Path) -> Document:
    """Parses a file's content as `read_yaml` does; `path` is used in messages only."""
    reader = YAML()
    reader.Composer, reader.Constructor = _Composer, _Constructor
    try:
        values = reader.load(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text at byte {error.start}: save it as UTF-8") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}, line {mark.line + 1}" if mark else str(path)
        remedy = ": indent with spaces" if r"'\t'" in str(error.problem) else ""
        raise ConfigError(f"{place}: {str(error.problem)[:200]}{remedy}") from None
    except (YAMLError, YAMLStreamError) as error:  # a control character
        raise ConfigError(f"{path} is not YAML ({quoted(' '.join(str(error).split()))}): write plain text") from None
    if not isinstance(values, dict):
        kind = {type(None): "nothing"}.get(type(values), "a list" if isinstance(values, list) else "a single value")
        raise ConfigError(f"{path} holds {kind}, not a mapping of options: write lines such as `name: value`")
    return Document(path, values)


def to_yaml_text(values: Mapping[str, Any]) -> str:
    """Formats plain values as YAML, in their order."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    writer.allow_unicode = "\\x85" not in repr(values)  # ruamel.yaml 0.19 writes it as a space
    text = io.StringIO()
    writer.dump(values, text)
    return text.getvalue()


class _Composer(Composer):
    """ruamel.yaml's composer without aliases, tags, merges and deep nesting."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        plain = event.value if isinstance(event, ScalarEvent) and event.style is None else ""
        if isinstance(event, AliasEvent):
            raise _problem(event, f"*{quoted(str(event.anchor))} refers to another entry: write it out")
        if event.ctag is not None:
            raise _problem(event, f"{quoted(str(event.ctag))} is no kind of value here: leave the tag out")
        if self.depth >= _DEEPEST:
            raise _problem(event, f"more than {_DEEPEST} levels: use fewer")
        if plain == "<<":
            raise _problem(event, "<< is no kind of value here: write the entries out")
        if re.fullmatch(rf"[-+.:_\deE]{{{_LONGEST_NUMBER + 1},}}", plain):
            raise _problem(event, f"a number of {len(plain)} characters: write it shorter")
        return super().compose_node(parent, index)


class _Constructor(RoundTripConstructor):
    """ruamel.yaml's constructor with plain numbers, dates as text and no repeated keys."""

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise _problem(key_node, "a key is neither text nor a whole number: write it in quotes")
        if key in mapping:
            first = mapping.lc.key(key)[0] + 1
            raise _problem(key_node, f"{quoted(str(key))} is given twice, first in line {first}: keep one of them")
        return True


for _kind in ("int", "float", "bool", "str"):
    _Constructor.add_constructor(f"tag:yaml.org,2002:{_kind}", getattr(SafeConstructor, f"construct_yaml_{_kind}"))
_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _problem(place: Any, message: str) -> MarkedYAMLError:
    return MarkedYAMLError(problem=message, problem_mark=place.start_mark)
