"""The three classic data sets: where their files lie and what their labels mean (SPEC section 5)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clan.data.files import read_id_label, read_rgb, read_synthia_label
from clan.errors import DataError
from clan.labels import CITYSCAPES_TO_TRAIN_ID, SYNTHIA_TO_TRAIN_ID, lookup_table


@dataclass(frozen=True)
class Layout:
    """How a data set is stored.

    Args:
        image_folder: folder of the images below the root; may contain `{split}`.
        pattern: glob of the images below that folder.
        label_path: image name (relative to the image folder) and split → label path below the root.
        read_label: label file → uint8 ids [H, W].
        id_to_train_id: id → trainId; ids not in it are ignored.
    """

    image_folder: str
    pattern: str
    label_path: Callable[[str, str], str]
    read_label: Callable[[Path], np.ndarray]
    id_to_train_id: Mapping[int, int]


def _cityscapes_label(name: str, split: str) -> str:
    return f"gtFine/{split}/{name.replace('_leftImg8bit', '_gtFine_labelIds')}"


LAYOUTS: Mapping[str, Layout] = {
    "synthia": Layout("RGB", "*.png", lambda name, _: f"GT/LABELS/{name}", read_synthia_label, SYNTHIA_TO_TRAIN_ID),
    "gta5": Layout("images", "*.png", lambda name, _: f"labels/{name}", read_id_label, CITYSCAPES_TO_TRAIN_ID),
    "cityscapes": Layout(
        "leftImg8bit/{split}",
        "*/*_leftImg8bit.png",
        _cityscapes_label,
        read_id_label,
        CITYSCAPES_TO_TRAIN_ID,
    ),
}


class Dataset:
    """The images of one split of one data set, and their labels.

    Args:
        name: a key of `LAYOUTS`.
        root: the data set's folder.
        list_file: text file of image names relative to the image folder; None: all images there, sorted.
        split: the split, for layouts that have one.

    Raises:
        DataError: the folder or the list is missing or empty, or the list names an absent image.
    """

    def __init__(self, name: str, root: Path, *, list_file: Path | None = None, split: str = "train") -> None:
        self.name = name
        self.layout = LAYOUTS[name]
        self.root = root
        self.split = split
        self.image_root = root / self.layout.image_folder.format(split=split)
        self._table = lookup_table(self.layout.id_to_train_id)
        if not self.image_root.is_dir():
            raise DataError(
                f"the {name} image folder {self.image_root} does not exist: "
                "put the data set there or name its root (--data-dir, --data-dir-target, --source.root, …)"
            )
        self.names = self._listed(list_file) if list_file else self._found()

    def _found(self) -> list[str]:
        names = sorted(
            path.relative_to(self.image_root).as_posix() for path in self.image_root.glob(self.layout.pattern)
        )
        if not names:
            raise DataError(f"{self.image_root} holds no image matching {self.layout.pattern}: is it the right folder?")
        return names

    def _listed(self, list_file: Path) -> list[str]:
        try:
            lines = list_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the list {list_file}: {error}") from None
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise DataError(f"the list {list_file} is empty: write one image name a line")
        for name in names:
            if not (self.image_root / name).is_file():
                raise DataError(f"{list_file} names {name}, which is not in {self.image_root}: mend the list")
        return names

    def part(self, names: Sequence[str]) -> "Dataset":
        """The same data set with these of its images alone."""
        part = copy.copy(self)
        part.names = list(names)
        return part

    def __len__(self) -> int:
        return len(self.names)

    def image_path(self, index: int) -> Path:
        """Path of image `index`."""
        return self.image_root / self.names[index]

    def label_path(self, index: int) -> Path:
        """Path of the label of image `index`, whether it exists or not."""
        return self.root / self.layout.label_path(self.names[index], self.split)

    def read_image(self, index: int) -> Image.Image:
        """Image `index` in RGB, at the size it is stored in."""
        return read_rgb(self.image_path(index))

    def read_label(self, index: int) -> np.ndarray:
        """TrainIds of image `index`, uint8 [H, W] at the size it is stored in; 255 where ignored."""
        return cv2.LUT(self.layout.read_label(self.label_path(index)), self._table)

    def read_pair(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Image and trainIds of sample `index`.

        Raises:
            DataError: a file is missing or damaged, or the two differ in size.
        """
        image, label = self.read_image(index), self.read_label(index)
        if image.size != label.shape[::-1]:
            raise DataError(
                f"{self.image_path(index)} is {image.width}x{image.height} but its label "
                f"{self.label_path(index)} is {label.shape[1]}x{label.shape[0]}: they must agree"
            )
        return image, label
