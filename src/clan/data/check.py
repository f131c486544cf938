"""Looking at every file of a data set: what is wrong, and what there is."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clan.data.datasets import Dataset
from clan.data.encodings import describe_code
from clan.data.files import read_rgb
from clan.domains.classes import UNKNOWN, as_number, placeholders
from clan.errors import DataError
from clan.labels import IGNORE
from clan.runtime import available_cores

SHOWN = 12
"""Ids or colours that a sentence lists."""


@dataclass
class Stray:
    """An id or a colour that labels hold and the description does not name."""

    pixels: int = 0
    files: int = 0
    first: str = ""


@dataclass
class Findings:
    """What is known of a data set when every file of it has been read.

    Args:
        names: names of the classes, by trainId.
        images: number of images.
        labels: number of images whose label was read too.
        problems: a sentence for each file, or pair of files, that cannot be used.
        strays: what labels hold beyond the description, as "7" or "#804080".
        pixels: int64 [C], pixels of each class.
        ignored: pixels that are ignored.
        sizes: how many images have each width and height.
        sums: float64 [2, 3], sums of red, green and blue and of their squares.
        orphans: labels that no image belongs to.
        unnamed: classes of the description whose names are placeholders.
        remarks: sentences about the list of images.
    """

    names: tuple[str, ...]
    pixels: np.ndarray
    images: int = 0
    labels: int = 0
    problems: list[str] = field(default_factory=list)
    strays: dict[str, Stray] = field(default_factory=dict)
    ignored: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))
    orphans: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether a run can use every file as it is."""
        return not self.problems and not self.strays and not self.unnamed

    @property
    def frequencies(self) -> np.ndarray:
        """Share of each class among the pixels of all of them, float64 [C]; zeros where there are none."""
        return self.pixels / max(int(self.pixels.sum()), 1)

    @property
    def mean(self) -> np.ndarray:
        """Mean of red, green and blue over all pixels, float64 [3], 0…255."""
        return self.sums[0] / max(self._total, 1)

    @property
    def std(self) -> np.ndarray:
        """Deviation of red, green and blue over all pixels, float64 [3]."""
        return np.sqrt(np.maximum(self.sums[1] / max(self._total, 1) - self.mean**2, 0))

    @property
    def _total(self) -> int:
        return sum(width * height * count for (width, height), count in self.sizes.items())

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "ok": self.ok,
            "images": self.images,
            "labels": self.labels,
            "problems": self.problems,
            "unknown": {code: vars(stray) for code, stray in self.strays.items()},
            "labels_without_image": self.orphans,
            "unnamed_classes": self.unnamed,
            "remarks": self.remarks,
            "classes": {
                name: {"pixels": int(pixels), "share": float(share)}
                for name, pixels, share in zip(self.names, self.pixels, self.frequencies, strict=True)
            },
            "ignored_pixels": self.ignored,
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.most_common()},
            "mean": [round(float(value), 4) for value in self.mean],
            "std": [round(float(value), 4) for value in self.std],
        }


@dataclass
class _Sample:
    """What reading one pair gave."""

    problems: list[str]
    size: tuple[int, int] | None = None
    sums: np.ndarray | None = None
    train_ids: np.ndarray | None = None
    strays: dict[str, int] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)


def check(dataset: Dataset, on_image: Callable[[], None] = lambda: None) -> Findings:
    """Reads every image and every label of a data set, in all cores.

    Args:
        dataset: what to read.
        on_image: called after each image, in this thread.
    """
    names = dataset.classes.label_space.names
    findings = Findings(names, np.zeros(len(names), np.int64), images=len(dataset), remarks=dataset.remarks)
    findings.unnamed = placeholders(dict.fromkeys([*dataset.description.classes, *dataset.classes.owners]))
    codes = Counter[int]()
    # A split without any label, such as a benchmark's own test split, is meant to have none.
    labelled = dataset.has_any_label
    # Threads suffice: decoding and counting release Python's lock.
    with ThreadPoolExecutor(available_cores()) as pool:
        for name, sample in zip(
            dataset.names, pool.map(lambda index: _read(dataset, index, labelled), range(len(dataset))), strict=True
        ):
            _add(findings, name, sample)
            codes.update(sample.codes)
            on_image()
    if findings.labels and not findings.pixels.any() and not findings.strays:
        findings.problems.append(all_ignored(dataset, findings.labels, codes))
    findings.orphans = sorted(_orphans(dataset))
    return findings


def all_ignored(dataset: Dataset, labels: int, codes: Counter[int], role: str = "data set") -> str:
    """The sentence about labels that no class takes a pixel of.

    Args:
        dataset: the images.
        labels: how many labels were read.
        codes: in how many of them each id or colour occurs.
        role: what the data set is to its user.
    """
    description, owners = dataset.description, dataset.classes.owners
    keys = [as_number(key) for name, keys in description.classes.items() if name in owners for key in keys]
    found, expected = (
        ", ".join([describe_code(code, description) for code in some[:SHOWN]] + ["…"] * (len(some) > SHOWN))
        or "nothing"
        for some in ([code for code, _ in codes.most_common()], sorted(keys))
    )
    return (
        f"every pixel of the {labels} labels of the {role} {dataset.name} is ignored: they hold {found}, but the "
        f"classes take {expected}; are these the right labels? If so, mend the ids under classes, or the encoding"
    )


def _read(dataset: Dataset, index: int, labelled: bool) -> _Sample:
    sample = _Sample(problems=[])
    try:
        image = read_rgb(dataset.image_path(index))
        sample.size = image.size
        histogram = np.asarray(image.histogram(), np.float64).reshape(3, 256)
        values = np.arange(256.0)
        sample.sums = np.stack([histogram @ values, histogram @ values**2])
    except DataError as error:
        sample.problems.append(str(error))
    if not labelled:
        return sample
    try:
        codes = dataset.read_codes(index)
    except DataError as error:
        sample.problems.append(str(error))
        return sample
    if sample.size and sample.size != codes.shape[::-1]:
        sample.problems.append(
            f"{dataset.image_path(index)} is {sample.size[0]}x{sample.size[1]} but its label "
            f"{dataset.label_path(index)} is {codes.shape[1]}x{codes.shape[0]}: they must agree"
        )
    train_ids = dataset.train_ids(codes)
    sample.train_ids = np.bincount(train_ids.ravel(), minlength=256)
    if not sample.train_ids[: len(dataset.classes.classes)].any():
        sample.codes = np.unique(codes).tolist()
    if dataset.description.ignore != "rest" and sample.train_ids[UNKNOWN]:
        found, counts = np.unique(codes[train_ids == UNKNOWN], return_counts=True)
        sample.strays = {
            describe_code(int(code), dataset.description).strip('"'): int(count)
            for code, count in zip(found, counts, strict=True)
        }
    return sample


def _add(findings: Findings, name: str, sample: _Sample) -> None:
    findings.problems += sample.problems
    if sample.size is not None and sample.sums is not None:
        findings.sizes[sample.size] += 1
        findings.sums += sample.sums
    if sample.train_ids is not None:
        findings.labels += 1
        findings.pixels += sample.train_ids[: len(findings.pixels)]
        findings.ignored += int(sample.train_ids[IGNORE])
    for code, pixels in sample.strays.items():
        stray = findings.strays.setdefault(code, Stray(first=name))
        stray.pixels += pixels
        stray.files += 1


def _orphans(dataset: Dataset) -> Iterator[str]:
    """Labels in the folders of those that images have, but without an image."""
    if not dataset.labelled or dataset.listed:
        return
    expected = {str(dataset.label_path(index)) for index in range(len(dataset))}
    images = {str(dataset.image_path(index)) for index in range(len(dataset))}
    for path in dataset.find_labels():
        if str(path) not in expected and str(path) not in images:
            yield os.path.relpath(path, dataset.root)
