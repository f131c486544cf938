"""Which of the kinds of files that pair up are images and their class labels: by pixels, words, sizes and numbers."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from clan.core.errors import DataError
from clan.data.files import image_size
from clan.data.looks import SAID, Look, look_of
from clan.data.pairing import Pairing

SAMPLES = 4
"""Pairs of a kind that are opened."""

FEWEST = 0.1
"""Share of the most frequent kind's pairs that another must have to be looked at."""

STORED = {"ids": 40, "channel": 32, "colors": 22, "smooth": 14, "numbers": 6}
"""What speaks for labels by how they are stored: ids say more than the colours drawn from them."""

PICTURES = {"photo": 14, "deep": 6, "lossy": 2, "smooth": 1, "colors": -5, "ids": -5}

NO_CLASSES = (
    "inst", "instance", "instances", "panoptic", "pan", "depth", "depths", "disp", "disparity", "flow", "optical",
    "normals", "bbox", "boxes", "confidence", "uncertainty", "inv", "bitmasks", "stereo", "lidar",
)  # fmt: skip
"""Words for maps of something else than classes."""

LABELS = ("label", "semantic", "sem", "seg", "mask", "gt", "class", "annot", "annotation", "annotations", "truth", "id",
          "ids", "anno")  # fmt: skip
LESS = {
    "drivable": 12,
    "lane": 12,
    "part": 12,
    "edge": 12,
    "normal": 12,
    "coarse": 12,
    "object": 8,
    "color": 6,
    "colour": 6,
    "vis": 6,
    "rgb": 6,
    "no": 4,
    "pred": 12,
}
IMAGES = ("image", "img", "rgb", "left", "photo", "jpeg", "camera", "color", "frame", "stills")
NO_IMAGES = (
    *NO_CLASSES, *LABELS, "ref", "right", "overlay", "overlays", "blend", "blended", "preview", "thumb", "thumbnails",
    "vis", "viz", "nir", "evi", "ndvi", "ir", "thermal", "lwir", "nrg",
)  # fmt: skip


@dataclass
class Choice:
    """Images and labels, and what else was seen.

    Args:
        pairing: the two; None if there are no labels.
        look: how the labels are stored.
        seen: a sentence for every other kind of label, and for those that cannot be used.
        others: labels that are not used.
    """

    pairing: Pairing | None = None
    look: Look = "unreadable"
    seen: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)


def words(text: str) -> list[str]:
    """The words of a path, in lower case: `gtFine_labelIds` is gt, fine, label, ids."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)]


def shows_no_image(text: str) -> bool:
    """Whether a path's words say that it is no image, or not the one that labels are of."""
    return any(word in NO_IMAGES or _labels(word) for word in words(text))


def choose(folder: Path, pairings: list[Pairing]) -> Choice:
    """The kinds of images and labels that most speaks for, if anything does."""
    numbers = [len({label for _, label in pairing.pairs}) for pairing in pairings]
    most = max(numbers, default=0)
    choice = Choice()
    rated: list[tuple[float, Pairing, Look, Look]] = []
    remarks: dict[str, str] = {}
    for pairing, count in zip(pairings, numbers, strict=True):
        if count < FEWEST * most:
            continue
        sample = pairing.pairs[:: max(1, len(pairing.pairs) // SAMPLES)][:SAMPLES]
        images = look_of([folder / image for image, _ in sample])
        labels = look_of([folder / label for _, label in sample])
        points = _image_points(pairing, images)
        if points is None or images == labels == "photo":
            continue
        if problem := _problem(folder, pairing, labels, sample):
            remarks.setdefault(pairing.labels, f"not used: {pairing.labels} ({count} files): {problem}")
            continue
        if labels in STORED:
            points += STORED[labels] + _label_points(pairing) + 20 * count / most
            rated.append((points, pairing, images, labels))
    rated.sort(key=lambda item: -item[0])
    if rated:
        _, choice.pairing, drawn, choice.look = rated[0]
        choice.seen += [f"images hold {SAID[drawn]} as labels do: are they label maps?"] * (PICTURES[drawn] < 0)
    for _, pairing, _, labels in rated[1:]:
        files = len({label for _, label in pairing.pairs})
        remarks.setdefault(pairing.labels, f"also seen: {pairing.labels} ({files} files, {SAID[labels]})")
    told = {path for pair in choice.pairing.pairs for path in pair} if choice.pairing else set()
    for pairing in pairings:
        files = {label for _, label in pairing.pairs}
        if pairing.labels in remarks and not files <= told:
            choice.seen.append(remarks.pop(pairing.labels))
            choice.others |= files - told
            told |= files
    return choice


def _image_points(pairing: Pairing, look: Look) -> float | None:
    """What speaks for the first files to be images; None if they cannot be."""
    said = words(pairing.image_words)
    named_label = any(map(_labels, said))
    named_image = any(word.startswith(IMAGES) for word in said) and not any(word in NO_IMAGES for word in said)
    # Drawn pictures and dark ones have as few values as labels; then names must tell.
    if look not in PICTURES or (PICTURES[look] < 0 and not named_image) or (look != "photo" and named_label):
        return None
    points = PICTURES[look] + 4 * any(word.startswith(IMAGES) for word in said) - 0.01 * len(pairing.image_words)
    return points - 16 * any(word in NO_IMAGES for word in said) - 16 * named_label


def _label_points(pairing: Pairing) -> float:
    said = words(pairing.label_words)
    points = 6 if any(map(_labels, said)) else 0
    points -= 3 * bool(re.search(r"[Tt]rain_?[Ii]ds?", pairing.label_words))
    version = re.search(r"\bv(\d+\.\d+)\b", pairing.label_words)
    points += min(float(version[1]), 9) / 9 if version else 0  # of two versions, the later
    return points - sum(less for word, less in LESS.items() if any(one.startswith(word) for one in said))


def _problem(folder: Path, pairing: Pairing, look: Look, sample: list[tuple[str, str]]) -> str:
    """Why the second files are no class labels, though a person might take them for some; empty if they may be."""
    said = words(pairing.label_words)
    if any(word in NO_CLASSES for word in said):
        return "by their names, they hold something else than classes"
    if look in ("photo", "deep", "unreadable"):
        return f"they are {SAID[look]}" if look != "photo" and any(word.startswith(LABELS[:5]) for word in said) else ""
    if look == "lossy":
        return "JPEG changes ids and colours: export labels as PNG" if any(map(_labels, said)) else ""
    sizes = [_sizes(folder, pair) for pair in sample]
    if differing := [size for size in sizes if size[0] != size[1]]:
        (width, height), (label_width, label_height) = differing[0]
        if len(differing) == len(sizes):
            return f"they are {label_width}x{label_height} where images are {width}x{height}"
    return ""


def _labels(word: str) -> bool:
    return word in LABELS or word.startswith(LABELS[:5])


def _sizes(folder: Path, pair: tuple[str, str]) -> list[tuple[int, int]]:
    """Width and height of both, the smaller first, since a camera's orientation may turn an image."""
    try:
        sizes = [image_size(folder / path) for path in pair]
    except DataError:
        return [(0, 0), (0, 0)]
    turned = sizes[0] == sizes[1][::-1]
    return [sizes[0], sizes[0]] if turned else sizes
