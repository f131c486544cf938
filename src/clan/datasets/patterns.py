"""Path patterns with named parts: `leftImg8bit/{split}/{city}/{name}_leftImg8bit.png`.

A part `{name}` matches characters of one file or folder name, `{name:path}` may span folders, and `{end:jpg|png}`
matches one of the listed values, which may contain wildcards: `{name:*[0-9]}`. `*`, `?` and `[01]` work as in a shell
and skip names that begin with a dot. A part that occurs twice matches the same characters. `{{`, `}}`, `[[]`, `[*]`
and `[?]` match the characters themselves.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

from clan.core.errors import DataError

GLOB = re.compile(r"(?P<wildcard>[*?]|\[!?\]?[^\]/]*\])|(?P<literal>[^*?\[])")
TOKEN = re.compile(
    r"\{(?P<part>[a-z_][a-z0-9_]*)(?::(?P<values>[^{}/]+))?\}"
    r"|(?P<wildcard>[*?]|\[!?\]?[^\]/]*\])|(?P<literal>\{\{|\}\}|[^{}*?\[])"
)


@dataclass(frozen=True)
class Token:
    """A token of a pattern: a part, a wildcard, or literal text.

    Args:
        part: the part's name.
        values: shell patterns of the part's values; empty: any value.
        spans: whether the part may span folders.
        wildcard: a wildcard outside parts.
        literal: literal text.
    """

    part: str = ""
    values: tuple[str, ...] = ()
    spans: bool = False
    wildcard: str = ""
    literal: str = ""


class Pattern:
    """A pattern of paths relative to a folder.

    Args:
        text: the pattern, with `/` between folders.

    Raises:
        ValueError: the pattern is invalid.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if not text or text.startswith(("/", "~")) or ".." in text.split("/"):
            raise ValueError(f"{text!r} is no path below the root: write a relative one, such as FOLDER/{{name}}.png")
        found = list(TOKEN.finditer(text))
        if "".join(match[0] for match in found) != text:
            raise ValueError(
                f"{text!r} is no pattern: parts are {{lower_case}} names in braces, {{name:path}} or {{name:a|b}}; "
                "write {{, }} and [[] for these characters"
            )
        self.tokens = _merged([_token(match) for match in found])
        try:
            self._expression({})
        except re.error as error:
            raise ValueError(f"{text!r} is no pattern: {error}") from None

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in order, without repetitions."""
        return tuple(dict.fromkeys(token.part for token in self.tokens if token.part))

    @cached_property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """Name of every part that lists literal values → its values."""
        listed: dict[str, tuple[str, ...]] = {}
        for token in self.tokens:
            values = [glob_literal(value) for value in token.values]
            if values and None not in values:
                listed.setdefault(token.part, tuple(value for value in values if value is not None))
        return listed

    @property
    def has_wildcards(self) -> bool:
        """Whether `*`, `?` or `[01]` occur outside parts."""
        return any(token.wildcard for token in self.tokens)

    def fill(self, parts: Mapping[str, str]) -> str:
        """The path with these values of parts; a part without a value gets the first one it lists."""
        values = {part: listed[0] for part, listed in self.choices.items()} | dict(parts)
        return "".join(values[token.part] if token.part else token.literal for token in self.tokens)

    def fills(self, parts: Mapping[str, str]) -> list[str]:
        """All paths with these values of parts; other parts take each value they list."""
        free = [part for part in self.parts if part not in parts]
        return [
            self.fill({**parts, **dict(zip(free, values, strict=True))})
            for values in product(*(self.choices[part] for part in free))
        ]

    def folder(self, constraints: Mapping[str, str]) -> str:
        """The common folder of all matching paths: `a/b` of `a/b/{name}.png`."""
        known = ""
        for token in self.tokens:
            value = glob_literal(constraints.get(token.part, "*")) if token.part else token.literal
            if not value:
                break
            known += value
        return known.rpartition("/")[0]

    def find(self, root: Path, constraints: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
        """Finds matching files.

        Args:
            root: the folder that paths are relative to.
            constraints: shell patterns for the values of some parts.

        Yields:
            Paths below `root`, sorted, each with the values of its parts.

        Raises:
            DataError: a folder cannot be read.
        """
        depth = None if any(token.spans for token in self.tokens) else self.text.count("/")
        yield from self.select(sorted(files_below(root, self.folder(constraints), depth)), constraints)

    def select(self, paths: list[str], constraints: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
        """The matching paths, in the given order, each with the values of its parts."""
        expression = self._expression(constraints)
        globs = {part: re.compile(glob_to_regex(glob)) for part, glob in constraints.items() if part in self.parts}
        for path in paths:
            if match := expression.fullmatch(path):
                parts = match.groupdict()
                if all(glob.fullmatch(parts[part]) for part, glob in globs.items()):
                    yield path, parts

    def _expression(self, constraints: Mapping[str, str]) -> re.Pattern[str]:
        seen: set[str] = set()
        expression, begins = "", True
        for token in self.tokens:
            visible = r"(?!\.)" if begins else ""
            begins = token.literal.endswith("/")
            if token.literal:
                expression += re.escape(token.literal)
            elif token.wildcard:
                expression += visible + glob_to_regex(token.wildcard)
            elif token.part in seen:
                expression += f"(?P={token.part})"
            else:
                seen.add(token.part)
                inner = r"[^/]+(?:/[^/.][^/]*)*" if token.spans else r"[^/]+"
                if token.values:
                    inner = "|".join(map(glob_to_regex, token.values))
                elif token.part in constraints:
                    inner = glob_to_regex(constraints[token.part])
                expression += f"{visible}(?P<{token.part}>{inner})"
        return re.compile(expression)


def _token(match: re.Match[str]) -> Token:
    if match["part"]:
        spans = match["values"] == "path"
        values = () if spans or not match["values"] else tuple(match["values"].split("|"))
        if "" in values or any("".join(m[0] for m in GLOB.finditer(value)) != value for value in values):
            raise ValueError(f"{match[0]} is no part of a pattern: list its values as in {{{match['part']}:jpg|png}}")
        return Token(part=match["part"], values=values, spans=spans)
    if match["wildcard"]:
        text = glob_literal(match["wildcard"])
        return Token(wildcard=match["wildcard"]) if text is None else Token(literal=text)
    return Token(literal=match["literal"][0])


def _merged(tokens: list[Token]) -> list[Token]:
    """The tokens with adjacent literals joined."""
    merged: list[Token] = []
    for token in tokens:
        if merged and merged[-1].literal and token.literal:
            merged[-1] = Token(literal=merged[-1].literal + token.literal)
        else:
            merged.append(token)
    return merged


def escape_glob(text: str) -> str:
    """The shell pattern that matches only this text."""
    return re.sub(r"([*?\[])", r"[\1]", text)


def escape(text: str) -> str:
    """The path pattern that matches only this text."""
    return escape_glob(text).replace("{", "{{").replace("}", "}}")


def glob_literal(glob: str) -> str | None:
    """The only text that a shell pattern matches; None if the pattern can match several."""
    text = ""
    for match in GLOB.finditer(glob):
        piece = match[0] if match["literal"] else match[0][1:-1]
        if len(piece) != 1:
            return None
        text += piece
    return text


def glob_to_regex(glob: str) -> str:
    """Translates a shell pattern to a regular expression; wildcards do not match `/`."""
    expression = ""
    for match in GLOB.finditer(glob):
        piece = match[0]
        if match["literal"]:
            expression += re.escape(piece)
        elif piece in ("*", "?"):
            expression += "[^/]*" if piece == "*" else "[^/]"
        else:
            excluded = len(piece) > 3 and piece[1] == "!"
            members = re.sub(r"([\\\[\]^&~|])", r"\\\1", piece[2:-1] if excluded else piece[1:-1])
            expression += f"[^/{members}]" if excluded else f"[{members}]"
    return expression


def files_below(root: Path, start: str = "", depth: int | None = None) -> Iterator[str]:
    """Lists the files below a folder, except in hidden subfolders, in any order.

    Links to folders are followed unless they lead to one of their own parents.

    Args:
        root: the folder that paths are relative to.
        start: the folder below `root` to search.
        depth: the maximum number of slashes in paths; None: unlimited.

    Yields:
        Paths below `root`, with `/`.

    Raises:
        DataError: a folder cannot be read.
    """
    above, folder = set(), root
    for name in start.split("/") if start else ():
        above.add(_identity(folder))
        folder = folder / name
    return _walk(folder, start, depth, frozenset(above))


def _walk(folder: Path, prefix: str, depth: int | None, above: frozenset[tuple[int, int] | None]) -> Iterator[str]:
    try:
        identity = _identity(folder)
        entries = list(os.scandir(folder)) if identity not in above else []
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DataError(
            f"cannot read the folder {folder} ({error.strerror}): grant permission, or move it out of the data set"
        ) from None
    for entry in entries:
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        if _is_folder(entry):
            if (depth is None or path.count("/") < depth) and not entry.name.startswith("."):
                yield from _walk(Path(entry.path), path, depth, above | {identity})
        else:
            yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder, the same for every path to it; None if it is missing."""
    try:
        status = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
