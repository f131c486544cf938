"""Paired, endless, resumable sampling of both domains.

Which sample comes at which position, and how it is augmented, is a pure function of the seed and the
position. So the order never depends on the number of workers, and a run resumes anywhere without replaying.

Workers are threads: decoding, resizing and the array arithmetic all release Python's global lock, samples reach
the trainer without a copy, and there is neither shared memory to run out of nor a process to lose. A thread can
still hang, on a network drive that is gone; it is waited for so long and no longer.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ClassVar, TypeVar

import numpy as np

from clan.core.errors import DataError
from clan.data import transforms
from clan.data.dataset import Dataset
from clan.data.sampling import CROP_TRIES, Sampling, Uniform, largest_share
from clan.data.style import match_statistics, swap_amplitudes
from clan.datasets.labels import IGNORE
from clan.models.normalization import CAFFE, Normalization
from clan.run.config import AugmentationConfig

Value = TypeVar("Value")


class Threads:
    """A pool that works through what it is given, first come, first served, and that the end of the program leaves.

    The standard library's pool joins its threads at exit, so that a thread that hangs in a read from a dead network
    drive would keep the whole program.

    Args:
        number: of threads.
        name: of each, for debuggers.
    """

    PATIENCE = 2.0
    """Seconds that `close` waits for what is being computed."""

    def __init__(self, number: int, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name=name, daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def submit(self, make: Callable[[], Value]) -> Future[Value]:
        """Will hold what `make` returns or raises."""
        future: Future[Value] = Future()
        self._work.put((future, make))
        return future

    def close(self) -> None:
        """Drops what has not begun and ends the threads, but for one that hangs."""
        while not self._work.empty():
            self._work.get()
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + self.PATIENCE
        for thread in self._threads:  # a thread that computes while the interpreter goes down can crash it
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while work := self._work.get():
            future, make = work
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)


@dataclass(frozen=True)
class Batch:
    """Samples of one domain.

    Args:
        images: float32 [B, 3, h, w], after augmentation scaling.
        labels: uint8 trainIds [B, H, W] at base size; None for an unlabelled domain.
        size: base height and width (H, W) that logits are brought to.
        names: image names, for messages.
        skipped: bad samples whose places others took, and what is wrong with each.
    """

    images: np.ndarray
    labels: np.ndarray | None
    size: tuple[int, int]
    names: tuple[str, ...]
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PairedBatch:
    """What one forward pass of a method sees, and its number in the endless sequence of pairs.

    `few` are images of the few of the target that have labels.
    """

    source: Batch
    target: Batch
    number: int = 0
    few: Batch | None = None

    @property
    def batches(self) -> dict[str, Batch]:
        """The batches by their domain."""
        named = {"source": self.source, "target": self.target}
        return named if self.few is None else named | {"few": self.few}


def too_many(reason: str, tolerated: int) -> DataError:
    """What ends a run: a bad sample, where none or no more are tolerated."""
    return DataError(reason + (f"; --tolerate-bad-samples {tolerated} are used up" if tolerated else ""))


@dataclass(eq=False)
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

    Attributes:
        ignore_label: trainId that does not count as a class of a crop, beside 255; it may be replaced.
        sampling: which image comes at which position and which crops of it are taken; it may be replaced.
        bad: names of samples that could not be read and are not tried again, and what is wrong with each.
        reading: what is being read for which batch, for messages.
    """

    dataset: Dataset
    _: KW_ONLY
    size: tuple[int, int]
    augmentation: AugmentationConfig
    batch_size: int
    shuffle: bool
    labelled: bool
    seed: tuple[int, int]
    normalization: Normalization = CAFFE
    ignore_label: int = field(default=IGNORE, init=False)
    bad: dict[str, str] = field(default_factory=dict, init=False)
    reading: dict[int, str] = field(default_factory=dict, init=False)
    sampling: Sampling = field(init=False)

    def __post_init__(self) -> None:
        self.sampling = Uniform(len(self.dataset), self.seed, shuffle=self.shuffle)

    def index(self, position: int) -> int:
        """Index in the data set of the sample at an endless `position`."""
        return self.sampling.index(position)

    def batch(self, number: int, *, tolerate: int = 0) -> Batch:
        """Batch `number` of the endless sequence.

        A batch shares one scale, since its images must have one size; each image has its own mirroring.

        Args:
            number: which one.
            tolerate: bad samples that others may take the place of.

        Raises:
            DataError: more samples than that cannot be read.
        """
        augmentation = self.augmentation
        draws = np.random.default_rng([*self.seed, 1, number]).random(1 + self.batch_size)
        scale = transforms.choose_scale(draws[0], augmentation.scales) if augmentation.random_scale else 1.0
        # A generator of its own: the draws above are the same with and without it.
        factors = 1 + augmentation.color_jitter * np.random.default_rng([*self.seed, 2, number]).uniform(
            -1, 1, (self.batch_size, 3)
        )
        base = transforms.scaled(self.size, scale) if augmentation.scale_labels else self.size
        width, height = augmentation.crop_size or transforms.scaled(self.size, scale)
        labelled = augmentation.crop_size or base
        images = np.empty((self.batch_size, 3, height, width), np.float32)
        labels, names, skipped = [], [], {}
        for k, own in enumerate(factors.tolist()):
            position = number * self.batch_size + k
            mirrored = augmentation.random_mirror and draws[1 + k] < 0.5
            for index in self._candidates(position):
                name = self.dataset.names[index]
                self.reading[number] = name
                try:
                    if name in self.bad:
                        raise DataError(self.bad[name])
                    labels.append(self._sample(images[k], index, position, (scale, base, mirrored, own)))
                except DataError as error:
                    skipped[name] = self.bad[name] = str(error)
                    if len(skipped) > tolerate:
                        raise too_many(str(error), tolerate) from None
                else:
                    names.append(name)
                    break
        del self.reading[number]
        return Batch(
            images=images,
            labels=np.stack(labels) if self.labelled else None,
            size=(labelled[1], labelled[0]),
            names=tuple(names),
            skipped=skipped,
        )

    def _candidates(self, position: int) -> Iterator[int]:
        """The sample at a position, and those that may take its place if it is bad, in random order.

        They are a pure function of the position too, and its neighbours, which would be seen twice in a row, come
        last.
        """
        own = self.index(position)
        yield own
        others = np.random.default_rng([*self.seed, 3, position]).permutation(len(self.dataset))
        around = {self.index(near) for near in (position - 1, position + 1) if near >= 0}
        yield from (int(index) for index in others if index != own and index not in around)
        yield from (index for index in sorted(around) if index != own)

    def _sample(
        self, place: np.ndarray, index: int, position: int, changes: tuple[float, tuple[int, int], bool, list[float]]
    ) -> np.ndarray | None:
        """Writes image `index` into its place in a batch, float32 [3, h, w]; its label, uint8 [H, W].

        Args:
            place: where to.
            index: which image.
            position: which crop it is to be.
            changes: the image's scale, the label's width and height, whether to mirror, and the factors of its colours.
        """
        scale, base, mirrored, color = changes
        label = None
        if self.labelled:
            image, label = self.dataset.read_pair(index)
            label = transforms.resize_label(label, base)
        else:
            image = self.dataset.read_image(index)
        image = transforms.resize_image(image, self.size, scale)
        if crop := self.augmentation.crop_size:
            left, top = self._crop(position, image.size, label)
            image = image.crop((left, top, left + crop[0], top + crop[1]))
            label = None if label is None else _cut(label, (left, top), crop)
        if label is not None and mirrored:
            label = transforms.mirror(label)
        if self.augmentation.color_jitter:
            image = transforms.jitter_color(image, color)
        transforms.normalize(image, self.normalization, mirrored=mirrored, out=place)
        return label

    def _crop(self, position: int, size: tuple[int, int], label: np.ndarray | None) -> tuple[int, int]:
        """Left and top of the crop at a position: of a labelled image the first that is accepted, or the last drawn."""
        crop, most = self.augmentation.crop_size or size, self.augmentation.crop_class_share
        random = np.random.default_rng([*self.seed, 4, position])

        def drawn() -> tuple[int, int]:
            left, top = (int(random.integers(whole - part + 1)) for whole, part in zip(size, crop, strict=True))
            return left, top

        if label is None:
            return drawn()

        def varied() -> tuple[int, int]:
            place = drawn()
            for _ in range(CROP_TRIES if most < 1 else 0):
                if largest_share(_cut(label, place, crop), self.ignore_label) < most:
                    break
                place = drawn()
            return place

        place = varied()
        for _ in range(CROP_TRIES):
            if self.sampling.accepts(position, _cut(label, place, crop)):
                break
            place = varied()
        return place


def _cut(label: np.ndarray, place: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The part of [H, W] from left and top on, of a width and height."""
    return label[place[1] : place[1] + size[1], place[0] : place[0] + size[0]]


@dataclass(frozen=True)
class FewLabelled:
    """Target images with labels, of which some iterations have batches.

    Args:
        sampler: draws them.
        every: every so many iterations has batches of them.
        passes: pairs of an iteration, on all ranks.
    """

    sampler: DomainSampler
    every: int = 1
    passes: int = 1

    def batch(self, number: int, *, tolerate: int = 0) -> Batch | None:
        """The batch of pair `number`; None: it has none."""
        iteration, position = divmod(number, self.passes)
        if iteration % self.every:
            return None
        return self.sampler.batch(iteration // self.every * self.passes + position, tolerate=tolerate)


@dataclass(eq=False)
class PairedLoader:
    """Endless pairs of a source and a target batch, prepared ahead by worker threads.

    Args:
        source, target: the samplers.
        num_workers: threads; 0 prepares each pair when it is asked for.
        start: number of the first pair, to resume.
        stride: distance between pairs, with `start` this process's share of the sequence.
        tolerate: bad samples of a batch that others may take the place of.
        timeout: seconds to wait for a pair; None: as long as it takes.
        few: the few target images that have labels; None: there are none.
    """

    PREFETCH: ClassVar[int] = 2
    """Pairs held ready per worker."""

    source: DomainSampler
    target: DomainSampler
    _: KW_ONLY
    num_workers: int = 0
    start: int = 0
    stride: int = 1
    tolerate: int = 0
    timeout: float | None = None
    few: FewLabelled | None = None
    _pending: deque[tuple[int, Future[PairedBatch]]] = field(default_factory=deque, init=False)

    def pair(self, number: int) -> PairedBatch:
        """Pair `number` of the endless sequence."""
        source = self.source.batch(number, tolerate=self.tolerate)
        target = self.target.batch(number, tolerate=self.tolerate)
        if self.source.augmentation.style != "none":
            images = [self._in_style(*images) for images in zip(source.images, target.images, strict=True)]
            source = replace(source, images=np.stack(images))
        return PairedBatch(source, target, number, self.few and self.few.batch(number, tolerate=self.tolerate))

    def _in_style(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """A source image with the looks of a target image, as the augmentation asks for them."""
        augmentation = self.source.augmentation
        if augmentation.style == "statistics":
            return match_statistics(source, target)
        black = transforms.normalized_black(self.source.normalization)
        return swap_amplitudes(source, target, augmentation.style_extent, black)

    def __iter__(self) -> Generator[PairedBatch, None, None]:
        # Without workers a thread still reads, since only a thread can be waited for so long and no longer.
        threads = Threads(max(1, self.num_workers), "clan-loader")
        ahead = max(1, self.PREFETCH * self.num_workers)
        number = self.start
        pending = self._pending = deque()
        try:
            while True:
                while len(pending) < ahead:
                    pending.append((number, threads.submit(partial(self.pair, number))))
                    number += self.stride
                yield self._wait(*pending.popleft())
        finally:
            threads.close()

    def next_if_read(self) -> PairedBatch | None:
        """The pair that comes next, which it still does; None: it is not there yet, or cannot be read."""
        future = self._pending[0][1] if self._pending else None
        return future.result() if future and future.done() and not future.exception() else None

    def _wait(self, number: int, future: Future[PairedBatch]) -> PairedBatch:
        try:
            return future.result(self.timeout)
        except TookTooLong:
            if future.done():
                raise  # the sample's own doing
            samplers = [sampler for sampler in (self.source, self.target, self.few and self.few.sampler) if sampler]
            names = [sampler.reading[number] for sampler in samplers if number in sampler.reading]
            raise DataError(
                f"reading {' and '.join(names) or 'a sample'} has taken more than {self.timeout:g} s: is its drive "
                "still there? --data-timeout sets how long to wait"
            ) from None
