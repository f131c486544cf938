"""Image lists in the formats of public data sets: which image, and which label, each line names.

A line is an image path, optionally followed by its label: `images/a.jpg labels/a.png`. Paths are absolute or relative
to the image folder, the root or the list's folder. Only `read_lines` accesses the disk.
"""

import difflib
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clan.core.errors import DataError
from clan.core.files import UnfitFile, read_whole

LARGEST_LIST = 256 << 20

SEPARATORS = re.compile(r"\s*[\s,;]\s*")
"""Separators between an image and its label."""

IMAGE_COLUMNS = {"image", "images", "img", "image_path", "img_path", "image_name", "file", "filename", "file_name",
                 "path", "name", "id", "image_id"}  # fmt: skip
LABEL_COLUMNS = {"label", "labels", "label_path", "mask", "masks", "mask_path", "annotation", "annotations", "gt",
                 "target", "segmentation"}  # fmt: skip

LABEL_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
"""Suffixes of labels in lists of a data set without a labels pattern."""

Lines = Sequence[tuple[int, str]]
"""The lines of a list with their numbers, from 1, without blank lines."""


@dataclass(frozen=True)
class ImageIndex:
    """The images that the lines of a list can name. All paths use `/`.

    Args:
        labels: path of every image below the root → path of its label below the root, or None without labels.
        folder: the image folder, relative to the root.
        label_folder: the label folder, relative to the root.
        list_folder: the list's folder, relative to the root; outside the root it begins with `..`.
        roots: the absolute paths of the root, with and without resolved links.
    """

    labels: Mapping[str, str | None]
    folder: str = ""
    label_folder: str = ""
    list_folder: str = ""
    roots: tuple[str, ...] = ()

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """Images by their paths without suffix."""
        found: dict[str, list[str]] = {}
        for path in self.labels:
            found.setdefault(posixpath.splitext(path)[0], []).append(path)
        return found

    @cached_property
    def by_label(self) -> dict[str, list[str]]:
        """Images by their labels."""
        found: dict[str, list[str]] = {}
        for path, label in self.labels.items():
            found.setdefault(label or "", []).append(path)
        return found

    def paths(self, text: str, folder: str) -> Iterator[str]:
        """The possible meanings of a path in a list, as paths below the root, most likely first."""
        slashes = text.replace("\\", "/")
        for spelling in dict.fromkeys((text, slashes)):
            for root in self.roots:
                if spelling.startswith(f"{root}/"):
                    yield posixpath.normpath(spelling[len(root) + 1 :])
            bare = spelling.lstrip("/")
            for start in dict.fromkeys((folder, "", self.list_folder)):
                yield posixpath.normpath(posixpath.join(start, bare))
            for root in self.roots:
                name = f"{posixpath.basename(root)}/"
                if bare.startswith(name):
                    yield posixpath.normpath(bare.removeprefix(name))

    def find(self, text: str) -> list[str]:
        """The images that a path may name: several only if the suffix is missing or the label is shared."""
        paths = list(self.paths(text, self.folder)) if text else []
        for path in paths:
            if path in self.labels:
                return [path]
        for path in paths:
            if path in self.by_stem:
                return self.by_stem[path]
        labels = self.paths(text, self.label_folder) if text else ()
        return next((self.by_label[path] for path in labels if path in self.by_label), [])


def read_lines(path: Path) -> Lines:
    """Reads the lines of a list that are not blank.

    Reads UTF-8 and UTF-16, with and without a byte order mark, and any line ends. Bytes that are not UTF-8 become
    surrogates, as in file names.

    Raises:
        DataError: the file cannot be read, is not text, or is empty.
    """
    try:
        content = read_whole(path, LARGEST_LIST)
    except UnfitFile as error:
        raise DataError(f"the list {path} {error}") from None
    except OSError as error:
        raise DataError(f"cannot read the list {path} ({error.strerror}): check its name") from None
    encoding, errors = "utf-8-sig", "surrogateescape"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding, errors = "utf-16", "strict"
    elif b"\0" in content[:2]:  # UTF-16, if the first name begins with an ASCII character
        encoding, errors = "utf-16-be" if content[0] == 0 else "utf-16-le", "strict"
    try:
        text = content.decode(encoding, errors)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError(f"the list {path} is no text: save it as UTF-8, one image a line")
    lines = [(number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise DataError(f"the list {path} is empty: write one image name a line")
    return lines


def choose(lines: Lines, known: ImageIndex) -> list[str]:
    """The images that a list names, in its order, with repetitions.

    Args:
        lines: see `read_lines`.
        known: the images that lines can name.

    Returns:
        Paths below the root.

    Raises:
        DataError: a line names no image, several images, or another label than the description; the message begins
            with the line's number.
    """
    chosen, unknown = [], []
    for number, line in lines:
        entry = _entry(line, known)
        if entry is None:
            if line.startswith("#") or (not chosen and not unknown and _is_header(number, line)):
                continue
            unknown.append((number, line))
            continue
        images, text, rest = entry
        if len(images) > 1:
            raise DataError(
                f"line {number} names {text}, which is {images[0]} as well as {images[1]}: name one of them"
            )
        if rest:
            _check_label(number, images[0], _unquoted(rest), known)
        chosen.append(images[0])
    if unknown:
        raise DataError(_what_is_wrong(unknown, known))
    if not chosen:
        raise DataError("it names no image: write one a line")
    return chosen


def _entry(line: str, known: ImageIndex) -> tuple[list[str], str, str] | None:
    """The images named by the longest matching start of a line, that start, and the rest of the line."""
    if images := known.find(_unquoted(line)):
        return images, line, ""
    text = re.split(r"\s#", line)[0].rstrip()  # what follows is a comment
    for end in [len(text), *(match.start() for match in reversed(list(SEPARATORS.finditer(text))))]:
        words = _unquoted(text[:end])
        if images := known.find(words):
            return images, words, text[end:].strip(" ,;\t")
    return None


def plain_path(line: str) -> str:
    """A line with a single path, normalised: without quotes and backslashes."""
    return posixpath.normpath(_unquoted(line).replace("\\", "/"))


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`"
    return text[1:-1].strip() if quoted else text


def _is_header(number: int, line: str) -> bool:
    """Whether a line is a header of the columns image and label.

    Raises:
        DataError: it names columns in another order.
    """
    columns = [_unquoted(word).lower() for word in SEPARATORS.split(line)]
    kinds = ["image" if word in IMAGE_COLUMNS else "label" if word in LABEL_COLUMNS else "" for word in columns]
    if "image" not in kinds or "" in kinds[:1] + kinds[1:2]:
        return False
    if kinds not in (["image"], ["image", "label"]):
        raise DataError(
            f"line {number} names the columns {', '.join(columns)}: keep those of image and label, in that order"
        )
    return True


def _check_label(number: int, image: str, label: str, known: ImageIndex) -> None:
    """Refuses a label that differs from the label of the description.

    Raises:
        DataError: the labels differ.
    """
    expected = known.labels[image]
    if expected is None:
        if label.lower().endswith(LABEL_SUFFIXES):
            return
        raise DataError(f"line {number} has {label!r} after {image}: write an image and at most its label per line")
    stems = (expected, posixpath.splitext(expected)[0])
    if not any(path in stems for path in known.paths(label, known.label_folder)):
        raise DataError(
            f"line {number} gives {image} the label {label}, but the description's is {expected}: "
            "correct the list or the labels pattern"
        )


def _what_is_wrong(unknown: Lines, known: ImageIndex) -> str:
    number, line = unknown[0]
    more = f" ({len(unknown)} lines are like it)" if len(unknown) > 1 else ""
    image, label = next(iter(known.labels.items()))
    # Text up to a file suffix is the image of a pair; a line without a suffix is one name.
    words = re.split(r"(?<=\.[a-zA-Z]{3})\s*[\s,;]\s*|(?<=\.[a-zA-Z]{4})\s*[\s,;]\s*", line)[0]
    wanted = {path.casefold() for path in known.paths(_unquoted(words), known.folder)}
    if near := [path for path in known.labels if wanted & {path.casefold(), posixpath.splitext(path)[0].casefold()}]:
        return (
            f"line {number} names {words}, but the file is {near[0]}: write upper and lower case as it has them{more}"
        )
    example = _below(image, known.folder)
    pair = f' or, with its label, "{image} {label}"' if label else ""
    return (
        f"line {number} names {line[:200]}, which is no image of this data set{_nearest(_unquoted(words), known)}: "
        f'a line is a path below the image folder or the root, such as "{example}"{pair}{more}'
    )


def _nearest(words: str, known: ImageIndex) -> str:
    """The image whose file name is most similar to the one in a list, in parentheses; empty if none is."""
    name = posixpath.basename(words.replace("\\", "/"))
    names = {posixpath.basename(path): path for path in known.labels}
    close = [name] if name in names else difflib.get_close_matches(name, names, n=1)
    return f" (the nearest is {names[close[0]]})" if close else ""


def _below(path: str, folder: str) -> str:
    return path[len(folder) + 1 :] if folder and path.startswith(f"{folder}/") else path


def repeated(chosen: Sequence[str]) -> str:
    """A sentence about images that a list names repeatedly; empty if there are none."""
    counts = Counter(chosen)
    several = [path for path in chosen if counts[path] > 1]
    if not several:
        return ""
    return f"{len(set(several))} images are listed more than once and count as often, first {several[0]}"
