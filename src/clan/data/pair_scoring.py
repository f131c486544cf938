"""Scores pairings of files to find images and their class labels: by pixels, path words, sizes and file counts."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from clan.core.errors import DataError
from clan.data.file_kinds import KIND_NAMES, FileKind, most_common_kind
from clan.data.image_files import image_size
from clan.data.pairing import Pairing

SAMPLES = 4
"""Number of pairs opened per pairing."""

FEWEST = 0.1
"""Minimum number of labels of a pairing, as a share of the largest pairing's."""

LABEL_KINDS = {"ids": 40, "channel": 32, "colors": 22, "smooth": 14, "numbers": 6}
"""Points of a label file by its kind: ids are preferred to the colours drawn from them."""

IMAGE_KINDS = {"photo": 14, "deep": 6, "lossy": 2, "smooth": 1, "colors": -5, "ids": -5}
"""Points of an image file by its kind."""

NO_CLASSES = (
    "inst", "instance", "instances", "panoptic", "pan", "depth", "depths", "disp", "disparity", "flow", "optical",
    "normals", "bbox", "boxes", "confidence", "uncertainty", "inv", "bitmasks", "stereo", "lidar",
)  # fmt: skip
"""Path words of maps other than semantic labels."""

LABELS = ("label", "semantic", "sem", "seg", "mask", "gt", "class", "annot", "annotation", "annotations", "truth", "id",
          "ids", "anno")  # fmt: skip
PENALTIES = {
    **dict.fromkeys(("drivable", "lane", "part", "edge", "normal", "coarse", "pred"), 12),
    **{"object": 8, "color": 6, "colour": 6, "vis": 6, "rgb": 6, "no": 4},
}
"""Points subtracted for path words of secondary labels."""
IMAGES = ("image", "img", "rgb", "left", "photo", "jpeg", "camera", "color", "frame", "stills")
NO_IMAGES = (
    *NO_CLASSES, *LABELS, "ref", "right", "overlay", "overlays", "blend", "blended", "preview", "thumb", "thumbnails",
    "vis", "viz", "nir", "evi", "ndvi", "ir", "thermal", "lwir", "nrg",
)  # fmt: skip


@dataclass
class Choice:
    """The chosen pairing of images and labels.

    Args:
        pairing: the best pairing; None if no labels were found.
        seen: a sentence for every other kind of label, usable or not.
        others: paths of unused labels.
    """

    pairing: Pairing | None = None
    seen: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)


def words(text: str) -> list[str]:
    """The words of a path, in lower case: `gtFine_labelIds` → gt, fine, label, ids."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)]


def shows_no_image(text: str) -> bool:
    """Whether a path's words exclude the image that labels belong to."""
    return any(word in NO_IMAGES or _is_label(word) for word in words(text))


def choose_labels(folder: Path, pairings: list[Pairing]) -> Choice:
    """Chooses the pairing with the highest score, if any has usable labels.

    Args:
        folder: the data set's folder.
        pairings: the candidates, see `find_pairings`.
    """
    numbers = [len({label for _, label in pairing.pairs}) for pairing in pairings]
    most = max(numbers, default=0)
    choice = Choice()
    rated: list[tuple[float, Pairing, FileKind, FileKind]] = []
    remarks: dict[str, str] = {}
    for pairing, count in zip(pairings, numbers, strict=True):
        if count < FEWEST * most:
            continue
        sample = pairing.pairs[:: max(1, len(pairing.pairs) // SAMPLES)][:SAMPLES]
        images = most_common_kind([folder / image for image, _ in sample])
        labels = most_common_kind([folder / label for _, label in sample])
        points = _image_points(pairing, images)
        if points is None or images == labels == "photo":
            continue
        if problem := _problem(folder, pairing, labels, sample):
            remarks.setdefault(pairing.labels, f"not used: {pairing.labels} ({count} files): {problem}")
            continue
        if labels in LABEL_KINDS:
            points += LABEL_KINDS[labels] + _label_points(pairing) + 20 * count / most
            rated.append((points, pairing, images, labels))
    rated.sort(key=lambda item: -item[0])
    if rated:
        _, choice.pairing, pictures, _ = rated[0]
        question = f"images hold {KIND_NAMES[pictures]} as labels do: are they label maps?"
        choice.seen += [question] * _resembles_labels(pictures)
    for _, pairing, _, labels in rated[1:]:
        files = len({label for _, label in pairing.pairs})
        remarks.setdefault(pairing.labels, f"also seen: {pairing.labels} ({files} files, {KIND_NAMES[labels]})")
    mentioned = {path for pair in choice.pairing.pairs for path in pair} if choice.pairing else set()
    for pairing in pairings:
        files = {label for _, label in pairing.pairs}
        if pairing.labels in remarks and not files <= mentioned:
            choice.seen.append(remarks.pop(pairing.labels))
            choice.others |= files - mentioned
            mentioned |= files
    return choice


def _resembles_labels(images: FileKind) -> bool:
    """Whether the images of a pairing are stored as labels are."""
    return IMAGE_KINDS[images] < 0


def _image_points(pairing: Pairing, kind: FileKind) -> float | None:
    """The score of a pairing's images; None if they cannot be images."""
    found = words(pairing.image_words)
    named_label, named_image = any(map(_is_label, found)), any(word.startswith(IMAGES) for word in found)
    excluded = any(word in NO_IMAGES for word in found)
    # Drawn and dark images have as few values as labels: path words must identify them.
    if (
        kind not in IMAGE_KINDS
        or (IMAGE_KINDS[kind] < 0 and (excluded or not named_image))
        or (kind != "photo" and named_label)
    ):
        return None
    return IMAGE_KINDS[kind] + 4 * named_image - 0.01 * len(pairing.image_words) - 16 * excluded - 16 * named_label


def _label_points(pairing: Pairing) -> float:
    found = words(pairing.label_words)
    points = 6 if any(map(_is_label, found)) else 0
    points -= 3 * bool(re.search(r"[Tt]rain_?[Ii]ds?", pairing.label_words))
    version = re.search(r"\bv(\d+\.\d+)\b", pairing.label_words)
    points += min(float(version[1]), 9) / 9 if version else 0  # prefer the later version
    return points - sum(less for word, less in PENALTIES.items() if any(one.startswith(word) for one in found))


def _problem(folder: Path, pairing: Pairing, kind: FileKind, sample: list[tuple[str, str]]) -> str:
    """Why files named like labels are not usable as class labels; empty if they are usable or not named so."""
    found = words(pairing.label_words)
    if any(word in NO_CLASSES for word in found):
        return "their names say that they do not hold classes"
    if kind in ("photo", "deep", "unreadable"):
        named = kind != "photo" and any(word.startswith(LABELS[:5]) for word in found)
        return f"they are {KIND_NAMES[kind]}" if named else ""
    if kind == "lossy":
        return "JPEG changes ids and colours: export labels as PNG" if any(map(_is_label, found)) else ""
    sizes = [_sizes(folder, pair) for pair in sample]
    if differing := [size for size in sizes if size[0] != size[1]]:
        (width, height), (label_width, label_height) = differing[0]
        if len(differing) == len(sizes):
            return f"they are {label_width}x{label_height} where images are {width}x{height}"
    return ""


def _is_label(word: str) -> bool:
    return word in LABELS or word.startswith(LABELS[:5])


def _sizes(folder: Path, pair: tuple[str, str]) -> list[tuple[int, int]]:
    """Width and height of image and label; equal if they differ only by a rotation, which EXIF may cause."""
    try:
        sizes = [image_size(folder / path) for path in pair]
    except DataError:
        return [(0, 0), (0, 0)]
    turned = sizes[0] == sizes[1][::-1]
    return [sizes[0], sizes[0]] if turned else sizes
