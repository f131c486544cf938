"""Intersection over union (IoU), per class and averaged, as defined by the Cityscapes benchmark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clan.datasets.labels import LabelSpace


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a set of predictions. The arrays are read-only.

    Args:
        names: the C class names, by trainId.
        confusion: int64 [C, C]; rows are the ground truth, columns the prediction.
        iou: float64 [C], 0…1; NaN for a class that never occurs.
        means: mean IoU by name, 0…1 or NaN, such as "mIoU-19", "mIoU-16", "mIoU-13".
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    iou: np.ndarray
    means: Mapping[str, float]


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """The IoU of every class: diagonal / (row + column − diagonal).

    Args:
        confusion: integers [C, C].

    Returns:
        float64 [C], 0…1; NaN for a class that occurs neither in the ground truth nor in the prediction.
    """
    intersection = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - intersection
    absent = np.full(len(confusion), np.nan)
    return np.divide(intersection, union, out=absent, where=union > 0)


def mean_iou(ious: np.ndarray, subset: Sequence[int] | None = None) -> float:
    """The mean IoU of the classes that occur, 0…1; NaN if none occurs.

    Args:
        ious: float64 [C], NaN for absent classes.
        subset: the trainIds to average over; None for all.
    """
    chosen = ious if subset is None else ious[list(subset)]
    present = chosen[~np.isnan(chosen)]
    return float(present.mean()) if present.size else math.nan


def score(confusion: np.ndarray, label_space: LabelSpace) -> Scores:
    """Computes the scores of a confusion matrix.

    Args:
        confusion: int64 [C, C]; rows are the ground truth.
        label_space: the classes; the means are taken over its subsets, or over all classes ("mIoU") without subsets.
    """
    confusion = confusion.copy()
    iou = iou_per_class(confusion)
    subsets = label_space.subsets or {"mIoU": range(label_space.num_classes)}
    means = {name: mean_iou(iou, subset) for name, subset in subsets.items()}
    confusion.flags.writeable = iou.flags.writeable = False
    return Scores(names=label_space.names, confusion=confusion, iou=iou, means=means)


HEADLINES = {"gta5": "mIoU-19", "synthia": "mIoU-13"}
"""Source data set → the mean IoU that publications report."""


def headline(source: str, means: Mapping[str, float]) -> str:
    """The name of the mean IoU that decides the best snapshot.

    Returns:
        `HEADLINES` of the source if all 19 classes are scored, else the first mean, over all classes.
    """
    usual = HEADLINES.get(source, "")
    return usual if {usual, "mIoU-19"} <= means.keys() else next(iter(means))
