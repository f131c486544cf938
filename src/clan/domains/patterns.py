"""Path patterns with named parts: `leftImg8bit/{split}/{city}/{name}_leftImg8bit.png`.

A part `{name}` stands for some characters of a file's or folder's name, `{name:path}` may span folders; `*` and `?`
are as in a shell. A part that occurs twice stands for the same characters. Like a shell's, wildcards skip names that
begin with a dot.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

TOKEN = re.compile(r"\{(?P<part>[a-z_][a-z0-9_]*)(?P<path>:path)?\}|(?P<wildcard>[*?])|(?P<literal>[^{}*?]+)")


class Pattern:
    """A path pattern below some folder.

    Args:
        text: the pattern, with `/` between folders.

    Raises:
        ValueError: says what is wrong with it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if not text or text.startswith(("/", "~")) or ".." in text.split("/"):
            raise ValueError(f"{text!r} is no path below the root: write FOLDER/{{name}}.png or the like")
        self.tokens = list(TOKEN.finditer(text))
        if "".join(token[0] for token in self.tokens) != text:
            raise ValueError(f"{text!r} is no pattern: parts are {{lower_case}} names in braces, {{name:path}} at most")

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in order, each once."""
        return tuple(dict.fromkeys(token["part"] for token in self.tokens if token["part"]))

    @property
    def has_wildcards(self) -> bool:
        """Whether `*` or `?` occur, which stand for characters that no other pattern can know."""
        return any(token["wildcard"] for token in self.tokens)

    def fill(self, parts: Mapping[str, str]) -> str:
        """The path with every part replaced by its value."""
        return "".join(parts[token["part"]] if token["part"] else token[0] for token in self.tokens)

    def folder(self, constraints: Mapping[str, str]) -> str:
        """The folders that every matching path lies in, as far as they are known: `a/b` of `a/b/{name}.png`."""
        known = ""
        for token in self.tokens:
            value = constraints.get(token["part"], "*") if token["part"] else token[0]
            if re.search(r"[*?\[]", value):
                break
            known += value
        return known.rpartition("/")[0]

    def find(self, root: Path, constraints: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
        """Files below `root` that match, sorted, each with the values of its parts.

        Args:
            root: a folder.
            constraints: shell patterns that the values of some parts have to match.
        """
        expression = self._expression(constraints)
        start = self.folder(constraints)
        depth = None if any(token["path"] for token in self.tokens) else self.text.count("/")
        paths = sorted(_files(root / start, start, depth))
        for path in paths:
            if match := expression.fullmatch(path):
                yield path, match.groupdict()

    def _expression(self, constraints: Mapping[str, str]) -> re.Pattern[str]:
        seen: set[str] = set()
        expression = ""
        for token in self.tokens:
            part, begins = token["part"], token.start() == 0 or self.text[token.start() - 1] == "/"
            visible = r"(?!\.)" if begins else ""
            if part is None:
                expression += visible + _translated(token[0]) if token["wildcard"] else re.escape(token[0])
            elif part in seen:
                expression += f"(?P={part})"
            else:
                seen.add(part)
                free = r"[^/]+(?:/[^/.][^/]*)*" if token["path"] else r"[^/]+"
                inner = _translated(constraints[part]) if part in constraints else free
                expression += f"{visible}(?P<{part}>{inner})"
        return re.compile(expression)


def _translated(glob: str) -> str:
    """A shell pattern as a regular expression; `*` stays within one name."""
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character)) for character in glob)


def _files(folder: Path, prefix: str, depth: int | None) -> Iterator[str]:
    """Paths below the root, with `/`, of all files below a folder, down to a number of slashes."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_dir():
            if (depth is None or path.count("/") < depth) and not entry.name.startswith("."):
                yield from _files(Path(entry.path), path, depth)
        else:
            yield path
