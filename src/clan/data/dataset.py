"""The images and labels of one split of a data set, found and read by its description."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clan.core.errors import DataError
from clan.data.encodings import describe_code, read_codes
from clan.data.image_files import image_size, missing, read_rgb, size_conflict
from clan.data.lists import ImageIndex, choose, read_lines, repeated
from clan.datasets import CITYSCAPES_CLASSES, Classes, Description, packaged
from clan.datasets.classes import UNKNOWN
from clan.datasets.description import split_names
from clan.datasets.patterns import Pattern, escape_glob
from clan.run.config import DomainConfig

_pattern = cache(Pattern)


class Dataset:
    """The images and labels of one split of a data set.

    Args:
        description: the description, or the name of a packaged one.
        root: the data set's folder.
        list_file: text file with one image per line, in the formats of `clan.data.lists`; None: all images of the
            split, sorted.
        split: the split; ignored if the description has none.
        classes: the classes that trainIds stand for.

    Raises:
        DataError: the folder or the list is missing or empty, or the list names an absent image.

    Attributes:
        names: paths of the images below `image_root`, in order.
        stems: names of result files, one per image, unique.
        table: uint8, the trainId of every id or colour; see `Classes.table`.
        remarks: sentences for the user about the list.
    """

    def __init__(
        self,
        description: str | Description,
        root: Path,
        *,
        list_file: Path | None = None,
        split: str = "train",
        classes: Classes = CITYSCAPES_CLASSES,
    ) -> None:
        self.description = packaged(description) if isinstance(description, str) else description
        self.classes = classes
        self.name = self.description.name
        self.root = root
        self.split = split
        self.table = classes.table(self.description)
        constraints = self._constraints()
        every, without = int(constraints.pop("every", "1")), split_names(constraints.pop("without", ""))
        if list_file:
            every, without = 1, []  # an explicit list overrides the split's selection
        list_file = list_file or (root / constraints.pop("list") if "list" in constraints else None)
        self.listed = list_file is not None
        self._part_globs = constraints
        folder = _pattern(self.description.images).folder(constraints)
        self.image_root = root / folder
        if not self.image_root.is_dir():
            raise DataError(
                f"the {self.name} image folder {self.image_root} does not exist{self._known_splits()}: "
                "put the data set there or name its folder with --root"
            )
        found = find_images(self.description, root, constraints)
        self._parts = {path[len(folder) :].lstrip("/"): parts for path, parts in found.items()}
        self.remarks: list[str] = []
        self.names = self._found()
        self._label_paths = self._possible_labels()
        if list_file:
            self.names = self._listed(list_file, folder)
        self.names = self._excluding(without)[::every]
        self.stems = self._unique_stems()
        if self.labelled:
            self._check_labels_differ()

    def _constraints(self) -> dict[str, str]:
        """The split's shell pattern for each part of an image path, with `list`, `every` and `without`."""
        splits, parts = self.description.splits, _pattern(self.description.images).parts
        if splits and self.split not in splits and "split" not in parts:
            raise DataError(f"{self.name} has no split {self.split}: there are {', '.join(splits)}")
        own = {"split": escape_glob(self.split)} if "split" in parts else {}
        return own | splits.get(self.split, {})

    def _known_splits(self) -> str:
        splits = find_splits(self.description, self.root)
        return f" ({self.name} has the splits {', '.join(splits)})" if splits else ""

    def _found(self) -> list[str]:
        names = list(self._parts)
        if not names:
            raise DataError(
                f"{self.image_root} holds no image matching {self.description.images}{self._known_splits()}: "
                "is it the right folder?"
            )
        return names

    def _listed(self, list_file: Path, folder: str) -> list[str]:
        labels, start = self.description.labels, f"{folder}/" if folder else ""
        known = ImageIndex(
            {
                f"{start}{name}": self._label(name).relative_to(self.root).as_posix() if labels else None
                for name in self.names
            },
            folder=folder,
            label_folder=_pattern(labels).folder(self._part_globs) if labels else "",
            list_folder=os.path.relpath(list_file.parent, self.root).replace(os.sep, "/"),
            roots=tuple(dict.fromkeys(path.as_posix() for path in (self.root.absolute(), self.root.resolve()))),
        )
        lines = read_lines(list_file)
        try:
            chosen = choose(lines, known)
        except DataError as error:
            raise DataError(f"{list_file} does not fit {self.image_root}: {error}") from None
        if remark := repeated(chosen):
            self.remarks.append(f"{list_file}: {remark}")
        return [path.removeprefix(start) for path in chosen]

    def _excluding(self, without: Sequence[str]) -> list[str]:
        """The names of the images that are in none of these splits."""
        others = [Dataset(self.description, self.root, split=split, classes=self.classes) for split in without]
        taken = {other.image_path(index) for other in others for index in range(len(other))}
        left = [name for name in self.names if self.image_root / name not in taken]
        if not left:
            raise DataError(
                f"split {self.split} of {self.name} is empty without the images of {', '.join(without)}: "
                "exclude fewer splits"
            )
        return left

    def part(self, indices: Sequence[int]) -> Dataset:
        """A copy of the data set that holds only these images."""
        part = copy.copy(self)
        part.names = [self.names[index] for index in indices]
        part.stems = [self.stems[index] for index in indices]
        return part

    def _unique_stems(self) -> list[str]:
        """Names of result files: the shortest of file name, path without suffix and path that is unique for all."""
        count = len(set(self.names))
        for shorten in (lambda name: Path(name).stem, lambda name: str(Path(name).with_suffix(""))):
            stems = [shorten(name) for name in self.names]
            if len(set(stems)) == count:
                return stems
        return list(self.names)

    def _check_labels_differ(self) -> None:
        """Refuses images with two labels, and shared labels unless the images pattern lists the differing values."""
        owners: dict[Path, str] = {}
        listed = _pattern(self.description.images).choices
        for index, name in enumerate(self.names):
            paths = self._label_paths[name]
            if len(paths) > 1 and len(several := [path for path in paths if path.is_file()]) > 1:
                raise DataError(f"{self.image_path(index)} has two labels, {several[0]} and {several[1]}: remove one")
            label = self.label_path(index)
            if (other := owners.setdefault(label, name)) == name:
                continue
            first, second = self._parts[other], self._parts[name]
            differing = [part for part in first if first[part] != second[part]]
            if not differing or not set(differing) <= set(listed):
                part = differing[0] if differing else "part"
                values = f"{first.get(part, 'a')}|{second.get(part, 'b')}"
                raise DataError(
                    f"{other} and {name} of {self.image_root} share the label {label}: add the difference as a part of "
                    "both patterns; if the label belongs to both images, list its values in images: "
                    f"{{{part}:{values}}}"
                )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labelled(self) -> bool:
        """Whether the description has a labels pattern."""
        return self.description.labels is not None

    def image_path(self, index: int) -> Path:
        """The path of image `index`."""
        return self.image_root / self.names[index]

    def label_path(self, index: int) -> Path:
        """The path of the label of image `index`; the file may be missing.

        Raises:
            DataError: the description has no labels pattern.
        """
        if not self.labelled:
            raise DataError(f"the description of {self.name} has no labels: add a labels pattern")
        return self._label(self.names[index])

    def _label(self, name: str) -> Path:
        paths = self._label_paths[name]
        return next((path for path in paths[1:] if path.is_file()), paths[0])

    def _possible_labels(self) -> dict[str, list[Path]]:
        """The paths that the label of each image can have, by name: several if the labels pattern lists values."""
        if self.description.labels is None:
            return {}
        pattern = _pattern(self.description.labels)
        return {name: [self.root / path for path in pattern.fills(self._parts[name])] for name in self.names}

    def find_labels(self) -> list[Path]:
        """The paths of all label files of the split, including those without an image."""
        if self.description.labels is None:
            return []
        pattern = _pattern(self.description.labels)
        constraints = {part: value for part, value in self._part_globs.items() if part in pattern.parts}
        return [self.root / path for path, _ in pattern.find(self.root, constraints)]

    def has_label(self, index: int) -> bool:
        """Whether the label file of image `index` exists."""
        return self.labelled and self.label_path(index).is_file()

    @property
    def has_any_label(self) -> bool:
        """Whether any image has a label file."""
        return any(self.has_label(index) for index in range(len(self)))

    def stored_size(self, index: int) -> tuple[int, int]:
        """Width and height of the upright label of image `index`, or of the image if it has no label.

        Raises:
            DataError: width and height of image and label are swapped, such as by an EXIF orientation.
        """
        image = image_size(self.image_path(index))
        if not self.has_label(index):
            return image
        label = image_size(self.label_path(index))
        conflict = size_conflict(self.image_path(index), image, self.label_path(index), label)
        if conflict and label == image[::-1]:  # other sizes are allowed: predictions are made at the label's size
            raise DataError(conflict)
        return label

    def image_size(self, index: int) -> tuple[int, int]:
        """Width and height of upright image `index`."""
        return image_size(self.image_path(index))

    def read_image(self, index: int) -> Image.Image:
        """Image `index` as upright 8-bit RGB, at its stored size."""
        return read_rgb(self.image_path(index))

    def read_codes(self, index: int) -> np.ndarray:
        """The label of image `index` as stored: ids, or colours as 0xRRGGBB, integers [H, W].

        Raises:
            DataError: the file is missing, damaged or stored in another way than described.
        """
        path = self.label_path(index)
        if not path.is_file():
            if path.is_symlink():
                raise missing(path)
            raise DataError(
                f"{self.image_path(index)} has no label: {path} does not exist; add it or correct the labels pattern"
            )
        return read_codes(path, self.description)

    def read_label(self, index: int) -> np.ndarray:
        """TrainIds of image `index`, uint8 [H, W] at the stored size; 255 where ignored.

        Raises:
            DataError: the file is missing, damaged, or holds ids or colours that the description does not name.
        """
        codes = self.read_codes(index)
        train_ids = self.train_ids(codes)
        if self.description.ignore != "rest" and (strays := train_ids == UNKNOWN).any():
            first = int(codes[strays][0])
            mixed = " (smoothed edges and JPEG make such colours)" if self.description.encoding == "colors" else ""
            raise DataError(
                f"label {self.label_path(index)} holds {describe_code(first, self.description)} in "
                f"{np.count_nonzero(codes == first):,} pixels, which is not in the description of {self.name}: "
                f"add it to classes or ignore, or write ignore: rest{mixed}"
            )
        return train_ids

    def train_ids(self, codes: np.ndarray) -> np.ndarray:
        """Maps the result of `read_codes` to trainIds, uint8 of the same shape; `UNKNOWN` for undescribed codes."""
        return cv2.LUT(codes, self.table[:256]) if codes.dtype == np.uint8 else self.table[codes]

    def read_pair(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Reads image `index`, RGB, and its trainIds, uint8 [H, W].

        Raises:
            DataError: a file is missing or damaged, or the two differ in size.
        """
        image, label = self.read_image(index), self.read_label(index)
        shape = (label.shape[1], label.shape[0])
        if conflict := size_conflict(self.image_path(index), image.size, self.label_path(index), shape):
            raise DataError(conflict)
        return image, label


def open_domain(domain: DomainConfig, classes: Classes) -> Dataset:
    """The data set of one domain of a run."""
    return Dataset(domain.dataset, domain.root, list_file=domain.list_file, split=domain.split, classes=classes)


def find_images(description: Description, root: Path, constraints: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Finds the images of a data set.

    Label files are excluded: the images pattern may match them if both are in one folder.

    Returns:
        Paths below the root, sorted, each with the values of its parts.
    """
    found = dict(_pattern(description.images).find(root, constraints))
    if description.labels is None:
        return found
    pattern = _pattern(description.labels)
    labels = {path for parts in found.values() for path in pattern.fills(parts)}
    return {path: parts for path, parts in found.items() if path not in labels}


def find_splits(description: Description, root: Path) -> list[str]:
    """The splits of a data set: the values of `{split}` in its image paths, then those of its description."""
    found = set()
    if "split" in _pattern(description.images).parts:
        found = {parts["split"] for parts in find_images(description, root, {}).values()}
    return list(dict.fromkeys([*sorted(found), *description.splits]))
