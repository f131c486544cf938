"""Paired, endless, resumable sampling of both domains.

Which sample comes at which position, and how it is augmented, is a pure function of the seed and the
position. So the order never depends on the number of workers, and a run resumes anywhere without replaying.

Workers are threads: decoding, resizing and the array arithmetic all release Python's global lock, samples reach
the trainer without a copy, and there is neither shared memory to run out of nor a process to lose.
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from clan.config import AugmentationConfig
from clan.data import transforms
from clan.data.datasets import Dataset
from clan.data.style import match_statistics, swap_amplitudes
from clan.normalization import CAFFE, Normalization


@dataclass(frozen=True)
class Batch:
    """Samples of one domain.

    Args:
        images: float32 [B, 3, h, w], after augmentation scaling.
        labels: uint8 trainIds [B, H, W] at base size; None for an unlabelled domain.
        size: base height and width (H, W) that logits are brought to.
        names: image names, for messages.
    """

    images: np.ndarray
    labels: np.ndarray | None
    size: tuple[int, int]
    names: tuple[str, ...]


@dataclass(frozen=True)
class PairedBatch:
    """What one forward pass of a method sees."""

    source: Batch
    target: Batch


class DomainSampler:
    """Batches of one domain by position.

    Args:
        dataset: the images.
        size: base width and height.
        augmentation: random changes.
        batch_size: B.
        shuffle: a new random order per pass over the data; otherwise the list's order, over and over.
        labelled: read labels too.
        seed: two numbers, the run's seed and the domain's, that every draw derives from.
        normalization: how pixels become numbers.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        size: tuple[int, int],
        augmentation: AugmentationConfig,
        batch_size: int,
        shuffle: bool,
        labelled: bool,
        seed: tuple[int, int],
        normalization: Normalization = CAFFE,
    ) -> None:
        self.dataset = dataset
        self.size = size
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.labelled = labelled
        self.seed = seed
        self.normalization = normalization
        self._order: tuple[int, np.ndarray] | None = None

    def index(self, position: int) -> int:
        """Index in the data set of the sample at an endless `position`."""
        epoch, offset = divmod(position, len(self.dataset))
        if not self.shuffle:
            return offset
        cached = self._order  # read once: threads may replace it meanwhile
        if cached is None or cached[0] != epoch:
            cached = epoch, np.random.default_rng([*self.seed, 0, epoch]).permutation(len(self.dataset))
            self._order = cached
        return int(cached[1][offset])

    def batch(self, number: int) -> Batch:
        """Batch `number` of the endless sequence.

        A batch shares one scale, since its images must have one size; each image has its own mirroring.
        """
        draws = np.random.default_rng([*self.seed, 1, number]).random(1 + self.batch_size)
        scale = transforms.choose_scale(draws[0], self.augmentation.scales) if self.augmentation.random_scale else 1.0
        indices = [self.index(number * self.batch_size + k) for k in range(self.batch_size)]
        # A generator of its own: the draws above are the same with and without it.
        factors = 1 + self.augmentation.color_jitter * np.random.default_rng([*self.seed, 2, number]).uniform(
            -1, 1, (self.batch_size, 3)
        )
        width, height = transforms.scaled(self.size, scale)
        images = np.empty((self.batch_size, 3, height, width), np.float32)
        labels = [
            self._sample(place, index, scale, self.augmentation.random_mirror and draw < 0.5, own)
            for place, index, draw, own in zip(images, indices, draws[1:], factors.tolist(), strict=True)
        ]
        return Batch(
            images=images,
            labels=np.stack([label for label in labels if label is not None]) if self.labelled else None,
            size=(self.size[1], self.size[0]),
            names=tuple(self.dataset.names[index] for index in indices),
        )

    def _sample(
        self, place: np.ndarray, index: int, scale: float, mirrored: bool, color: Sequence[float]
    ) -> np.ndarray | None:
        """Writes image `index` into its place in a batch, float32 [3, h, w]; its label, uint8 [H, W]."""
        label = None
        if self.labelled:
            image, label = self.dataset.read_pair(index)
            label = transforms.resize_label(label, self.size)
            label = transforms.mirror(label) if mirrored else label
        else:
            image = self.dataset.read_image(index)
        image = transforms.resize_image(image, self.size, scale)
        if self.augmentation.color_jitter:
            image = transforms.jitter_color(image, color)
        transforms.normalize(image, self.normalization, mirrored=mirrored, out=place)
        return label


class PairedLoader:
    """Endless pairs of a source and a target batch, prepared ahead by worker threads.

    Args:
        source, target: the samplers.
        num_workers: threads; 0 prepares each pair when it is asked for.
        start: number of the first pair, to resume.
        stride: distance between pairs, with `start` this process's share of the sequence.
    """

    PREFETCH = 2
    """Pairs held ready per worker."""

    def __init__(
        self,
        source: DomainSampler,
        target: DomainSampler,
        *,
        num_workers: int = 0,
        start: int = 0,
        stride: int = 1,
    ) -> None:
        self.source = source
        self.target = target
        self.num_workers = num_workers
        self.start = start
        self.stride = stride

    def pair(self, number: int) -> PairedBatch:
        """Pair `number` of the endless sequence."""
        source, target = self.source.batch(number), self.target.batch(number)
        if self.source.augmentation.style != "none":
            images = [self._in_style(*images) for images in zip(source.images, target.images, strict=True)]
            source = replace(source, images=np.stack(images))
        return PairedBatch(source, target)

    def _in_style(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """A source image with the looks of a target image, as the augmentation asks for them."""
        augmentation = self.source.augmentation
        if augmentation.style == "statistics":
            return match_statistics(source, target)
        black = transforms.normalized_black(self.source.normalization)
        return swap_amplitudes(source, target, augmentation.style_extent, black)

    def __iter__(self) -> Generator[PairedBatch, None, None]:
        number = self.start
        if self.num_workers == 0:
            while True:
                yield self.pair(number)
                number += self.stride
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="clan-loader")
        pending: deque[Future[PairedBatch]] = deque()
        try:
            while True:
                while len(pending) < self.PREFETCH * self.num_workers:
                    pending.append(pool.submit(self.pair, number))
                    number += self.stride
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
