"""Reading YAML that people write: values, and the line each of them stands on."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clan.errors import ConfigError

MAX_BYTES = 4 << 20
"""No description that a person writes comes near this."""

Keys = tuple[Hashable, ...]


@dataclass(frozen=True)
class Document:
    """What a YAML file holds.

    Args:
        path: the file.
        values: its content as plain Python values.
        lines: line of every entry, from 1, by its keys and indices from the top.
    """

    path: Path
    values: Any
    lines: Mapping[Keys, int]

    def line(self, keys: Keys) -> int | None:
        """The line of an entry, or of the nearest one around it; None if the file has no such part."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.lines:
                return self.lines[keys[:length]]
        return None


def read_yaml(path: Path) -> Document:
    """Reads a YAML file; a key that is given twice is an error instead of a silent loss.

    Raises:
        ConfigError: the file is missing, too large, not YAML, or names a key twice.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MB: is it a description at all?")
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_lines(node, (), path, set()))
        values = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return Document(path, values, lines)


def _lines(node: yaml.Node | None, keys: Keys, path: Path, visited: set[int]) -> Iterator[tuple[Keys, int]]:
    if id(node) in visited:  # an alias: following each would take exponential time in a hostile file
        return
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line, word = key_node.start_mark.line + 1, str(key_node.value)
            if word in seen:
                raise ConfigError(f"{path}, line {line}: {word} is given twice, first in line {seen[word]}: keep one")
            seen[word] = line
            key = yaml.safe_load(word) if isinstance(key_node, yaml.ScalarNode) and key_node.style is None else word
            inner = (*keys, key if isinstance(key, Hashable) else word)
            yield inner, line
            yield from _lines(value_node, inner, path, visited)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*keys, index), item.start_mark.line + 1
            yield from _lines(item, (*keys, index), path, visited)
