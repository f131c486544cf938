"""The images of one split of a data set, and their labels, as its description says."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clan.config import DomainConfig
from clan.data.encodings import describe_code, read_codes
from clan.data.files import image_size, read_rgb, size_conflict
from clan.domains import CITYSCAPES_CLASSES, Classes, Description, packaged
from clan.domains.classes import UNKNOWN
from clan.domains.patterns import Pattern
from clan.errors import DataError


class Dataset:
    """The images of one split of one data set, and their labels.

    Args:
        description: what the data set is; the name of a packaged one will do.
        root: the data set's folder.
        list_file: text file of image names, relative to the image folder, one a line; None: those of the split,
            sorted.
        split: the split; without a meaning where the description knows none.
        classes: the classes that trainIds stand for.

    Raises:
        DataError: the folder or the list is missing or empty, or the list names an absent image.
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
        """The trainId of every id or colour; see `Classes.table`."""
        constraints = self._constraints()
        list_file = list_file or (root / constraints.pop("list") if "list" in constraints else None)
        self.listed = list_file is not None
        self._asked = constraints
        folder = Pattern(self.description.images).folder(constraints)
        self.image_root = root / folder
        if not self.image_root.is_dir():
            raise DataError(
                f"the {self.name} image folder {self.image_root} does not exist{self._known_splits()}: "
                "put the data set there or name its root (--data-dir, --data-dir-target, --source.root, …)"
            )
        found = find_images(self.description, root, constraints)
        self._parts = {path[len(folder) :].lstrip("/"): parts for path, parts in found.items()}
        self.names = self._listed(list_file) if list_file else self._found()
        self.stems = self._unique_stems()
        if self.labelled:
            self._check_labels_differ()

    def _constraints(self) -> dict[str, str]:
        """What the split asks of the parts of a path."""
        splits, parts = self.description.splits, Pattern(self.description.images).parts
        if splits and self.split not in splits and "split" not in parts:
            raise DataError(f"{self.name} has no split {self.split}: there are {', '.join(splits)}")
        own = {"split": self.split} if "split" in parts else {}
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

    def _listed(self, list_file: Path) -> list[str]:
        try:
            lines = list_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the list {list_file}: {error}") from None
        lines = [line.strip() for line in lines if line.strip()]
        if not lines:
            raise DataError(f"the list {list_file} is empty: write one image name a line")
        # Lists of many data sets leave out the suffix.
        stems = Counter(str(Path(name).with_suffix("")) for name in self._parts)
        by_stem = {stem: name for name in self._parts if stems[stem := str(Path(name).with_suffix(""))] == 1}
        names = [line if line in self._parts else by_stem.get(line, "") for line in lines]
        if "" in names:
            raise DataError(
                f"{list_file} names {lines[names.index('')]}, which is not in {self.image_root}: mend the list"
            )
        return names

    def part(self, indices: Sequence[int]) -> Dataset:
        """The same data set with these of its images alone."""
        part = copy.copy(self)
        part.names = [self.names[index] for index in indices]
        part.stems = [self.stems[index] for index in indices]
        return part

    def _unique_stems(self) -> list[str]:
        stems = [Path(name).stem for name in self.names]
        if len(set(stems)) == len(set(self.names)):
            return stems
        return [str(Path(name).with_suffix("")) for name in self.names]

    def _check_labels_differ(self) -> None:
        owners: dict[Path, str] = {}
        for index, name in enumerate(self.names):
            other = owners.setdefault(self.label_path(index), name)
            if other != name:
                raise DataError(
                    f"{other} and {name} of {self.image_root} share the label {self.label_path(index)}: "
                    "name what differs as a part of both patterns"
                )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labelled(self) -> bool:
        """Whether the description knows of labels at all."""
        return self.description.labels is not None

    def image_path(self, index: int) -> Path:
        """Path of image `index`."""
        return self.image_root / self.names[index]

    def label_path(self, index: int) -> Path:
        """Path of the label of image `index`, whether it exists or not.

        Raises:
            DataError: the data set has no labels.
        """
        if self.description.labels is None:
            raise DataError(f"{self.name} is described without labels: give its description a labels pattern")
        return self.root / Pattern(self.description.labels).fill(self._parts[self.names[index]])

    def find_labels(self) -> list[Path]:
        """Every label of the split, whether an image has it or not."""
        if self.description.labels is None:
            return []
        pattern = Pattern(self.description.labels)
        asked = {part: value for part, value in self._asked.items() if part in pattern.parts}
        return [self.root / path for path, _ in pattern.find(self.root, asked)]

    def has_label(self, index: int) -> bool:
        """Whether image `index` has a ground truth."""
        return self.labelled and self.label_path(index).is_file()

    @property
    def has_any_label(self) -> bool:
        """Whether any image has a ground truth."""
        return any(self.has_label(index) for index in range(len(self)))

    def stored_size(self, index: int) -> tuple[int, int]:
        """Width and height of the label of image `index`, or of the image where there is none, upright.

        Raises:
            DataError: the image lies across its label, as when EXIF turns one of them.
        """
        image = image_size(self.image_path(index))
        if not self.has_label(index):
            return image
        label = image_size(self.label_path(index))
        conflict = size_conflict(self.image_path(index), image, self.label_path(index), label)
        if conflict and label == image[::-1]:  # other sizes do no harm: label maps are made at the label's
            raise DataError(conflict)
        return label

    def read_image(self, index: int) -> Image.Image:
        """Image `index` in RGB, upright, at the size it is stored in."""
        return read_rgb(self.image_path(index))

    def read_codes(self, index: int) -> np.ndarray:
        """What the label of image `index` holds: ids, or colours as 0xRRGGBB, integers [H, W]."""
        path = self.label_path(index)
        if not path.is_file():
            raise DataError(f"{self.image_path(index)} has no label: {path} does not exist; add it or mend the pattern")
        return read_codes(path, self.description)

    def read_label(self, index: int) -> np.ndarray:
        """TrainIds of image `index`, uint8 [H, W] at the size it is stored in; 255 where ignored.

        Raises:
            DataError: the file is missing, damaged, or holds what the description does not name.
        """
        codes = self.read_codes(index)
        train_ids = self.train_ids(codes)
        if self.description.ignore != "rest" and (strays := train_ids == UNKNOWN).any():
            first = int(codes[strays][0])
            raise DataError(
                f"label {self.label_path(index)} holds {describe_code(first, self.description)} in "
                f"{np.count_nonzero(codes == first):,} pixels, which {self.name} gives no class: "
                "name it under classes, under ignore, or write ignore: rest"
            )
        return train_ids

    def train_ids(self, codes: np.ndarray) -> np.ndarray:
        """TrainIds of what `read_codes` gave, uint8 of the same shape; `UNKNOWN` for what is not described."""
        return cv2.LUT(codes, self.table[:256]) if codes.dtype == np.uint8 else self.table[codes]

    def read_pair(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Image and trainIds of sample `index`.

        Raises:
            DataError: a file is missing or damaged, or the two differ in size.
        """
        image, label = self.read_image(index), self.read_label(index)
        shape = (label.shape[1], label.shape[0])
        if conflict := size_conflict(self.image_path(index), image.size, self.label_path(index), shape):
            raise DataError(conflict)
        return image, label


def open_domain(domain: DomainConfig, classes: Classes) -> Dataset:
    """The images that a run sees of one domain."""
    return Dataset(domain.dataset, domain.root, list_file=domain.list_file, split=domain.split, classes=classes)


def find_images(description: Description, root: Path, constraints: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Paths of images below the root, sorted, each with the values of its parts.

    The labels of others are left out, which a pattern of images may well match where both lie together.
    """
    found = dict(Pattern(description.images).find(root, constraints))
    if description.labels is None:
        return found
    labels = {Pattern(description.labels).fill(parts) for parts in found.values()}
    return {path: parts for path, parts in found.items() if path not in labels}


def find_splits(description: Description, root: Path) -> list[str]:
    """The splits that a data set has: those described, and those that its folders or names show."""
    found = set()
    if "split" in Pattern(description.images).parts:
        found = {parts["split"] for parts in find_images(description, root, {}).values()}
    return list(dict.fromkeys([*sorted(found), *description.splits]))
