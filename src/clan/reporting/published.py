"""Published figures on Cityscapes val, IoU in % (SPEC section 8)."""

from collections.abc import Mapping
from typing import NamedTuple


class Published(NamedTuple):
    """One published result.

    Args:
        name: whose.
        mean: which mean it is.
        value: that mean, in %.
    """

    name: str
    mean: str
    value: float


FIGURES: Mapping[str, tuple[Published, ...]] = {
    "synthia": (
        Published("source only, paper", "mIoU-13", 38.6),
        Published("CLAN, paper", "mIoU-13", 47.8),
        Published("CLAN, PaddlePaddle 2.1 port", "mIoU-13", 45.59),
    ),
    "gta5": (
        Published("source only, paper", "mIoU-19", 36.6),
        Published("CLAN, paper", "mIoU-19", 43.2),
        Published("CLAN, PaddlePaddle 2.1 port", "mIoU-19", 42.2),
        Published("CLAN, official code's log, best of a run", "mIoU-19", 43.68),
        Published("CLAN, official code's log, last of that run", "mIoU-19", 41.32),
    ),
}
"""By source data set."""

IMAGES = 500
"""Images of Cityscapes val."""


def comparable(source: str, dataset: Mapping[str, str], images: int) -> tuple[Published, ...]:
    """The figures that an evaluation may be compared with; none unless it was of all of Cityscapes val.

    Args:
        source: name of the run's source data set.
        dataset: name and split of what was evaluated.
        images: how many.
    """
    whole = dataset.get("name") == "cityscapes" and dataset.get("split") == "val" and images == IMAGES
    return FIGURES.get(source, ()) if whole else ()
