"""Rare-class sampling (Hoyer et al., DAFormer, CVPR 2022, section 3.2): images by a class drawn at every position."""

import numpy as np

from clan.core.errors import ConfigError
from clan.data.class_pixels import ClassPixels
from clan.data.dataset import Dataset
from clan.run.config import Config

REFERENCE_AREA = 512 * 512
"""Area in pixels of the crops that numbers of pixels are given for."""
_STREAM = 5
"""Beside two seeds and the position, what draws are seeded with; the loader has the other numbers."""


def draw_probabilities(pixels: np.ndarray, temperature: float, among: np.ndarray | None = None) -> np.ndarray:
    """Probabilities of classes: the softmax of (1 − f) / T, f being a class's share of the pixels of all classes.

    Args:
        pixels: number of pixels of each class, integers [C].
        temperature: T > 0; the smaller, the more often the rarest classes.
        among: the classes that the softmax is over, bool [C]; None: all. Those without pixels never are.

    Returns:
        float64 [C], 0 for classes that the softmax is not over.
    """
    drawn = pixels > 0 if among is None else (pixels > 0) & among
    shares = (pixels / max(int(pixels.sum()), 1)).astype(np.float32)
    # In single precision, as the authors' code: division by T makes a difference of 1e-6 of the rounding.
    rarity = (1 - shares[drawn]) / np.float32(temperature)
    weights = np.zeros(len(pixels))
    weights[drawn] = np.exp(np.float64(rarity - rarity.max(initial=0.0)))
    return weights / weights.sum() if drawn.any() else weights


class RareClass:
    """Draws a class, rare ones more often, and an image with enough pixels of it; crops are to have enough too.

    Every position has its own draw, so an image may come several times before another comes at all.

    Args:
        dataset: labelled images.
        seed: the run's seed and the number of the domain, 0 for the source and 1 for the target.
        config: the run.

    Attributes:
        needed: pixels of its class that an image, at the training size, must exceed.
        images: for each class, the indices of the images that do; empty for a class that is never drawn.
        probabilities: float64 [C], of each class.
    """

    def __init__(self, dataset: Dataset, seed: tuple[int, int], config: Config) -> None:
        self.seed = seed
        self.dataset = dataset
        self.role, domain = (("source", config.source), ("target", config.target))[seed[1]]
        self.options, self.ignored = domain.rare_class, config.ignore_label
        self.size = domain.size
        width, height = config.augmentation.crop_size or domain.size
        self.needed = self.options.pixels * width * height / REFERENCE_AREA
        self.images: list[np.ndarray] = []
        self.probabilities = np.zeros(0)

    def prepare(self, pixels: ClassPixels) -> list[str]:
        """Takes the pixels of each class in all labels, which draws depend on; call it before any of them.

        Counts are of labels as stored, and are scaled to the training size. A class of which no image has enough is
        left out of the softmax.

        Args:
            pixels: the counts of all labels of the data set.

        Returns:
            Sentences for the user about classes that are never drawn.

        Raises:
            ConfigError: no image has enough pixels of any class.
        """
        counts = pixels.counts.copy()
        counts[:, self.ignored : self.ignored + 1] = 0
        width, height = self.size
        scaled = counts * (width * height / pixels.areas)[:, None]
        self.images = [np.flatnonzero(column > self.needed) for column in scaled.T]
        reachable = np.array([len(images) > 0 for images in self.images])
        names = self.dataset.classes.label_space.names
        needed = f"more than {self.needed:,.0f} pixels at {width}×{height}"
        if not reachable.any():
            why = "" if counts.any() else ", since every pixel of their labels is ignored"
            raise ConfigError(
                f"no image of {self.dataset.name} has {needed} of any class{why}, which rare-class sampling needs: "
                f"check the labels with clan data check, or lower {self.role}.rare_class.pixels"
            )
        total = counts.sum(0)
        self.probabilities = draw_probabilities(total, self.options.temperature, reachable)
        lost = [name for name, is_lost in zip(names, (total > 0) & ~reachable, strict=True) if is_lost]
        if not lost:
            return []
        return [
            f"rare-class sampling never draws {', '.join(lost)}, since no image of {self.dataset.name} has {needed} of "
            f"it; lower {self.role}.rare_class.pixels to draw it"
        ]

    def index(self, position: int) -> int:
        """The index of the image at a position, 0…∞."""
        return self._draw(position)[1]

    def accepts(self, position: int, label: np.ndarray) -> bool:
        """Whether a crop has more than the needed share of the needed pixels of the position's class."""
        return bool(np.count_nonzero(label == self._draw(position)[0]) > self.needed * self.options.crop_share)

    def _draw(self, position: int) -> tuple[int, int]:
        """The class and the image at a position."""
        random = np.random.default_rng([*self.seed, _STREAM, position])
        drawn = int(random.choice(len(self.probabilities), p=self.probabilities))
        return drawn, int(random.choice(self.images[drawn]))
