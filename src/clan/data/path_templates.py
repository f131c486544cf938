"""Templates of the paths of an image and its label, aligned by their common parts, and their patterns."""

import re
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from typing import NamedTuple

from clan.datasets.patterns import escape, escape_glob

SPLIT = "training|trainval|train|validation|valid|val|testing|test"
SPLIT_WORD = re.compile(rf"(?<![A-Za-z])(?i:{SPLIT})(?![a-z])(?:[_-]?\d+|[A-Z](?![a-z]))?")
SPLIT_START = re.compile(rf"^(?i:{SPLIT})(?=(?!{SPLIT})[a-z]+$)")
TOKENS = re.compile(r"[A-Za-z]+|\d+|[^A-Za-z\d]+")
NUMBER = re.compile(r"(?<![A-Za-z\d])\d+")

SAME, SPLIT_HERE, VARIANT = "\0", "\1", "\2"
"""Placeholders in templates: a part common to both paths, the split, and the part that differs between images with
one label."""


class Template(NamedTuple):
    """The path of one kind of files, with placeholders.

    Args:
        folders: the folder names.
        name: the file name without suffix.
        end: the suffix without dot; empty: any.
    """

    folders: tuple[str, ...]
    name: str
    end: str


class TemplatePair(NamedTuple):
    """The templates of images and their labels, and the values of `VARIANT` in the images' names."""

    images: Template
    labels: Template
    variants: tuple[str, ...] = ()


def common_length(sequences: list[str] | list[list[str]]) -> int:
    """The length of the common prefix of some sequences."""
    alike = [len(set(items)) == 1 for items in zip(*sequences, strict=False)]
    return [*alike, False].index(False)


def compare(first: str, second: str) -> TemplatePair | None:
    """The templates of two paths; None if the files cannot be an image and its label."""
    one, two = PurePosixPath(first), PurePosixPath(second)
    names = _align_names(one.stem, two.stem)
    folders = _align_folders(one.parts[:-1], two.parts[:-1])
    if names is None or folders is None:
        return None
    alike = names[0] == names[1] and folders[0] == folders[1]
    ends = (one.suffix[1:], two.suffix[1:]) if alike else ("", "")
    if alike and ends[0] == ends[1]:
        return None
    return TemplatePair(Template(folders[0], names[0], ends[0]), Template(folders[1], names[1], ends[1]))


def _align_names(first: str, second: str) -> tuple[str, str] | None:
    """Both names with `SAME` for their common parts; None if the names do not match."""
    if first == second:
        return SAME, SAME
    one, two = TOKENS.findall(first), TOKENS.findall(second)
    start = common_length([one, two])
    rest = min(len(one), len(two)) - start
    end = min(rest, common_length([one[::-1], two[::-1]]))
    # Adjacent separators belong to the differing part: _image and _label.
    if start and start < max(len(one), len(two)) - end and not one[start - 1][0].isalnum():
        start -= 1
    if end and not one[len(one) - end][0].isalnum():
        end -= 1
    if not any(map(str.isdigit, "".join(one[:start] + one[len(one) - end :]))) and any(map(str.isdigit, first)):
        match = SequenceMatcher(None, one, two, autojunk=False).find_longest_match()
        piece = "".join(one[match.a : match.a + match.size]).strip("_-. ")
        if not any(map(str.isdigit, piece)):
            return None
        middles = [name.replace(piece, SAME, 1) for name in (first, second)]
    else:
        heads, tails = "".join(one[:start]), "".join(one[len(one) - end :])
        if not heads and not tails:  # img.png and label.png, paired by their folders
            return (first, second) if first.isalpha() and second.isalpha() else None
        middles = [
            (SAME if heads else "") + "".join(name[start : len(name) - end]) + (SAME if tails else "")
            for name in (one, two)
        ]
    if all(NUMBER.search(middle) for middle in middles):
        return None  # two different images
    return middles[0], middles[1]


def _align_folders(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Both folder paths with `SAME` and `SPLIT_HERE` for their common parts; None if two sequences or splits differ."""
    keys = [[_key(folder) for folder in folders] for folders in (first, second)]
    one, two = list(first), list(second)
    matches = SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks()
    aligned = [(block.a + k, block.b + k) for block in matches for k in range(block.size)]
    splits = [
        (a, b) for a, b in aligned
        if keys[0][a].startswith(SPLIT_HERE) and (first[a] != second[b] or SPLIT_WORD.search(first[a]))
    ]  # fmt: skip
    last = keys[0][splits[-1][0]] if splits else ""
    for a, b in aligned:
        if keys[0][a] == last:
            one[a], two[b] = _split_templates(first[a], second[b], keys[0][a][1:])
        elif first[a] == second[b]:
            one[a] = two[b] = SAME
    left = [[folder for folder in folders if not {SAME, SPLIT_HERE} & set(folder)] for folders in (one, two)]
    words = [[match[0] for folder in folders if (match := SPLIT_WORD.search(folder))] for folders in left]
    skeletons = [{re.sub(r"\d+", "#", folder): folder for folder in folders if "#" not in folder} for folders in left]
    numbered = [key for key, folder in skeletons[0].items() if "#" in key and skeletons[1].get(key, folder) != folder]
    if numbered or (words[0] and words[1]):
        return None
    return tuple(one), tuple(two)


def _key(folder: str) -> str:
    """The key by which folders are aligned: the split in the name, or the whole name."""
    match = SPLIT_WORD.search(folder) or SPLIT_START.search(folder)
    return SPLIT_HERE + match[0] if match else folder


def _split_templates(first: str, second: str, word: str) -> tuple[str, str]:
    if first == second:
        before = first[: first.index(word)]
        return before + SPLIT_HERE, before + SPLIT_HERE  # text after the word belongs to the split's name
    return first.replace(word, SPLIT_HERE, 1), second.replace(word, SPLIT_HERE, 1)


def words_of(template: Template) -> str:
    """The literal text of a template, without placeholders."""
    return re.sub(f"[{SAME}{SPLIT_HERE}{VARIANT}]", "", "/".join([*template.folders, template.name]))


def pattern_of(template: Template, variants: tuple[str, ...], end_part: str, ends: list[str]) -> str:
    """The pattern of a template, with a part for every placeholder.

    Args:
        template: the template.
        variants: the values of `VARIANT`.
        end_part: name of the part for the suffix.
        ends: the possible suffixes, without dot.
    """
    folders, number = [], 0
    for folder in template.folders:
        number += folder == SAME
        folders.append(f"{{folder_{number}}}" if folder == SAME else escape(folder).replace(SPLIT_HERE, "{split}"))
    name, *runs = escape(template.name).split(SAME)
    for number, run in enumerate(runs):
        name += ("{name}" if number == 0 else "{rest}" if number == 1 else f"{{rest_{number}}}") + run
    listed = "|".join(map(escape_glob, variants))
    name = name.replace(VARIANT, f"{{{variant_part(template.name)}:{listed}}}")
    return "/".join([*folders, f"{name}.{escape(template.end) or ending(end_part, ends)}"])


def ending(part: str, ends: list[str]) -> str:
    """The pattern of the suffix, without dot: literal, or a part if there are several."""
    return escape(ends[0]) if len(ends) == 1 else f"{{{part}:{'|'.join(ends)}}}"


def variant_part(name: str) -> str:
    """The name of the part for `VARIANT`: the word before it, else "variant"."""
    word = re.search(f"([A-Za-z]+)[_-]?{VARIANT}", name)
    return word[1].lower() if word and word[1].lower() not in ("name", "rest", "split", "end") else "variant"
