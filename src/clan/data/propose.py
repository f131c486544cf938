"""Proposing a description of a folder by looking at what lies in it."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from clan.data.datasets import Dataset, find_splits
from clan.data.encodings import describe_code, encodings, read_codes
from clan.data.files import IMAGE_SUFFIXES, LossyLabel, image_size, open_image
from clan.data.pairing import SPLIT, find_pairings, list_files, lone_pattern
from clan.domains.description import Description, Encoding
from clan.errors import DataError
from clan.runtime import available_cores

SAMPLES = 6
"""Files of a kind that are opened to tell what it is."""

MAX_LABEL_VALUES = 80
"""A label holds fewer different values than this, a photograph more."""

MAX_PAIRINGS = 12
"""Kinds of pairs that are looked at, the most frequent ones."""

MAX_CODES = 128
"""Classes that are proposed at most, the most frequent ones."""


@dataclass(frozen=True)
class Proposal:
    """A description, and what it rests on.

    Args:
        text: YAML, with comments.
        seen: sentences about what was found.
        labelled: whether it names classes.
    """

    text: str
    seen: list[str]
    labelled: bool


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
    pair = _choose(folder, paths)
    images, labels = pair or (lone_pattern(_photographs(folder, paths)), None)
    description = Description(name="proposal", images=images)
    splits = _lists(folder, description)
    seen = [f"{len(paths)} image files", f"images: {images}", f"labels: {labels or 'none found'}"]
    head = [
        f"# {folder.resolve().name}, as clan data init found it. Check every line, above all the classes.",
        f"root: {_quoted(os.path.relpath(folder.resolve(), relative_to))}  # from this file's folder",
        f"images: {_quoted(images)}",
    ]
    if pair:
        head.append(f"labels: {_quoted(pair[1])}")
    if splits:
        head += ["splits:", *(f"  {split}: {_quoted(path)}" for split, path in splits.items())]
        seen.append(f"splits by list: {', '.join(splits)}")
    elif found := find_splits(description, folder):
        head.append(f"# splits, by the folders' names: {', '.join(found)}")
        seen.append(f"splits: {', '.join(found)}")
    width, height = image_size(folder / paths[0] if not pair else _first_image(folder, description))
    head.append(f"# size: [{width}, {height}]  # to train at; without it, that of the first image")
    if pair:
        body, remark = _classes(folder, images, pair[1])
        return Proposal("\n".join([*head, *body, ""]), [*seen, remark], labelled=True)
    return Proposal("\n".join([*head, "# no labels: fit for a target", ""]), seen, labelled=False)


def _first_image(folder: Path, description: Description) -> Path:
    splits = find_splits(description, folder)
    return Dataset(description, folder, split=splits[0] if splits else "train").image_path(0)


def _choose(folder: Path, paths: list[str]) -> tuple[str, str] | None:
    """The patterns of images and labels that most speaks for, if any does."""
    pairings = find_pairings(paths)
    most = len(pairings[0].pairs) if pairings else 0
    best: tuple[tuple[int, int], tuple[str, str]] | None = None
    for pairing in pairings[:MAX_PAIRINGS]:
        if 2 * len(pairing.pairs) < most:
            break
        step = max(1, len(pairing.pairs) // SAMPLES)
        sample = pairing.pairs[::step][:SAMPLES]
        first, second = (_kind(folder, [pair[side] for pair in sample]) for side in (0, 1))
        if (first == "photo") == (second == "photo") or "unreadable" in (first, second):
            continue
        images, labels = (pairing.first, pairing.second) if first == "photo" else (pairing.second, pairing.first)
        # Ids say more than the colours drawn from them; instance numbers say less than either.
        liking = {"ids": 3, "channel": 2, "colors": 1, "photo": 0}[second if first == "photo" else first]
        if best is None or (len(pairing.pairs), liking) > best[0]:
            best = (len(pairing.pairs), liking), (images, labels)
    return best[1] if best else None


Kind = Literal["photo", "ids", "channel", "colors", "unreadable"]


def _kind(folder: Path, sample: list[str]) -> Kind:
    """What most files of a sample are."""
    kinds: list[Kind] = [_kind_of(folder / path) for path in sample]
    return Counter(kinds).most_common(1)[0][0]


def _kind_of(path: Path) -> Kind:
    try:
        mode, bits = encodings(path)
        if mode not in ("RGB", "RGBA"):
            values = np.unique(np.asarray(open_image(path)))
            return "ids" if len(values) <= MAX_LABEL_VALUES else "photo"
        if bits == 16:
            return "channel"
        if path.suffix.lower() in (".jpg", ".jpeg"):
            return "photo"
        codes = read_codes(path, _labels("colors"))
        return "colors" if len(np.unique(codes[::2, ::2])) <= MAX_LABEL_VALUES else "photo"
    except LossyLabel:
        return "photo"
    except DataError:
        return "unreadable"


def _photographs(folder: Path, paths: list[str]) -> list[str]:
    """The files of kinds that look like photographs; all of them if none does."""
    by_folder: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        by_folder.setdefault((str(Path(path).parent), Path(path).suffix), []).append(path)
    found = [path for group in by_folder.values() if _kind(folder, group[:SAMPLES]) == "photo" for path in group]
    return found or paths


def _labels(encoding: Encoding) -> Description:
    """A description to read labels by before their classes are known."""
    key = "#000000" if encoding == "colors" else 0
    return Description.model_validate(
        {"name": "proposal", "images": "{name}.png", "labels": "{name}.png", "encoding": encoding,
         "classes": {"class": key}, "ignore": "rest"}
    )  # fmt: skip


def _classes(folder: Path, images: str, labels: str) -> tuple[list[str], str]:
    """The lines about encoding and classes, and a sentence about them."""
    description = Description(name="proposal", images=images)
    splits = find_splits(description, folder) or ["train"]
    paths = []
    for split in splits:
        probe = _labels("ids").model_copy(update={"images": images, "labels": labels})
        dataset = Dataset(probe, folder, split=split)
        paths += [dataset.label_path(index) for index in range(len(dataset)) if dataset.has_label(index)]
    encoding, bits = _encoding(paths[:: max(1, len(paths) // SAMPLES)][:SAMPLES])
    counts = _count(paths, _labels(encoding))
    total = sum(counts.values())
    kept = dict(counts.most_common(MAX_CODES))
    lines = [f"encoding: {encoding}"] if encoding != "ids" else []
    lines += [f"bits: {bits}"] if encoding in ("red", "green", "blue") else []
    lines.append("classes:  # TODO: give them their names; what is to be one class may be listed together: [7, 8]")
    for number, code in enumerate(sorted(kept)):
        if encoding != "colors" and code == 255:
            continue
        key = describe_code(code, _labels(encoding))
        name = f"class_{number if encoding == 'colors' else code}"
        lines.append(f"  {name}: {key}  # {100 * kept[code] / total:.2f} % of pixels")
    if len(counts) > MAX_CODES:
        lines.append(f"ignore: rest  # {len(counts) - MAX_CODES} rarer values: are these labels stored without loss?")
    elif encoding != "colors" and 255 in kept:
        lines.append(f"ignore: 255  # {100 * kept[255] / total:.2f} % of pixels")
    else:
        lines.append("ignore: []  # ids or colours that are no class; rest: all that classes does not name")
    stored = "colours" if encoding == "colors" else f"ids in {encoding}" if encoding != "ids" else "ids"
    return lines, f"{len(paths)} labels hold {len(counts)} {stored}"


def _encoding(sample: list[Path]) -> tuple[Encoding, int]:
    """How labels are stored, and their bits per channel."""
    kinds = [_kind_of(path) for path in sample]
    _, bits = encodings(sample[0])
    if "colors" not in kinds and "channel" not in kinds:
        return "ids", bits
    names: tuple[Encoding, ...] = ("red", "green", "blue")
    channels = [np.concatenate([read_codes(path, _labels(name)).ravel() for path in sample]) for name in names]
    grey = all(np.array_equal(channels[0], channel) for channel in channels)
    varying = [number for number, channel in enumerate(channels) if len(np.unique(channel)) > 1]
    if grey or not varying:
        return "red", bits
    if bits == 16 or len(varying) == 1:
        # Beside the class there may be a number for each object: those run higher.
        return names[min(varying, key=lambda number: int(channels[number].max()))], bits
    return "colors", bits


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


def _lists(folder: Path, description: Description) -> dict[str, str]:
    """List files that name images of this folder, by the split in their names."""
    if "{split}" in description.images:
        return {}
    found = {}
    for path in sorted(folder.rglob("*.txt")):
        if path.stem.lower() in SPLIT.split("|") and path.stem not in found:
            try:
                Dataset(description, folder, list_file=path)
            except DataError:
                continue
            found[path.stem] = path.relative_to(folder).as_posix()
    return found


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
