"""Proposing a description of a folder by looking at what lies in it."""

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
from clan.core.runtime import available_cores
from clan.data.dataset import find_splits
from clan.data.encodings import describe_code, read_codes
from clan.data.file_kinds import look_of, probe, stored_as
from clan.data.image_files import IMAGE_SUFFIXES, image_size
from clan.data.pair_scoring import Choice, choose, shows_no_image
from clan.data.pairing import Pairing, find_pairings, list_files, lone_pattern
from clan.data.path_templates import SPLIT
from clan.datasets.description import Description, Encoding
from clan.datasets.label_tables import Table, suggest
from clan.datasets.patterns import Pattern, files_below

SAMPLES = 6
"""Files of a kind that are opened to tell what it is."""

MAX_CODES = 128
"""Classes that are proposed at most, the most frequent ones."""

RARE = 0.002
"""Share of the pixels from which one of many colours is a class."""

LIST_NAME = re.compile(rf"({SPLIT})(?:_?(?:list|files|images|set|ids?))?", re.IGNORECASE)


@dataclass(frozen=True)
class Proposal:
    """A description, and what it rests on.

    Args:
        text: YAML, with comments.
        seen: sentences about what was found.
        unnamed: whether it has classes that still need names.
    """

    text: str
    seen: list[str]
    unnamed: bool


def propose(folder: Path, *, relative_to: Path) -> Proposal:
    """Looks for images and labels and writes a description that fits them.

    Args:
        folder: where they lie.
        relative_to: the folder that the description will lie in.

    Raises:
        DataError: the folder holds no images.
    """
    paths = list_files(folder)
    if not paths:
        raise DataError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}): is it the right folder?")
    choice = choose(folder, find_pairings(paths))
    pairing = choice.pairing
    pictures = [] if pairing else _pictures(folder, paths)
    images = pairing.images if pairing else lone_pattern(pictures or paths)
    matched = [path for path, _ in Pattern(images).select(paths, {})]
    seen = [f"{len(paths)} image files", f"images: {images}", f"labels: {pairing.labels if pairing else 'none found'}"]
    if not pairing and not pictures:
        seen.append("nothing here looks like photographs: are these label maps alone?")
    seen += _counted(choice, paths, matched)
    head = [
        f"# {folder.resolve().name}, as clan data init found it. Check every line, above all the classes.",
        f"root: {_quoted(os.path.relpath(folder.resolve(), relative_to))}  # from this file's folder",
        f"images: {_quoted(images)}",
    ]
    if pairing:
        head.append(f"labels: {_quoted(pairing.labels)}")
    lines, said = _splits(folder, images, matched, pairing)
    width, height = image_size(folder / (pairing.pairs[0][0] if pairing else matched[0]))
    head += [*lines, f"# size: [{width}, {height}]  # to train at; without it, that of the first image"]
    if pairing is None:
        return Proposal("\n".join([*head, "# no labels: fit for a target", ""]), [*seen, *said], unnamed=False)
    body, remarks, unnamed = _classes(folder, pairing)
    return Proposal("\n".join([*head, *body, ""]), [*seen, *said, *remarks], unnamed)


def _counted(choice: Choice, paths: list[str], matched: list[str]) -> list[str]:
    """What was seen besides, with numbers."""
    pairing, said = choice.pairing, list(choice.seen)
    used = {*matched, *choice.others}
    if pairing:
        used.update(path for pair in pairing.pairs for path in pair)
        if pairing.unlabelled:
            total = len(pairing.unlabelled) + len({image for image, _ in pairing.pairs})
            said.append(f"{len(pairing.unlabelled)} of {total} images have no label, such as {pairing.unlabelled[0]}")
        if pairing.variants:
            said.append(f"one label for several images each: {', '.join(pairing.variants)}")
    if left := [path for path in paths if path not in used]:
        said.append(f"left out: {len(left)} other image files, such as {left[0]}")
    return said


def _pictures(folder: Path, paths: list[str]) -> list[str]:
    """The files of kinds that look like photographs, or else like other pictures; none if none does."""
    by_folder: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        by_folder.setdefault((str(Path(path).parent), Path(path).suffix), []).append(path)
    looks = {key: look_of([folder / path for path in group[:SAMPLES]]) for key, group in by_folder.items()}
    for fits in (
        lambda key: looks[key] == "photo" and not shows_no_image(key[0]),
        lambda key: looks[key] == "photo",
        lambda key: looks[key] in ("deep", "smooth", "lossy"),
    ):
        if found := [path for key, group in by_folder.items() if fits(key) for path in group]:
            return found
    return []


# --- Splits ---


def _splits(folder: Path, images: str, matched: list[str], pairing: Pairing | None) -> tuple[list[str], list[str]]:
    """The lines about splits, and sentences about them."""
    description = Description(name="proposal", images=images)
    if "split" in Pattern(images).parts:
        found = find_splits(description, folder)
        return [f"# splits, by the folders' names: {', '.join(found)}"], [f"splits: {', '.join(found)}"]
    lists, said = _lists(folder, matched, pairing)
    if lists:
        lines = ["splits:", *(f"  {split}: {_quoted(path)}" for split, path in lists.items())]
        return lines, [*said, f"splits by list: {', '.join(lists)}"]
    hint = "# splits: {val: {every: 10}, train: {without: val}}  # every tenth image is for validation"
    return [hint], said


def _lists(folder: Path, matched: list[str], pairing: Pairing | None) -> tuple[dict[str, str], list[str]]:
    """List files that name images of this folder, by the split in their names: those whose images have labels."""
    known: dict[str, str] = {}
    for path in matched:
        pieces = path.split("/")
        for start in range(len(pieces)):
            tail = "/".join(pieces[start:])
            known.setdefault(tail, path)
            known.setdefault(tail.rpartition(".")[0], path)
    labelled = {image for image, _ in pairing.pairs} if pairing else set()
    found: dict[str, tuple[int, str]] = {}
    said = []
    for path in sorted(files_below(folder)):
        match = LIST_NAME.fullmatch(Path(path).stem)
        if not path.endswith(".txt") or match is None:
            continue
        names = _named(folder / path)
        images = [known.get(name) for name in names]
        if not names or not any(images):
            continue
        if None in images:
            said.append(f"not used: {path} names {names[images.index(None)]}, which is not among the images")
            continue
        missing = sum(image not in labelled for image in images) if pairing else 0
        found[match[1]] = min(found.get(match[1], (missing, path)), (missing, path))
    return {split: path for split, (_, path) in sorted(found.items())}, said


def _named(path: Path) -> list[str]:
    """What a list names, one a line: the first of several paths of a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    firsts = [re.split(r"[\s,;]", line.strip())[0].strip("\"'") for line in lines if not line.lstrip().startswith("#")]
    return [first.removeprefix("./").lstrip("/") for first in firsts if first]


# --- Classes ---


def _classes(folder: Path, pairing: Pairing) -> tuple[list[str], list[str], bool]:
    """The lines about encoding and classes, sentences about them, and whether names are missing."""
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
        what = "smooth edges, or JPEG, make such colours" if colors else "are these ids of classes?"
        remarks.append(f"{len(counts) - len(kept)} rarer values, {share:.2f} % of pixels, are ignored: {what}")
        ignored = f"ignore: rest  # {len(counts) - len(kept)} rarer values, {share:.2f} % of pixels: {what}"
    return [*lines, *body, ignored], remarks, named is None


def _named_classes(table: Table, encoding: Encoding, shares: dict[int, str]) -> tuple[list[str], str] | None:
    """Classes and what is ignored, by the names that a table knows; None if all of it is ignored."""
    names = table.colors if encoding == "colors" else table.ids
    classes: dict[str, list[int]] = {}
    for code in names:
        if code in shares:
            classes.setdefault(names[code], []).append(code)
    lines = [f"classes:  # suggested by the values and names found: {table.title}; compare with the contact sheet"]
    for name, codes in classes.items():
        if name not in table.void:
            keys = ", ".join(describe_code(code, probe(encoding)) for code in codes)
            said = " + ".join(shares[code] for code in codes)
            lines.append(f"  {_name(name)}: {f'[{keys}]' if len(codes) > 1 else keys}  # {said} of pixels")
    void = {name: codes for name, codes in classes.items() if name in table.void}
    keys = ", ".join(describe_code(code, probe(encoding)) for codes in void.values() for code in codes)
    ignored = f"ignore: [{keys}]  # {', '.join(void)}" if void else "ignore: []"
    rest = [name for name in dict.fromkeys(names.values()) if name not in classes and name not in table.void]
    if rest and len(lines) > 1:
        lines.append(f"  # of {table.title}, these occur nowhere: {', '.join(rest)}")
    return (lines, ignored) if len(void) < len(classes) else None


def _unnamed_classes(encoding: Encoding, shares: dict[int, str]) -> tuple[list[str], str]:
    """Classes named by numbers, which a person has to replace."""
    lines = ["classes:  # TODO: give them their names; what is to be one class may be listed together: [7, 8]"]
    for number, code in enumerate(sorted(shares)):
        if encoding != "colors" and code == 255 and len(shares) > 1:
            continue
        name = f"class_{number if encoding == 'colors' else code}"
        lines.append(f"  {name}: {describe_code(code, probe(encoding))}  # {shares[code]} of pixels")
    if encoding != "colors" and 255 in shares and len(shares) > 1:
        return lines, f"ignore: 255  # {shares[255]} of pixels"
    return lines, "ignore: []  # ids or colours that are no class; rest: all that classes does not name"


def _count(paths: list[Path], description: Description) -> Counter[int]:
    """How many pixels hold which value, over all labels that can be read."""

    def count(path: Path) -> dict[int, int]:
        try:
            values, counts = np.unique(read_codes(path, description), return_counts=True)
        except DataError:
            return {}  # clan data check names it
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    total: Counter[int] = Counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        for counts in pool.map(count, paths):
            total.update(counts)
    return total


def _name(text: str) -> str:
    return text if re.fullmatch(r"[a-z][a-z0-9 -]*", text) else _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
