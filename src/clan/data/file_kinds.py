"""Classifies image files by their pixels: photograph, or labels and their encoding."""

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from clan.core.errors import DataError
from clan.data.encodings import read_codes, stored_mode
from clan.data.image_files import open_image, read_channels
from clan.datasets import Description
from clan.datasets.description import Encoding

FileKind = Literal["photo", "deep", "ids", "numbers", "channel", "colors", "smooth", "lossy", "unreadable"]
"""deep: 16 bits and many values, such as depth or photographs · numbers: ids over 255, such as instance ids · channel:
ids in one of three channels · smooth: few colours with blended edges · lossy: flat areas stored as JPEG."""

KIND_NAMES: dict[FileKind, str] = {
    "photo": "pictures", "deep": "16-bit values", "ids": "ids", "numbers": "16-bit numbers",
    "channel": "ids in a channel", "colors": "colours", "smooth": "colours with smoothed edges", "lossy": "JPEG",
    "unreadable": "unreadable",
}  # fmt: skip

MOST_VALUES = 80
"""Maximum number of distinct values of a label; photographs have more."""

FLAT, FLAT_JPEG = 0.85, 0.6
"""Share of pixels above which an image is no photograph: of the frequent colours; equal to their neighbour (JPEG)."""


def most_common_kind(paths: list[Path]) -> FileKind:
    """The most common kind of some files."""
    kinds: list[FileKind] = [kind_of(path) for path in paths]
    return Counter(kinds).most_common(1)[0][0]


@lru_cache(maxsize=4096)
def kind_of(path: Path) -> FileKind:
    """The kind of one file, by its pixels and suffix."""
    try:
        mode, bits = stored_mode(path)
        if path.suffix.lower() in (".jpg", ".jpeg"):
            return "lossy" if _flat(np.asarray(open_image(path).convert("RGB"))) else "photo"
        if mode not in ("RGB", "RGBA"):
            values = np.unique(np.asarray(open_image(path)))
            wide = bits == 16 or mode in ("I", "F")
            if len(values) > MOST_VALUES:
                return "deep" if wide else "photo"
            return "numbers" if wide and values[-1] > 255 else "ids"
        if bits == 16:
            channels = read_channels(path)
            few = any(len(np.unique(channels[:, :, number])) <= MOST_VALUES for number in range(3))
            return "channel" if few else "deep"
        codes, counts = np.unique(read_codes(path, probe("colors")), return_counts=True)
    except DataError:
        return "unreadable"
    if len(codes) > MOST_VALUES:
        frequent = np.sort(counts)[::-1][: MOST_VALUES // 2]
        return "smooth" if frequent.sum() > FLAT * counts.sum() else "photo"
    channels = np.stack([codes >> 16, codes >> 8 & 255, codes & 255])
    varying = sum(len(np.unique(channel)) > 1 for channel in channels)
    grey = (channels == channels[0]).all()
    return "channel" if grey or (varying < 2 and (channels == 0).all(axis=1).sum() == 2) else "colors"


def _flat(rgb: np.ndarray) -> bool:
    """Whether most pixels of an image, uint8 [H, W, 3], are similar to their left neighbour."""
    steps = np.abs(np.diff(rgb.astype(np.int16), axis=1)).max(axis=-1)
    return bool(steps.size) and float((steps <= 2).mean()) > FLAT_JPEG


def probe(encoding: Encoding) -> Description:
    """A description for reading labels whose classes are unknown."""
    key = "#000000" if encoding == "colors" else 0
    return Description.model_validate(
        {"name": "proposal", "images": "{name}.png", "labels": "{name}.png", "encoding": encoding,
         "classes": {"class": key}, "ignore": "rest"}
    )  # fmt: skip


def stored_as(sample: list[Path]) -> tuple[Encoding, int]:
    """The encoding of some labels and their bits per channel."""
    _, bits = stored_mode(sample[0])
    if not {"colors", "channel", "smooth"} & set(map(kind_of, sample)):
        return "ids", bits
    names: tuple[Encoding, ...] = ("red", "green", "blue")
    channels = [np.concatenate([read_codes(path, probe(name)).ravel() for path in sample]) for name in names]
    grey = all(np.array_equal(channels[0], channel) for channel in channels)
    varying = [number for number, channel in enumerate(channels) if len(np.unique(channel)) > 1]
    if grey or not varying:
        return "red", bits
    if bits == 16 or (
        len(varying) == 1 and all(number in varying or not channels[number].any() for number in range(3))
    ):
        # Another channel may hold instance ids, which are higher than class ids.
        return names[min(varying, key=lambda number: int(channels[number].max()))], bits
    return "colors", bits
