"""Finding which files of a folder are images, which are their labels, and the patterns that say so."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clan.data.files import IMAGE_SUFFIXES, is_hidden

SPLIT = "training|trainval|train|validation|valid|val|testing|test"
WHOLE_SPLIT = re.compile(rf"({SPLIT})", re.IGNORECASE)
WITHIN_SPLIT = re.compile(
    rf"(?P<before>(?:[a-z0-9]+[_-])?)(?P<split>{SPLIT})(?P<after>(?:[_-]?[a-z]+)?)", re.IGNORECASE
)

TAIL = re.compile(r"(?:[_.-][A-Za-z][A-Za-z0-9]*)+$")
HEAD = re.compile(r"^(?:[A-Za-z]+[_.-])")


@dataclass(frozen=True)
class File:
    """An image file, its name taken apart: `before + core + after + suffix`.

    Args:
        path: below the folder, with `/`.
        folders: the folders it lies in.
        before: what other names begin with too.
        core: what names one image.
        after: what other names end in too, such as `_leftImg8bit`.
        suffix: such as `.png`.
    """

    path: str
    folders: tuple[str, ...]
    before: str
    core: str
    after: str
    suffix: str


Template = tuple[tuple[str, ...], str, str, str]
"""Folders, with `{split}` and `{=}` for what images and labels have in common; before, after, suffix."""


@dataclass
class Pairing:
    """Two kinds of files that belong together one by one.

    Args:
        first, second: the two patterns.
        pairs: paths of the files, side by side.
    """

    first: str
    second: str
    pairs: list[tuple[str, str]]


def list_files(folder: Path) -> list[str]:
    """Paths below a folder of all files that may be images, sorted; hidden ones are left out."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(name):
                found.append((Path(where) / name).relative_to(folder).as_posix())
    return sorted(found)


def find_pairings(paths: list[str]) -> list[Pairing]:
    """Kinds of files that pair up, those with the most pairs first."""
    for strip_heads in (False, True):
        votes: dict[tuple[Template, Template], list[tuple[File, File]]] = defaultdict(list)
        for first, second in _partners(_take_apart(paths, strip_heads)):
            votes[_templates(first, second)].append((first, second))
        if votes:
            ranked = sorted(votes.items(), key=lambda item: -len(item[1]))
            return [_pairing(templates, pairs) for templates, pairs in ranked]
    return []


def lone_pattern(paths: list[str]) -> str:
    """The pattern of images without labels: most common depth, folders that vary as parts."""
    depth = Counter(path.count("/") for path in paths).most_common(1)[0][0]
    files = [file for file in _take_apart(paths, strip_heads=False) if len(file.folders) == depth]
    columns = list(zip(*(file.folders for file in files), strict=True))
    folders = []
    for values in columns:
        if all(WHOLE_SPLIT.fullmatch(value) for value in values):
            folders.append("{split}")
        else:
            folders.append(values[0] if len(set(values)) == 1 else "{=}")
    kinds = {(file.before, file.after) for file in files}
    before, after = kinds.pop() if len(kinds) == 1 else ("", "")
    suffixes = {file.suffix for file in files}
    return _pattern((tuple(folders), before, after, suffixes.pop() if len(suffixes) == 1 else ".*"), {})


def _take_apart(paths: list[str], strip_heads: bool) -> list[File]:
    stems = [(path, PurePosixPath(path)) for path in paths]
    tails, heads = _recurring(TAIL, stems), _recurring(HEAD, stems) if strip_heads else frozenset()
    files = []
    for path, parsed in stems:
        stem = parsed.stem
        after = match[0] if (match := TAIL.search(stem)) and match[0] in tails else ""
        stem = stem.removesuffix(after)
        before = match[0] if (match := HEAD.search(stem)) and match[0] in heads else ""
        files.append(File(path, parsed.parent.parts, before, stem.removeprefix(before), after, parsed.suffix))
    return files


def _recurring(expression: re.Pattern[str], stems: list[tuple[str, PurePosixPath]]) -> frozenset[str]:
    """What many different names begin or end with, so that it tells the kind of a file and not which one."""
    names: dict[str, set[str]] = defaultdict(set)
    for _, parsed in stems:
        if match := expression.search(parsed.stem):
            names[match[0]].add(parsed.stem.replace(match[0], ""))
    enough = max(2, len(stems) // 50)
    return frozenset(affix for affix, cores in names.items() if len(cores) >= enough)


def _partners(files: list[File]) -> Iterator[tuple[File, File]]:
    """Pairs of files with the same core, each with those whose folders have most in common with its own."""
    by_core: dict[str, list[File]] = defaultdict(list)
    for file in files:
        by_core[file.core].append(file)
    for group in by_core.values():
        for first in group:
            others = [other for other in group if _kind(other) != _kind(first)]
            closest = max((_shared(first, other) for other in others), default=0)
            for second in others:
                if first.path < second.path and _shared(first, second) == closest:
                    yield first, second


def _kind(file: File) -> tuple[tuple[str, ...], str, str, str]:
    return file.folders, file.before, file.after, file.suffix


def _shared(first: File, second: File) -> int:
    same_split = _split_of(first) is not None and _split_of(first) == _split_of(second)
    return 2 * len(set(first.folders) & set(second.folders)) + same_split


def _split_of(file: File) -> str | None:
    for folder in file.folders:
        if match := WHOLE_SPLIT.fullmatch(folder) or WITHIN_SPLIT.fullmatch(folder):
            return match["split"] if "split" in match.groupdict() else match[0]
    return None


def _templates(first: File, second: File) -> tuple[Template, Template]:
    split = _split_of(first) if _split_of(first) == _split_of(second) else None
    common = set(first.folders) & set(second.folders)

    def template(file: File) -> Template:
        folders = []
        for folder in file.folders:
            match = WITHIN_SPLIT.fullmatch(folder)
            if split is not None and match and match["split"] == split:
                folders.append(f"{match['before']}{{split}}{match['after']}")
            else:
                folders.append("{=}" if folder in common else folder)
        return tuple(folders), file.before, file.after, file.suffix

    return template(first), template(second)


def _pairing(templates: tuple[Template, Template], pairs: list[tuple[File, File]]) -> Pairing:
    constant = _constants(templates[0], (first for first, _ in pairs))
    return Pairing(
        _pattern(templates[0], constant),
        _pattern(templates[1], constant),
        [(first.path, second.path) for first, second in pairs],
    )


def _constants(template: Template, files: Iterable[File]) -> dict[int, str]:
    """Values of the common folders that are the same for all pairs, by their number."""
    commons = ([f for f, t in zip(file.folders, template[0], strict=True) if t == "{=}"] for file in files)
    columns = zip(*commons, strict=True)
    return {number: values[0] for number, values in enumerate(columns) if len(set(values)) == 1}


def _pattern(template: Template, constant: dict[int, str]) -> str:
    folders, before, after, suffix = template
    varying = folders.count("{=}") - len(constant)
    names, used, number = [], [], 0
    for folder in folders:
        if folder == "{=}":
            name = "{folder}" if varying == 1 else f"{{folder_{len(used) + 1}}}"
            if number not in constant:
                used.append(name)
            folder, number = constant.get(number, name), number + 1
        names.append(folder)
    return "/".join([*names, f"{before}{{name}}{after}{suffix}"])
