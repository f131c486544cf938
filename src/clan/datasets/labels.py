"""Label spaces: classes, their colours, and maps from the ids of data sets to trainIds.

Source of the Cityscapes tables: labels.py of cityscapesScripts; of the SYNTHIA table: the official CLAN code
(https://github.com/RoyalVane/CLAN).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

IGNORE = 255
"""The trainId of pixels excluded from losses and scores."""


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a task, in the order of their trainIds.

    Args:
        names: class names; the index is the trainId.
        colors: one RGB triple, 0…255, per class.
        subsets: name of a mean IoU → the trainIds to average.

    Raises:
        ValueError: the numbers of names and colours differ.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    subsets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.colors):
            raise ValueError(f"{len(self.names)} names but {len(self.colors)} colours")

    @property
    def num_classes(self) -> int:
        """Number of classes C; valid trainIds are 0…C−1."""
        return len(self.names)

    def palette(self) -> list[int]:
        """768 numbers for `PIL.Image.putpalette`: the class colours, then black."""
        flat = [channel for color in self.colors for channel in color]
        return flat + [0] * (768 - len(flat))

    def colorize(self, train_ids: np.ndarray) -> np.ndarray:
        """Colours a label map: trainIds, uint8 [H, W] → uint8 RGB [H, W, 3]."""
        return np.asarray(self.palette(), np.uint8).reshape(256, 3)[train_ids]


def lookup_table(id_to_train_id: Mapping[int, int]) -> np.ndarray:
    """uint8 [256]: the trainId of every 8-bit id; `IGNORE` for ids that are not in the map."""
    table = np.full(256, IGNORE, np.uint8)
    for label_id, train_id in id_to_train_id.items():
        table[label_id] = train_id
    return table


SYNTHIA_TO_TRAIN_ID: Mapping[int, int] = {
    3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9,
    1: 10, 10: 11, 17: 12, 8: 13, 18: 14, 19: 15, 20: 16, 12: 17, 11: 18,
}  # fmt: skip
"""SYNTHIA-RAND-CITYSCAPES class → trainId; every other class is ignored."""

CITYSCAPES_TO_TRAIN_ID: Mapping[int, int] = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9,
    23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""Cityscapes (and GTA5) id → trainId; every other id is ignored."""

CITYSCAPES = LabelSpace(
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "light", "sign", "vegetation", "terrain",
        "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    colors=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
    subsets={
        "mIoU-19": tuple(range(19)),
        "mIoU-16": (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18),
        "mIoU-13": (0, 1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18),
    },
)  # fmt: skip
"""The 19 classes of the Cityscapes benchmark. SYNTHIA is scored on 16 and 13 of these classes."""
