"""Weights of classes from how often they occur."""

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import paddle
from paddle import Tensor

from clan.config import Config
from clan.data.datasets import Dataset
from clan.runtime import available_cores

LABELS_READ = 1000
"""Labels that are enough to know the frequencies by; more are not read."""


def count_classes(dataset: Dataset, num_classes: int) -> np.ndarray:
    """Pixels of each class, int64 [C], over the data set or, where it is large, every n-th label of it."""
    step = -(-len(dataset) // LABELS_READ)

    def count(index: int) -> np.ndarray:
        return np.bincount(dataset.read_label(index).ravel(), minlength=256)[:num_classes]

    with ThreadPoolExecutor(available_cores()) as pool:
        return np.sum(list(pool.map(count, range(0, len(dataset), step))), axis=0)


def class_weights(counts: np.ndarray, weighting: Literal["median-frequency", "sqrt-inverse"]) -> np.ndarray:
    """Median frequency / frequency of each class, or its square root; 1 where a class never occurs: float32 [C].

    Args:
        counts: pixels of each class, [C].
        weighting: which of the two.
    """
    present = counts > 0
    ratio = np.ones(len(counts))
    ratio[present] = np.median(counts[present]) / counts[present] if present.any() else 1.0
    return (ratio if weighting == "median-frequency" else np.sqrt(ratio)).astype(np.float32)


def loss_weights(config: Config, supervised: Dataset) -> Tensor | None:
    """What pixels of each class count in a run's segmentation loss, float32 [C]; None: all the same.

    Args:
        config: the run.
        supervised: the data set whose labels it learns from.
    """
    weighting = config.loss.class_weighting
    if weighting == "none":
        return None
    return paddle.to_tensor(class_weights(count_classes(supervised, config.network.num_classes), weighting))
