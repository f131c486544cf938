"""Published scores on Cityscapes val, IoU in %."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from clan.datasets import CITYSCAPES_CLASSES, Classes, packaged
from clan.datasets.labels import CITYSCAPES, LabelSpace


class Published(NamedTuple):
    """One published result."""

    name: str
    mean: str  # name of the mean
    value: float  # the mean in %
    iou: tuple[float, ...] = ()  # of every class of the mean in % by trainId; empty: not published
    remark: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the mean's classes."""
        return tuple(CITYSCAPES.names[train_id] for train_id in CITYSCAPES.subsets[self.mean])

    def of(self, name: str) -> float:
        """Returns the IoU of a class, 0…1, or NaN."""
        return self.iou[self.classes.index(name)] / 100 if self.iou and name in self.classes else math.nan


FIGURES: Mapping[str, tuple[Published, ...]] = {
    "synthia": (
        Published(
            *("source only, paper", "mIoU-13", 38.6),
            (55.6, 23.8, 74.6, 6.1, 12.1, 74.8, 79.0, 55.3, 19.1, 39.6, 23.3, 13.7, 25.0),
        ),
        Published(
            *("CLAN, paper", "mIoU-13", 47.8),
            (81.3, 37.0, 80.1, 16.1, 13.7, 78.2, 81.5, 53.4, 21.2, 73.0, 32.9, 22.6, 30.7),
        ),
        Published(
            *("CLAN, Paddle 2.1 port", "mIoU-13", 45.59),
            (84.04, 40.78, 79.03, 11.14, 6.48, 80.12, 82.78, 56.07, 22.32, 66.71, 25.51, 12.89, 28.14),
            "its published classes average 45.85",
        ),
    ),
    "gta5": (
        Published("source only, paper", "mIoU-19", 36.6),
        Published("CLAN, paper", "mIoU-19", 43.2),
        Published("CLAN, Paddle 2.1 port", "mIoU-19", 42.2),
        Published("CLAN, official code's log, best of a run", "mIoU-19", 43.68),
        Published("CLAN, official code's log, last of that run", "mIoU-19", 41.32),
    ),
}
"""Published results by source data set."""

IMAGES = 500
"""Number of images of Cityscapes val."""


def comparable(
    source: str, dataset: Mapping[str, Any], images: int, space: LabelSpace = CITYSCAPES
) -> tuple[Published, ...]:
    """Returns the published results on the same images and classes; empty unless all of Cityscapes val was evaluated.

    Args:
        source: name of the run's source data set.
        dataset: "name" and "split" of the evaluated data set, and its "classes"; merged ones match no published figure.
        images: number of evaluated images.
        space: the scored classes.
    """
    whole = dataset.get("name") == "cityscapes" and dataset.get("split") == "val" and images == IMAGES
    means = {name: tuple(space.names[train_id] for train_id in subset) for name, subset in space.subsets.items()}
    comparable = whole and not _merged(dataset.get("classes", CITYSCAPES_CLASSES))
    return tuple(
        figure for figure in FIGURES.get(source, ()) if comparable and means.get(figure.mean) == figure.classes
    )


def _merged(classes: Any) -> bool:
    """Whether classes, as `scores.json` has them, take pixels of several of Cityscapes'; so too if they are damaged."""
    try:
        owners = Classes.model_validate(classes).owners
    except ValueError:
        return True
    taken = [owners[name] for name in packaged("cityscapes").classes if name in owners]
    return len({*taken}) < len(taken)
