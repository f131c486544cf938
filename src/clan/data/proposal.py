"""Proposes a description of a data set from the files in its folder."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clan.core.errors import DataError
from clan.core.output import one_line
from clan.core.runtime import available_cores
from clan.data.dataset import find_splits
from clan.data.encodings import describe_code, read_codes
from clan.data.file_kinds import most_common_kind, probe, stored_as
from clan.data.image_files import IMAGE_SUFFIXES, image_size
from clan.data.lists import read_lines
from clan.data.pair_scoring import Choice, choose_labels, shows_no_image
from clan.data.pairing import Pairing, find_pairings, list_files, lone_pattern
from clan.data.path_templates import SPLIT
from clan.datasets.description import Description, Encoding
from clan.datasets.label_tables import LabelTable, suggest
from clan.datasets.patterns import Pattern, files_below

SAMPLES = 6
"""Number of files opened to classify a kind of files."""

MAX_CODES = 128
"""Maximum number of proposed classes; the most frequent ones are kept."""

RARE = 0.002
"""Minimum share of the pixels of a colour that becomes a class, if there are more than `MAX_CODES`."""

LIST_NAME = re.compile(rf"({SPLIT})(?:_?(?:list|files|images|set|ids?))?", re.IGNORECASE)


@dataclass(frozen=True)
class Proposal:
    """A proposed description.

    Args:
        text: YAML with comments.
        seen: sentences about the files found.
        unnamed: whether classes have placeholder names.
    """

    text: str
    seen: list[str]
    unnamed: bool


def propose(folder: Path, *, relative_to: Path) -> Proposal:
    """Finds images and labels in a folder and proposes a description of them.

    Args:
        folder: the data set's folder.
        relative_to: the folder of the description file; `root` is written relative to it.

    Raises:
        DataError: the folder contains no images.
    """
    paths = list_files(folder)
    if not paths:
        raise DataError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}): pass the folder of the data set")
    choice = choose_labels(folder, find_pairings(paths))
    pairing = choice.pairing
    pictures = [] if pairing else _pictures(folder, paths)
    images = pairing.images if pairing else lone_pattern(pictures or paths)
    matched = [path for path, _ in Pattern(images).select(paths, {})]
    seen = [f"{len(paths)} image files", f"images: {images}", f"labels: {pairing.labels if pairing else 'none found'}"]
    if not pairing and not pictures:
        seen.append("no photographs found: check that the folder contains images, not only label maps")
    seen += _counted(choice, paths, matched)
    root = os.path.relpath(folder.resolve(), relative_to)
    root = str(folder.resolve()) if root.startswith("~") else root  # ~ is the home directory
    head = [
        f"# {one_line(folder.resolve().name)}, written by clan data init. Check every line, especially the classes.",
        f"root: {_quoted(root)}  # from this file's folder",
        f"images: {_quoted(images)}",
    ]
    if pairing:
        head.append(f"labels: {_quoted(pairing.labels)}")
    lines, notes = _splits(folder, images, matched, pairing)
    width, height = image_size(folder / (pairing.pairs[0][0] if pairing else matched[0]))
    head += [*lines, f"# size: [{width}, {height}]  # training size; default: size of the first image"]
    if pairing is None:
        return Proposal("\n".join([*head, "# no labels: usable as a target", ""]), [*seen, *notes], unnamed=False)
    body, remarks, unnamed = _classes(folder, pairing)
    return Proposal("\n".join([*head, *body, ""]), [*seen, *notes, *remarks], unnamed)


def _counted(choice: Choice, paths: list[str], matched: list[str]) -> list[str]:
    """Sentences with counts of unlabelled images, shared labels and unused files."""
    pairing, notes = choice.pairing, list(choice.seen)
    used = {*matched, *choice.others}
    if pairing:
        used.update(path for pair in pairing.pairs for path in pair)
        if pairing.unlabelled:
            total = len(pairing.unlabelled) + len({image for image, _ in pairing.pairs})
            notes.append(f"{len(pairing.unlabelled)} of {total} images have no label, such as {pairing.unlabelled[0]}")
        if pairing.variants:
            notes.append(f"several images share one label: {', '.join(pairing.variants)}")
    if unused := [path for path in paths if path not in used]:
        notes.append(f"not used: {len(unused)} other image files, such as {unused[0]}")
    return notes


def _pictures(folder: Path, paths: list[str]) -> list[str]:
    """The files of the folders with photographs, or else with other pictures; empty if there are none."""
    by_folder: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        by_folder.setdefault((str(Path(path).parent), Path(path).suffix), []).append(path)
    kinds = {key: most_common_kind([folder / path for path in group[:SAMPLES]]) for key, group in by_folder.items()}
    for fits in (
        lambda key: kinds[key] == "photo" and not shows_no_image(key[0]),
        lambda key: kinds[key] == "photo",
        lambda key: kinds[key] in ("deep", "smooth", "lossy"),
    ):
        if found := [path for key, group in by_folder.items() if fits(key) for path in group]:
            return found
    return []


# --- Splits ---


def _splits(folder: Path, images: str, matched: list[str], pairing: Pairing | None) -> tuple[list[str], list[str]]:
    """The YAML lines of the splits, and sentences about them."""
    description = Description(name="proposal", images=images)
    if "split" in Pattern(images).parts:
        found = find_splits(description, folder)
        return [f"# splits by folder name: {', '.join(found)}"], [f"splits: {', '.join(found)}"]
    lists, notes = _lists(folder, matched, pairing)
    if lists:
        lines = ["splits:", *(f"  {split}: {_quoted(path)}" for split, path in lists.items())]
        return lines, [*notes, f"splits by list: {', '.join(lists)}"]
    hint = "# splits: {val: {every: 10}, train: {without: val}}  # validate on every tenth image"
    return [hint], notes


def _lists(folder: Path, matched: list[str], pairing: Pairing | None) -> tuple[dict[str, str], list[str]]:
    """List files of images in this folder, by the split in their names, and sentences about unusable ones.

    Of several lists of one split, the list with the fewest unlabelled images is returned.
    """
    known: dict[str, str] = {}
    for path in matched:
        pieces = path.split("/")
        for start in range(len(pieces)):
            tail = "/".join(pieces[start:])
            known.setdefault(tail, path)
            known.setdefault(tail.rpartition(".")[0], path)
    labelled = {image for image, _ in pairing.pairs} if pairing else set()
    found: dict[str, tuple[int, str]] = {}
    notes = []
    for path in sorted(files_below(folder)):
        match = LIST_NAME.fullmatch(Path(path).stem)
        if not path.endswith(".txt") or match is None:
            continue
        names = _first_paths(folder / path)
        images = [known.get(name) for name in names]
        if not names or not any(images):
            continue
        if None in images:
            notes.append(f"not used: {path} names {names[images.index(None)]}, which is not among the images")
            continue
        missing = sum(image not in labelled for image in images) if pairing else 0
        found[match[1]] = min(found.get(match[1], (missing, path)), (missing, path))
    return {split: path for split, (_, path) in sorted(found.items())}, notes


def _first_paths(path: Path) -> list[str]:
    """The first path of every line of a list, relative; empty if the file cannot be read."""
    try:
        lines = read_lines(path)
    except DataError:
        return []
    firsts = [re.split(r"[\s,;]", line)[0].strip("\"'") for _, line in lines if not line.startswith("#")]
    return [first.removeprefix("./").lstrip("/") for first in firsts if first]


# --- Classes ---


def _classes(folder: Path, pairing: Pairing) -> tuple[list[str], list[str], bool]:
    """The YAML lines of the encoding and classes, sentences about them, and whether names are missing."""
    paths = [folder / label for label in dict.fromkeys(label for _, label in pairing.pairs)]
    encoding, bits = stored_as(paths[:: max(1, len(paths) // SAMPLES)][:SAMPLES])
    counts = _count(paths, probe(encoding))
    total = sum(counts.values())
    colors = encoding == "colors"
    kept = dict(counts.most_common(MAX_CODES))
    if colors and len(counts) > MAX_CODES:
        kept = {code: count for code, count in kept.items() if count >= RARE * total}
    lines = [f"encoding: {encoding}"] if encoding != "ids" else []
    lines += [f"bits: {bits}"] if encoding in ("red", "green", "blue") else []
    stored = "colours" if colors else f"ids in {encoding}" if encoding != "ids" else "ids"
    remarks = [f"{len(paths)} labels hold {len(counts)} {stored}"]
    shares = {code: f"{100 * count / total:.2f} %" for code, count in kept.items()}
    patterns = f"{folder.resolve().name}/{pairing.images} {pairing.labels}"
    path = f"encoding: {encoding} {patterns} {' '.join(pairing.pairs[0])}"
    table = suggest(kept, colors=colors, path=path)
    named = _named_classes(table, encoding, shares) if table else None
    if table and named:
        remarks.append(f"names suggested: {table.title}")
        body, ignored = named
    else:
        body, ignored = _unnamed_classes(encoding, shares)
    if len(counts) > len(kept):
        share = 100 * (1 - sum(kept.values()) / total)
        what = "smooth edges or JPEG cause such colours" if colors else "check that these are class ids"
        remarks.append(f"{len(counts) - len(kept)} rarer values, {share:.2f} % of pixels, are ignored: {what}")
        ignored = f"ignore: rest  # {len(counts) - len(kept)} rarer values, {share:.2f} % of pixels: {what}"
    return [*lines, *body, ignored], remarks, named is None


def _named_classes(table: LabelTable, encoding: Encoding, shares: dict[int, str]) -> tuple[list[str], str] | None:
    """The YAML lines of `classes` and `ignore` with names of a table; None if all values are ignored."""
    names = table.colors if encoding == "colors" else table.ids
    classes: dict[str, list[int]] = {}
    for code in names:
        if code in shares:
            classes.setdefault(names[code], []).append(code)
    lines = [f"classes:  # names suggested from values and paths: {table.title}; compare with the contact sheet"]
    for name, codes in classes.items():
        if name not in table.void:
            keys = ", ".join(describe_code(code, probe(encoding)) for code in codes)
            share = " + ".join(shares[code] for code in codes)
            lines.append(f"  {_name(name)}: {f'[{keys}]' if len(codes) > 1 else keys}  # {share} of pixels")
    void = {name: codes for name, codes in classes.items() if name in table.void}
    keys = ", ".join(describe_code(code, probe(encoding)) for codes in void.values() for code in codes)
    ignored = f"ignore: [{keys}]  # {', '.join(void)}" if void else "ignore: []"
    rest = [name for name in dict.fromkeys(names.values()) if name not in classes and name not in table.void]
    if rest and len(lines) > 1:
        lines.append(f"  # classes of {table.title} that do not occur: {', '.join(rest)}")
    return (lines, ignored) if len(void) < len(classes) else None


def _unnamed_classes(encoding: Encoding, shares: dict[int, str]) -> tuple[list[str], str]:
    """The YAML lines of `classes` and `ignore` with placeholder names."""
    lines = ["classes:  # TODO: name the classes; several values of one class are written as a list: [7, 8]"]
    for number, code in enumerate(sorted(shares)):
        if encoding != "colors" and code == 255 and len(shares) > 1:
            continue
        name = f"class_{number if encoding == 'colors' else code}"
        lines.append(f"  {name}: {describe_code(code, probe(encoding))}  # {shares[code]} of pixels")
    if encoding != "colors" and 255 in shares and len(shares) > 1:
        return lines, f"ignore: 255  # {shares[255]} of pixels"
    return lines, "ignore: []  # ids or colours that are no class; rest: all values not listed under classes"


def _count(paths: list[Path], description: Description) -> Counter[int]:
    """The number of pixels of each value, over all readable labels."""

    def count(path: Path) -> dict[int, int]:
        try:
            values, counts = np.unique(read_codes(path, description), return_counts=True)
        except DataError:
            return {}  # clan data check reports the file
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    total: Counter[int] = Counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        for counts in pool.map(count, paths):
            total.update(counts)
    return total


def _name(text: str) -> str:
    return text if re.fullmatch(r"[a-z][a-z0-9 -]*", text) else _quoted(text)


def _quoted(text: str) -> str:
    return one_line(json.dumps(text, ensure_ascii=False))
