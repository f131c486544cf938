"""Labels of a run's training set: class weights, and warnings about labels that cannot train the network."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import paddle
from paddle import Tensor

from clan.core.errors import DataError
from clan.core.runtime import available_cores
from clan.data.checks import all_ignored, frequent_codes
from clan.data.dataset import Dataset
from clan.run.config import Config
from clan.training.statistics import count_with_progress

COUNTED = 1000
"""Largest number of labels, evenly spaced, that class frequencies are counted in."""
CHECKED = 50
"""Labels, evenly spaced, that are checked before training; the others only if these have no pixel of any class."""


def count_classes(dataset: Dataset, *, tolerate: int = 0, notify: Callable[[str], None] = print) -> np.ndarray:
    """Counts the pixels of each class in up to `COUNTED` labels.

    Args:
        dataset: labelled data set.
        tolerate: unreadable labels that are left out; each is reported to `notify`.
        notify: receives sentences for the user.

    Returns:
        int64 [C].

    Raises:
        DataError: more labels are unreadable.
    """
    indices = range(0, len(dataset), -(-len(dataset) // COUNTED))
    return count_with_progress(dataset, tolerate=tolerate, what="class weights", notify=notify, indices=indices).total


def class_weights(counts: np.ndarray, weighting: Literal["median-frequency", "sqrt-inverse"]) -> np.ndarray:
    """Returns median frequency / frequency of each class, or its square root; 1 for absent classes.

    Args:
        counts: pixels of each class, [C].
        weighting: "sqrt-inverse" takes the square root.

    Returns:
        float32 [C].
    """
    present = counts > 0
    ratio = np.ones(len(counts))
    ratio[present] = np.median(counts[present]) / counts[present] if present.any() else 1.0
    return (ratio if weighting == "median-frequency" else np.sqrt(ratio)).astype(np.float32)


def loss_weights(config: Config, supervised: Dataset, notify: Callable[[str], None] = print) -> Tensor | None:
    """Returns the class weights of a run's segmentation loss, float32 [C], or None for equal weights.

    Args:
        config: the run.
        supervised: data set whose labels are trained on.
        notify: receives sentences for the user.

    Raises:
        DataError: more labels are unreadable than the run tolerates.
    """
    weighting = config.loss.class_weighting
    if weighting == "none":
        return None
    counts = count_classes(supervised, tolerate=config.tolerate_bad_samples, notify=notify)
    return paddle.to_tensor(class_weights(counts, weighting))


def shortcomings(dataset: Dataset, role: str) -> list[str]:
    """Checks labels before the first iteration, since a loss of 0 does not show what is wrong.

    Args:
        dataset: labelled data set; unreadable labels are left to the loader.
        role: "training set", "validation set" or "--target-labels images of", for the sentences.

    Returns:
        A sentence if no pixel has a class or only one class occurs, or, if all labels were checked, about absent
        classes; else an empty list.
    """
    names = dataset.classes.label_space.names
    sampled = sorted(set(np.linspace(0, len(dataset) - 1, CHECKED).round().astype(int).tolist()))
    rest = sorted(set(range(len(dataset))) - set(sampled))
    parts = [sampled, *(rest[start : start + CHECKED] for start in range(0, len(rest), CHECKED))]
    pixels, codes, read = _count_until_any(dataset, parts)
    if not read:
        return []
    if not pixels.any():
        return [f"WARNING: {all_ignored(dataset, read, codes, role)}"]
    absent = [name for name, count in zip(names, pixels, strict=True) if not count]
    if len(absent) == len(names) - 1 > 0:
        present = names[int(pixels.argmax())]
        return [f"WARNING: {present} is the only class in the {read} labels of the {role} {dataset.name} looked at"]
    if absent and read == len(dataset):
        return [f"{', '.join(absent)} never occurs in the labels of the {role} {dataset.name}"]
    return []


def _count_until_any(dataset: Dataset, parts: Sequence[Sequence[int]]) -> tuple[np.ndarray, Counter[int], int]:
    """Counts pixels by class, int64 [C], ids of labels without a class, and labels read, part by part.

    Stops after the first part in which a pixel has a class.
    """
    num_classes = len(dataset.classes.label_space.names)
    pixels, codes, read = np.zeros(num_classes, np.int64), Counter[int](), 0

    def count(index: int) -> tuple[np.ndarray, list[int]] | None:
        try:
            found = dataset.read_codes(index)
        except DataError:
            return None
        counts = np.bincount(dataset.train_ids(found).ravel(), minlength=256)[:num_classes]
        return counts, [] if counts.any() else frequent_codes(found)

    with ThreadPoolExecutor(available_cores()) as pool:
        for part in parts:
            for counts, unknown in filter(None, pool.map(count, part)):
                pixels += counts
                codes.update(unknown)
                read += 1
            if pixels.any():
                break
    return pixels, codes, read
