"""Intersection over union, per class and averaged. Source: SPEC section 6."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clan.datasets.labels import LabelSpace


@dataclass(frozen=True, eq=False)
class Scores:
    """What a set of predictions is worth. Its arrays are read-only.

    Args:
        names: the C class names, by trainId.
        confusion: int64 [C, C]; rows are the truth, columns the prediction.
        iou: float64 [C], 0…1; NaN for a class that never occurs.
        means: mean IoU by name, 0…1 or NaN, such as "mIoU-19", "mIoU-16", "mIoU-13".
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    iou: np.ndarray
    means: Mapping[str, float]


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of every class: diagonal / (row + column − diagonal).

    Args:
        confusion: integers [C, C].

    Returns:
        float64 [C], 0…1; NaN for a class that occurs neither in the truth nor in the prediction.
    """
    intersection = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - intersection
    absent = np.full(len(confusion), np.nan)
    return np.divide(intersection, union, out=absent, where=union > 0)


def mean_iou(ious: np.ndarray, subset: Sequence[int] | None = None) -> float:
    """Mean over the classes that occur, 0…1; NaN if none does.

    Args:
        ious: float64 [C], NaN for absent classes.
        subset: the trainIds to average over; None for all.
    """
    chosen = ious if subset is None else ious[list(subset)]
    present = chosen[~np.isnan(chosen)]
    return float(present.mean()) if present.size else math.nan


def score(confusion: np.ndarray, label_space: LabelSpace) -> Scores:
    """Every figure that is reported of a confusion matrix, int64 [C, C].

    The means are those over the subsets of the label space; without subsets, one "mIoU" over all.
    """
    confusion = confusion.copy()
    iou = iou_per_class(confusion)
    subsets = label_space.subsets or {"mIoU": range(label_space.num_classes)}
    means = {name: mean_iou(iou, subset) for name, subset in subsets.items()}
    confusion.flags.writeable = iou.flags.writeable = False
    return Scores(names=label_space.names, confusion=confusion, iou=iou, means=means)


HEADLINES = {"gta5": "mIoU-19", "synthia": "mIoU-13"}
"""The mean that publications of a source give."""


def headline(source: str, means: Mapping[str, float]) -> str:
    """The mean that runs from a source are judged by: the usual one with all 19 classes, else that of all classes."""
    usual = HEADLINES.get(source, "")
    return usual if {usual, "mIoU-19"} <= means.keys() else next(iter(means))
