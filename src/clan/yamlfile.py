"""Reading YAML that may come from a stranger, and naming the line of whatever is wrong in it.

Of YAML only what options need is taken: mappings, lists, text, numbers, booleans, null. Aliases are refused,
because nine lines of them make a billion entries, and so are keys that are given twice, of which PyYAML
silently takes the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clan.errors import ConfigError
from clan.untrusted import UnfitFile, quoted, read_whole

_LARGEST_FILE = 64 << 10  # a whole config has 2 kB; PyYAML needs 1 s for this much
_DEEPEST = 20  # a config has 4 levels
_LONGEST_NUMBER = 100  # characters

_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}
_DATE = "tag:yaml.org,2002:timestamp"


@dataclass(frozen=True)
class Document:
    """A YAML file that holds a mapping.

    Args:
        path: the file, for messages.
        values: its content; mappings with text or whole numbers as keys, lists and plain values, nested.
    """

    path: Path
    values: dict[Any, Any]
    _lines: dict[tuple[Any, ...], int] = field(repr=False)

    def line(self, keys: Sequence[Any] = ()) -> int:
        """The line, from 1, of the entry that keys and list indices lead to, such as ("loss", "gamma").

        For what the file does not hold, it is the line of the closest entry around it.
        """
        place = tuple(keys)
        while place not in self._lines:
            place = place[:-1]
        return self._lines[place]

    def where(self, keys: Sequence[Any] = ()) -> str:
        """How a message names an entry's place: "FILE, line 12", or "FILE" if it is about all of it."""
        return f"{self.path}, line {self.line(keys)}" if keys else str(self.path)


def read_yaml(path: Path) -> Document:
    """Reads a file of at most 64 kB.

    Raises:
        ConfigError: the file cannot be read, is not YAML in UTF-8, holds no mapping, or uses an alias, a tag,
            a key twice, or more than 20 levels; the message names the line.
    """
    try:
        return parse_yaml(read_whole(path, _LARGEST_FILE), path)
    except UnfitFile as error:
        raise ConfigError(f"{path} {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from None


def parse_yaml(content: bytes, path: Path) -> Document:
    """The document in the content of a file; `path` is only for messages (see `read_yaml`)."""
    try:
        loader = _Loader(content.decode("utf-8-sig"))
        node = loader.get_single_node()
        lines: dict[tuple[Any, ...], int] = {}
        values = None if node is None else _value(loader, node, (), lines)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text at byte {error.start}: save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}, line {mark.line + 1}" if mark else str(path)
        remedy = ": indent with spaces" if r"'\t'" in str(error.problem) else ""
        raise ConfigError(f"{place}: {str(error.problem)[:200]}{remedy}") from None
    except yaml.YAMLError as error:  # a character that no text has
        raise ConfigError(f"{path} is not YAML ({quoted(' '.join(str(error).split()))}): write plain text") from None
    if not isinstance(values, dict):
        kind = {type(None): "nothing", list: "a list"}.get(type(values), "a single value")
        raise ConfigError(f"{path} holds {kind}, not a mapping of options: write lines such as `name: value`")
    return Document(path, values, lines)


class _Loader(yaml.SafeLoader):
    """PyYAML's loader, bounded: its recursion, and the entries it makes of few characters."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise _problem(event, f"*{event.anchor} refers to another entry: write it out")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _problem(self.peek_event(), f"more than {_DEEPEST} levels: use fewer")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _problem(place: Any, message: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=place.start_mark)


def _value(loader: _Loader, node: yaml.Node, place: tuple[Any, ...], lines: dict[tuple[Any, ...], int]) -> Any:
    """What a node stands for; the line of everything in it is put into `lines`."""
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(loader, node)
    if node.tag not in (loader.DEFAULT_MAPPING_TAG, loader.DEFAULT_SEQUENCE_TAG):
        raise _problem(node, f"{quoted(node.tag)} is no kind of value here: leave the tag out")
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*place, index), lines) for index, item in enumerate(node.value)]
    values: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(loader, key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise _problem(key_node, "a key is neither text nor a whole number: write it in quotes")
        inner = (*place, key)
        if key in values:
            first = lines[inner]
            raise _problem(key_node, f"{quoted(str(key))} is given twice, first in line {first}: keep one of them")
        lines[inner] = key_node.start_mark.line + 1
        values[key] = _value(loader, value_node, inner, lines)
    return values


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> Any:
    if node.tag in (_DATE, "tag:yaml.org,2002:str"):
        return node.value
    if node.tag not in _PLAIN:
        raise _problem(
            node, f"{quoted(node.value or node.tag)} is no kind of value here: write it in quotes, without a tag"
        )
    if len(node.value) > _LONGEST_NUMBER:  # sums of 60ths, digits without end
        raise _problem(node, f"a number of {len(node.value)} characters: write it shorter")
    try:
        return loader.construct_object(node)
    except (ValueError, KeyError, IndexError):  # !!int of a word
        raise _problem(node, f"{quoted(node.value)} is not what its tag says: leave the tag out") from None
