"""Checks every file of a data set and collects its statistics."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clan.core.errors import DataError
from clan.core.runtime import available_cores
from clan.data.dataset import Dataset
from clan.data.encodings import describe_code
from clan.data.image_files import LossyLabel, read_photograph, size_conflict
from clan.data.pixel_checks import SUSPICIOUS, mixtures, sameness
from clan.data.rare_class import draw_probabilities
from clan.datasets.classes import UNKNOWN, as_number, placeholders
from clan.datasets.labels import IGNORE
from clan.run.config import RareClassConfig

_REMEDY = (
    "look at the contact sheet; 16-bit files are scaled by 65535, so state the camera's bits in the file if it has "
    "fewer, or save 8 bits with one scale for all images"
)
REMARKS = {
    **dict.fromkeys(sorted(SUSPICIOUS), _REMEDY),
    "turned upright by EXIF": "their labels must be upright too",
    "transparent in places": "transparency is ignored and the colours below it are used",
}
"""Remarks about usable images, each with advice."""
SHOWN = 12
"""Maximum number of ids or colours in a sentence."""
MOST_STRAYS = 10_000
"""Maximum number of undescribed ids or colours that are listed one by one, the most frequent."""


@dataclass
class Stray:
    """An id or colour in labels that the description does not name.

    Args:
        pixels: number of its pixels.
        files: number of labels that contain it.
        first: name of the first image with such a label.
    """

    pixels: int = 0
    files: int = 0
    first: str = ""


@dataclass
class Findings:
    """Problems and statistics of a data set.

    Args:
        names: class names by trainId.
        pixels: int64 [C], number of pixels of each class.
        holders: int64 [C], number of labels with at least one pixel of each class.
        images: number of images.
        labels: number of labels that were read.
        problems: a sentence for each file or pair of files that cannot be used.
        strays: ids or colours in labels that the description does not name, by "7" or "#804080".
        ignored: number of ignored pixels.
        sizes: number of images of each (width, height).
        sums: float64 [2, 3], sums of red, green and blue (0…255) and of their squares.
        orphans: paths of labels without an image.
        unnamed: classes with placeholder names.
        list_remarks: sentences about the image list or the whole split.
        remarks: names of the images with each remark; see `REMARKS`.
    """

    names: tuple[str, ...]
    pixels: np.ndarray
    holders: np.ndarray
    images: int = 0
    labels: int = 0
    problems: list[str] = field(default_factory=list)
    strays: dict[str, Stray] = field(default_factory=dict)
    ignored: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))
    orphans: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    list_remarks: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether a run can use every file."""
        return not self.problems and not self.strays and not self.unnamed

    @property
    def frequencies(self) -> np.ndarray:
        """Share of each class among the pixels of all classes, float64 [C]; zeros if there are none."""
        return self.pixels / max(int(self.pixels.sum()), 1)

    @property
    def probabilities(self) -> np.ndarray:
        """Probability that rare-class sampling at its default temperature draws each class, float64 [C]."""
        return draw_probabilities(self.pixels, RareClassConfig().temperature)

    @property
    def mean(self) -> np.ndarray:
        """Mean of red, green and blue over all pixels, float64 [3], range 0…255."""
        return self.sums[0] / max(self._total, 1)

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of red, green and blue over all pixels, float64 [3]."""
        return np.sqrt(np.maximum(self.sums[1] / max(self._total, 1) - self.mean**2, 0))

    @property
    def _total(self) -> int:
        return sum(width * height * count for (width, height), count in self.sizes.items())

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON values."""
        return {
            "ok": self.ok,
            "images": self.images,
            "labels": self.labels,
            "problems": self.problems,
            "unknown": {code: vars(stray) for code, stray in self.strays.items()},
            "labels_without_image": self.orphans,
            "unnamed_classes": self.unnamed,
            "list": self.list_remarks,
            "remarks": self.remarks,
            "classes": {
                name: {
                    "pixels": int(pixels),
                    "share": float(share),
                    "images": int(holders),
                    "rare_class_probability": float(probability),
                }
                for name, pixels, share, holders, probability in zip(
                    self.names, self.pixels, self.frequencies, self.holders, self.probabilities, strict=True
                )
            },
            "ignored_pixels": self.ignored,
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.most_common()},
            "mean": [round(float(value), 4) for value in self.mean],
            "std": [round(float(value), 4) for value in self.std],
        }


@dataclass
class _Sample:
    """Problems and statistics of one image and its label; strays are codes and their numbers of pixels."""

    problems: list[str]
    size: tuple[int, int] | None = None
    sums: np.ndarray | None = None
    train_ids: np.ndarray | None = None
    strays: tuple[np.ndarray, np.ndarray] | None = None
    codes: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    lossy: str = ""


class _Strays:
    """Undescribed ids or colours of all labels, in arrays by code: photographs taken for labels have millions.

    Args:
        codes: number of possible codes.

    Attributes:
        pixels: int64, number of pixels of each code.
        files: int32, number of labels that contain it.
        first: int32, index of the first such label, from 1.
        found: whether there are any.
    """

    def __init__(self, codes: int) -> None:
        self.pixels = np.zeros(codes, np.int64)
        self.files, self.first = np.zeros((2, codes), np.int32)
        self.found = False

    def add(self, index: int, codes: np.ndarray, pixels: np.ndarray) -> None:
        """Adds the codes of label `index`, each once."""
        self.found = True
        self.pixels[codes] += pixels
        self.files[codes] += 1
        self.first[codes[self.first[codes] == 0]] = index + 1


def check(dataset: Dataset, on_image: Callable[[], None] = lambda: None) -> Findings:
    """Reads every image and label of a data set, on all cores.

    Args:
        dataset: the data set.
        on_image: called in this thread after each image.
    """
    names = dataset.classes.label_space.names
    pixels, holders = np.zeros((2, len(names)), np.int64)
    findings = Findings(names, pixels, holders, images=len(dataset), list_remarks=[*dataset.remarks])
    findings.unnamed = placeholders(dict.fromkeys([*dataset.description.classes, *dataset.classes.owners]))
    codes = Counter[int]()
    # A split without any label is valid, such as a benchmark's test split.
    labelled = dataset.has_any_label
    # Threads suffice: decoding and counting release the GIL.
    strays = _Strays(len(dataset.table))
    lossy: list[str] = []
    with ThreadPoolExecutor(available_cores()) as pool:
        for index, sample in enumerate(pool.map(lambda index: _read(dataset, index, labelled), range(len(dataset)))):
            _add(findings, dataset.names[index], sample)
            codes.update(sample.codes)
            if sample.strays:
                strays.add(index, *sample.strays)
            lossy += [sample.lossy] if sample.lossy else []
            on_image()
    if lossy:
        findings.problems.append(lossy[0] + (f" ({len(lossy)} labels of {len(dataset)})" if len(lossy) > 1 else ""))
    if findings.labels and not findings.pixels.any() and not strays.found:
        if dataset.split.lower().startswith("test") and dataset.description.has_splits:
            # Benchmarks that keep their test split's ground truth publish labels without a class in its place.
            findings.list_remarks.append("every pixel of this split's labels is ignored: there is nothing to score")
        else:
            findings.problems.append(all_ignored(dataset, findings.labels, codes))
    if strays.found:
        _sort_out(findings, strays, dataset)
    findings.orphans = sorted(_orphans(dataset))
    return findings


def frequent_codes(codes: np.ndarray) -> list[int]:
    """The most frequent ids or colours of a label, at most 256: photographs taken for labels have far more."""
    found, counts = np.unique(codes, return_counts=True)
    return found[np.argsort(-counts, kind="stable")[:256]].tolist()


def all_ignored(dataset: Dataset, labels: int, codes: Counter[int], role: str = "data set") -> str:
    """The message about labels whose pixels are all ignored.

    Args:
        dataset: the images.
        labels: number of labels read.
        codes: number of labels that contain each id or colour, of each label's `frequent_codes`.
        role: role of the data set, such as "training set".
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
        f"classes take {expected}; check that these are the right labels, then correct classes or encoding"
    )


def _read(dataset: Dataset, index: int, labelled: bool) -> _Sample:
    sample = _Sample(problems=[])
    try:
        photograph = read_photograph(dataset.image_path(index))
        sample.size = photograph.image.size
        histogram = np.asarray(photograph.image.histogram(), np.float64).reshape(3, 256)
        values = np.arange(256.0)
        sample.sums = np.stack([histogram @ values, histogram @ values**2])
        alike = sameness(histogram)
        sample.remarks += [alike] if alike else []
        sample.remarks += ["turned upright by EXIF"] if photograph.orientation != 1 else []
        sample.remarks += ["transparent in places"] if photograph.transparent else []
    except DataError as error:
        sample.problems.append(str(error))
    if labelled:
        _read_label(dataset, index, sample)
    return sample


def _read_label(dataset: Dataset, index: int, sample: _Sample) -> None:
    try:
        codes = dataset.read_codes(index)
    except LossyLabel as error:
        sample.lossy = str(error)
        return
    except DataError as error:
        sample.problems.append(str(error))
        return
    if sample.size:
        shape = (codes.shape[1], codes.shape[0])
        conflict = size_conflict(dataset.image_path(index), sample.size, dataset.label_path(index), shape)
        sample.problems += [conflict] if conflict else []
    train_ids = dataset.train_ids(codes)
    sample.train_ids = np.bincount(train_ids.ravel(), minlength=256)
    if not sample.train_ids[: len(dataset.classes.classes)].any():
        sample.codes = frequent_codes(codes)
    if dataset.description.ignore != "rest" and sample.train_ids[UNKNOWN]:
        sample.strays = np.unique(codes[train_ids == UNKNOWN], return_counts=True)


def _add(findings: Findings, name: str, sample: _Sample) -> None:
    findings.problems += sample.problems
    for remark in sample.remarks:
        findings.remarks.setdefault(remark, []).append(name)
    if sample.size is not None and sample.sums is not None:
        findings.sizes[sample.size] += 1
        findings.sums += sample.sums
    if sample.train_ids is not None:
        findings.labels += 1
        counts = sample.train_ids[: len(findings.pixels)]
        findings.pixels += counts
        findings.holders += counts > 0
        findings.ignored += int(sample.train_ids[IGNORE])


def _sort_out(findings: Findings, strays: _Strays, dataset: Dataset) -> None:
    """Records undescribed ids and colours one by one, and colours caused by smoothing in one sentence."""
    description = dataset.description
    codes = np.flatnonzero(strays.pixels)
    pixels = strays.pixels[codes]
    total = int(findings.pixels.sum()) + findings.ignored + int(pixels.sum())

    def told(some: np.ndarray) -> tuple[str, str]:
        share, first = 100 * strays.pixels[some].sum() / total, strays.first[some].min() - 1
        kind = "colours" if description.encoding == "colors" else "ids"
        return f"{len(some):,} {kind} in {share:.3g} % of the labels' pixels are", f"first in {dataset.names[first]}"

    if description.encoding == "colors":
        ignored = description.ignore if description.ignore != "rest" else ()
        known = {as_number(key) for keys in (*description.classes.values(), ignored) for key in keys}
        mixed = mixtures(codes, pixels, known, total)
        if mixed.any():
            what, first = told(codes[mixed])
            findings.problems.append(
                f"{what} mixtures of described colours: the labels were smoothed, resized or saved as JPEG; export "
                f"them without anti-aliasing, or write ignore: rest to ignore these pixels; {first}"
            )
        codes = codes[~mixed]
    if len(codes) > MOST_STRAYS:
        what, first = told(codes)
        findings.problems.append(
            f"{what} not in the description: check that the labels pattern does not lead to photographs or depth maps; "
            f"{first}"
        )
        codes = np.sort(codes[np.argsort(-strays.pixels[codes], kind="stable")[:MOST_STRAYS]])
    findings.strays = {
        describe_code(code, description).strip('"'): Stray(
            int(strays.pixels[code]), int(strays.files[code]), dataset.names[strays.first[code] - 1]
        )
        for code in codes.tolist()
    }


def _orphans(dataset: Dataset) -> Iterator[str]:
    """The paths of the split's labels without an image, relative to the root."""
    if not dataset.labelled or dataset.listed:
        return
    expected = {str(dataset.label_path(index)) for index in range(len(dataset))}
    images = {str(dataset.image_path(index)) for index in range(len(dataset))}
    for path in dataset.find_labels():
        if str(path) not in expected and str(path) not in images:
            yield os.path.relpath(path, dataset.root)
