"""Sampling strategies: the image at each position and the accepted crops, as functions of seed and position."""

from typing import Protocol

import numpy as np

from clan.data.dataset import Dataset
from clan.datasets.labels import IGNORE
from clan.run.config import Config

CROP_TRIES = 10
"""Maximum number of crops drawn per image; the last one is always accepted."""


class Sampling(Protocol):
    """A strategy of sampling one domain."""

    def index(self, position: int) -> int:
        """The index of the image at a position, 0…∞."""
        ...

    def accepts(self, position: int, label: np.ndarray) -> bool:
        """Whether the crop with this label, uint8 [H, W], is accepted; otherwise another one is drawn."""
        ...


class Uniform:
    """Every image once per epoch, in a new random order per epoch or in list order.

    Args:
        length: number of images.
        seed: the run's seed and the domain's.
        shuffle: random order.
    """

    def __init__(self, length: int, seed: tuple[int, int], *, shuffle: bool) -> None:
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self._order: tuple[int, np.ndarray] | None = None

    def index(self, position: int) -> int:
        """The index of the image at a position, 0…∞."""
        epoch, offset = divmod(position, self.length)
        if not self.shuffle:
            return offset
        cached = self._order  # read once: another thread may replace it
        if cached is None or cached[0] != epoch:
            cached = epoch, np.random.default_rng([*self.seed, 0, epoch]).permutation(self.length)
            self._order = cached
        return int(cached[1][offset])

    def accepts(self, position: int, label: np.ndarray) -> bool:
        """Accepts every crop."""
        return True


def largest_share(label: np.ndarray, ignored: int) -> float:
    """The share of the most frequent class among the labelled pixels, 0…1; 1 if there is at most one class.

    Args:
        label: trainIds, uint8 [H, W].
        ignored: the trainId to ignore beside 255.
    """
    counts = np.bincount(label.ravel(), minlength=256)
    counts[[ignored, IGNORE]] = 0
    return float(counts.max() / counts.sum()) if np.count_nonzero(counts) > 1 else 1.0


def uniform(dataset: Dataset, seed: tuple[int, int], config: Config) -> Uniform:
    """Builds the uniform strategy of a run."""
    return Uniform(len(dataset), seed, shuffle=config.shuffle)
