"""Which image comes at which position, and which crops of it are taken: pure functions of the seed and the position."""

from typing import Protocol

import numpy as np

from clan.data.dataset import Dataset
from clan.run.config import Config

CROP_TRIES = 10
"""Crops that are drawn of an image before the last one is taken as it is."""


class Sampling(Protocol):
    """A strategy of sampling one domain."""

    def index(self, position: int) -> int:
        """The image at an endless position."""
        ...

    def accepts(self, position: int, label: np.ndarray) -> bool:
        """Whether a crop of that image is taken, by its label, uint8 [H, W]; other crops are drawn until one is."""
        ...


class Uniform:
    """Every image once per pass over the data, in a random order of its own per pass or in the list's.

    Args:
        length: images.
        seed: two numbers, the run's seed and the domain's.
        shuffle: draw the order.
    """

    def __init__(self, length: int, seed: tuple[int, int], *, shuffle: bool) -> None:
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self._order: tuple[int, np.ndarray] | None = None

    def index(self, position: int) -> int:
        """The image at an endless position."""
        epoch, offset = divmod(position, self.length)
        if not self.shuffle:
            return offset
        cached = self._order  # read once: threads may replace it meanwhile
        if cached is None or cached[0] != epoch:
            cached = epoch, np.random.default_rng([*self.seed, 0, epoch]).permutation(self.length)
            self._order = cached
        return int(cached[1][offset])

    def accepts(self, position: int, label: np.ndarray) -> bool:
        """Every crop is taken."""
        return True


def largest_share(label: np.ndarray, ignored: int) -> float:
    """The share of the most frequent class among labelled pixels, 0…1; 1 where there is at most one class.

    Args:
        label: trainIds, uint8 [H, W].
        ignored: the trainId that does not count.
    """
    counts = np.bincount(label.ravel(), minlength=256)
    counts[ignored] = 0
    return float(counts.max() / counts.sum()) if np.count_nonzero(counts) > 1 else 1.0


def uniform(dataset: Dataset, seed: tuple[int, int], config: Config) -> Uniform:
    """The uniform strategy for a run."""
    return Uniform(len(dataset), seed, shuffle=config.shuffle)
