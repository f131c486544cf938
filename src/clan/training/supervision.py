"""Labels that teach nothing: said before the first iteration, since a loss of 0 says nothing."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from clan.core.errors import DataError
from clan.core.runtime import available_cores
from clan.data.checks import all_ignored
from clan.data.dataset import Dataset

LABELS_READ = 50
"""Labels that are looked at, evenly over the data set; the others only if no pixel of these is of a class."""


def shortcomings(dataset: Dataset, role: str) -> list[str]:
    """What is wrong with the labels of a data set as a whole; labels that cannot be read are left to the loader.

    Args:
        dataset: the images.
        role: what the data set is to the run, for the sentences.

    Returns:
        A sentence if no pixel has a class, or only one class occurs; where all labels were looked at, one about classes
        that never occur.
    """
    names = dataset.classes.label_space.names
    sampled = sorted(set(np.linspace(0, len(dataset) - 1, LABELS_READ).round().astype(int).tolist()))
    rest = sorted(set(range(len(dataset))) - set(sampled))
    pixels, codes, read = np.zeros(len(names), np.int64), Counter[int](), 0

    def count(index: int) -> tuple[np.ndarray, list[int]] | None:
        try:
            found = dataset.read_codes(index)
        except DataError:
            return None
        counts = np.bincount(dataset.train_ids(found).ravel(), minlength=256)[: len(names)]
        return counts, [] if counts.any() else np.unique(found).tolist()

    with ThreadPoolExecutor(available_cores()) as pool:
        parts = [sampled, *(rest[start : start + LABELS_READ] for start in range(0, len(rest), LABELS_READ))]
        for part in parts:
            for counted in filter(None, pool.map(count, part)):
                pixels += counted[0]
                codes.update(counted[1])
                read += 1
            if pixels.any():
                break
    if not read:
        return []
    if not pixels.any():
        return [f"WARNING: {all_ignored(dataset, read, codes, role)}"]
    present = [name for name, count in zip(names, pixels, strict=True) if count]
    if len(present) == 1 < len(names):
        return [f"WARNING: {present[0]} is the only class in the {read} labels of the {role} {dataset.name} looked at"]
    absent = [name for name in names if name not in present]
    if absent and read == len(dataset):
        return [f"{', '.join(absent)} never occurs in the labels of the {role} {dataset.name}"]
    return []
