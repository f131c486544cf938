"""Weights of classes from how often they occur."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import paddle
from paddle import Tensor

from clan.core.errors import DataError
from clan.core.runtime import available_cores
from clan.data.dataset import Dataset
from clan.data.loader import too_many
from clan.run.config import Config

LABELS_READ = 1000
"""Labels that are enough to know the frequencies by; more are not read."""


def count_classes(
    dataset: Dataset, num_classes: int, *, tolerate: int = 0, notify: Callable[[str], None] = print
) -> np.ndarray:
    """Pixels of each class, int64 [C], over the data set or, where it is large, every n-th label of it.

    Args:
        dataset: the images.
        num_classes: C.
        tolerate: labels that cannot be read and are left out; `notify` hears of each.
        notify: takes sentences for the user.

    Raises:
        DataError: more labels than that cannot be read.
    """
    step = -(-len(dataset) // LABELS_READ)

    def count(index: int) -> np.ndarray | DataError:
        try:
            return np.bincount(dataset.read_label(index).ravel(), minlength=256)[:num_classes]
        except DataError as error:
            return error

    counts, bad = np.zeros(num_classes, np.int64), 0
    with ThreadPoolExecutor(available_cores()) as pool:
        for found in pool.map(count, range(0, len(dataset), step)):
            if isinstance(found, DataError):
                bad += 1
                if bad > tolerate:
                    raise too_many(str(found), tolerate)
                notify(f"left out of the class weights: {found}")
            else:
                counts += found
    return counts


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


def loss_weights(config: Config, supervised: Dataset, notify: Callable[[str], None] = print) -> Tensor | None:
    """What pixels of each class count in a run's segmentation loss, float32 [C]; None: all the same.

    Args:
        config: the run.
        supervised: the data set whose labels it learns from.
        notify: takes sentences for the user.

    Raises:
        DataError: more labels than the run tolerates cannot be read.
    """
    weighting = config.loss.class_weighting
    if weighting == "none":
        return None
    counts = count_classes(supervised, config.network.num_classes, tolerate=config.tolerate_bad_samples, notify=notify)
    return paddle.to_tensor(class_weights(counts, weighting))
