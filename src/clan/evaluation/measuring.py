"""The pass over unlabelled target images, and labelled source images, that all criteria of a snapshot come from."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import paddle
from paddle import Tensor

from clan.core.errors import DataError, of_domain
from clan.core.files import reading, sha256
from clan.core.runtime import available_cores
from clan.data import transforms
from clan.data.dataset import Dataset, find_splits
from clan.data.loader import too_many
from clan.evaluation.confusion import confusion_matrix
from clan.evaluation.criteria import VIEWS, pixel_entropy
from clan.evaluation.finite import require_finite
from clan.evaluation.inference import EvaluationOptions, evaluating, total
from clan.losses.segmentation import class_probabilities
from clan.models.segmenter import Segmenter
from clan.run.config import Config
from clan.run.records import located

Item = TypeVar("Item")


IMAGES = 100
"""Images of each domain that are looked at, evenly spread over the split, unless said otherwise."""

CELL = 4
"""Side in pixels of the network's input of the cells that predictions are compared in."""

MOST_POINTS = 100_000
"""Pixels whose probabilities are kept of a snapshot, in all images together."""

JITTER, SMALLER = 0.3, 0.75
"""Largest change of brightness, contrast and saturation, and the scale, of changed images."""

VERSION = 1
"""Of what is measured: a change makes measurements of before invalid."""


@dataclass(frozen=True)
class JudgedImages:
    """The images that a run's snapshots are judged on; labels of the target are never read.

    Args:
        target: images of the target's training split.
        source: images of the source.
        held_out: whether the source's images are of a split that was not trained on.
        target_options: how the network sees the target.
        source_options: how it sees the source.
        remarks: sentences on what is looked at in place of what was asked for.
    """

    target: Dataset
    source: Dataset
    held_out: bool
    target_options: EvaluationOptions
    source_options: EvaluationOptions
    remarks: Sequence[str] = ()

    @property
    def num_classes(self) -> int:
        """C."""
        return self.target.classes.label_space.num_classes

    @property
    def points(self) -> int:
        """Pixels per image whose probabilities are kept."""
        return max(1, min(256, MOST_POINTS // len(self.target)))

    @cached_property
    def target_contents(self) -> list[str]:
        """SHA-256 of every target image's file: an image is the same wherever it lies and whatever it is called.

        Raises:
            DataError: an image cannot be read.
        """
        return _contents([self.target.image_path(index) for index in range(len(self.target))])

    def fingerprint(self) -> str:
        """SHA-256 of all that measurements depend on but the weights: images, sizes and the version of this code.

        Raises:
            DataError: an image or a label cannot be read.
        """
        facts = [
            VERSION,
            self.target_contents,
            self._source_contents,
            hashlib.sha256(self.source.table.tobytes()).hexdigest(),
            [(one.input_size, str(one.normalization)) for one in (self.target_options, self.source_options)],
            list(self.target.classes.classes),
            [CELL, JITTER, SMALLER, self.points],
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def _source_contents(self) -> list[str]:
        """SHA-256 of the files of the source's images, then of their labels."""
        indices = range(len(self.source))
        return _contents(
            [find(index) for find in (self.source.image_path, self.source.label_path) for index in indices]
        )


def _contents(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of files, read by threads.

    Raises:
        DataError: a file cannot be read.
    """

    def content(path: Path) -> str:
        with reading(path, "check it and its permissions"):
            return sha256(path)

    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(content, paths))


def open_material(config: Config, folder: Path, images: int = IMAGES) -> JudgedImages:
    """Opens the images that the snapshots of a run are judged on.

    The source's are of its split val, where it has one that is not trained on, else of those that were trained on.
    Unreadable ones are left out as far as the run tolerates bad samples.

    Args:
        config: the run.
        folder: the run's folder, from which relative paths are found.
        images: number of images of each domain, evenly spread; 0: all.

    Raises:
        ClanError: a data set is not there, or more images or labels cannot be read.
    """
    target, source = config.target, config.source
    remarks: list[str] = []
    with of_domain("source"):
        held_out = _held_out(config, folder, remarks) if source.split != "val" else None
        labelled = held_out or _labelled_part(config, folder, source.split, source.list_file)
    with of_domain("target"):
        lists = located(target.list_file, folder, config) if target.list_file else None
        root = located(target.root, folder, config)
        unlabelled = Dataset(target.dataset, root, split=target.split, list_file=lists, classes=config.classes)
    looked_at, labelled = spread(unlabelled, images), spread(labelled, images)
    if tolerated := config.tolerate_bad_samples:
        looked_at, faults = _readable(looked_at, looked_at.read_image)
        labelled, others = _readable(labelled, labelled.read_pair)
        faults += others
        if len(faults) > tolerated:
            raise too_many(faults[tolerated], tolerated)
        if not len(looked_at):
            raise DataError(faults[0])
        remarks += [f"left out: {fault}" for fault in faults]
    options = EvaluationOptions.of_run(config, target.dataset)
    normalization = config.network.normalization(source.dataset)
    return JudgedImages(
        looked_at,
        labelled,
        held_out is not None,
        options,
        options.changed(input_size=source.size, normalization=normalization),
        remarks,
    )


def _labelled_part(config: Config, folder: Path, split: str, list_file: Path | None) -> Dataset:
    """The images of a split of the source that have labels."""
    source = config.source
    lists = located(list_file, folder, config) if list_file else None
    root = located(source.root, folder, config)
    found = Dataset(source.dataset, root, split=split, list_file=lists, classes=config.classes)
    return found.part([index for index in range(len(found)) if found.has_label(index)])


def _held_out(config: Config, folder: Path, remarks: list[str]) -> Dataset | None:
    """The labelled images of the source's split val; None: it has none, or, which is remarked, none can be used.

    Splits are described for all copies of a data set, and a copy may lack some.
    """
    source = config.source
    if "val" not in find_splits(source.dataset, located(source.root, folder, config)):
        return None
    try:
        if len(found := _labelled_part(config, folder, "val", None)):
            return found
        fault = "it has no labels"
    except DataError as error:
        fault = str(error).partition(": ")[0]  # without the remedy: nothing has to be done
    remarks.append(f"the split val of {source.dataset.name} is not used ({fault})")
    return None


def _readable(dataset: Dataset, read: Callable[[int], object]) -> tuple[Dataset, list[str]]:
    """The part of a data set that can be read, and what is wrong with each of the other images."""

    def fault(index: int) -> str | None:
        try:
            read(index)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(available_cores()) as pool:
        faults = list(pool.map(fault, range(len(dataset))))
    return dataset.part([k for k, one in enumerate(faults) if one is None]), [one for one in faults if one is not None]


def spread(dataset: Dataset, images: int) -> Dataset:
    """The part of a data set with so many images, evenly spread; 0: all."""
    count = min(images or len(dataset), len(dataset))
    return dataset.part(np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist())


def measure(
    segmenter: Segmenter,
    material: JudgedImages,
    *,
    teacher: Segmenter | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> dict[str, np.ndarray]:
    """Runs a segmenter over the images once; memory does not depend on their number.

    Args:
        segmenter: the network; it is in eval mode meanwhile, and keeps no trace.
        material: the images.
        teacher: a network to compare with.
        on_image: called after each image.

    Returns:
        "points": uint8 [N, C], probabilities times 255 at the same places of every image for all networks;
        "mean_probability": float64 [C]; "entropy": float64 [1], the mean of `pixel_entropy`; and int64 [C, C],
        confusion matrices of the prediction with those of other heads ("heads", for two), of changed images (`VIEWS`),
        of the "teacher", and with the "source" images' labels.

    Raises:
        DataError: an image, or a label of the source, cannot be read.
        NotFinite: a prediction has infinite or undefined numbers; and whatever `on_image` raises.
    """
    tally = _Tally(material, two_heads=segmenter.num_heads == 2, teacher=teacher is not None)
    options = material.target_options
    with ThreadPoolExecutor(available_cores()) as pool, evaluating(segmenter, options.precision):
        targets = ahead(pool, lambda index: _views(material.target, index, options), len(material.target))
        for index, (planes, smaller) in enumerate(targets):
            coarse = _logits(segmenter, planes)
            views = [
                *(_on_grid(segmenter, total(coarse), planes.shape[2:])),
                *(_on_grid(segmenter, total(_logits(segmenter, smaller)), planes.shape[2:])),
            ]
            plain = tally.add_target(index, views)
            if len(coarse) == 2:
                pair = [_labels(_on_grid(segmenter, one[:1], planes.shape[2:])[0]) for one in coarse]
                tally.compare("heads", *pair)
            if teacher is not None:
                with evaluating(teacher, options.precision):
                    logits = total(_logits(teacher, planes[:1]))
                tally.compare("teacher", plain, _labels(_on_grid(teacher, logits, planes.shape[2:])[0]))
            on_image()
        options = material.source_options
        for planes, label in ahead(pool, lambda index: _labelled(material, index), len(material.source)):
            found = _on_grid(segmenter, total(_logits(segmenter, planes)), planes.shape[2:])
            tally.compare("source", label, _labels(found[0]))
            on_image()
    return tally.statistics()


class _Tally:
    """Sums over images.

    Args:
        material: the images.
        two_heads: whether heads are compared.
        teacher: whether a teacher is compared with.
    """

    def __init__(self, material: JudgedImages, *, two_heads: bool, teacher: bool) -> None:
        self.num_classes, self.per_image = material.num_classes, material.points
        names = ["heads"] * two_heads + ["teacher"] * teacher + [*VIEWS, "source"]
        self.confusions = {name: np.zeros((self.num_classes, self.num_classes), np.int64) for name in names}
        self.points = np.empty((len(material.target), self.per_image, self.num_classes), np.uint8)
        self.probability, self.entropy, self.pixels = np.zeros(self.num_classes), 0.0, 0

    def compare(self, name: str, labels: np.ndarray, others: np.ndarray) -> None:
        """Counts the classes of two label maps of the same size."""
        self.confusions[name] += confusion_matrix(labels, others, self.num_classes)

    def add_target(self, index: int, views: Sequence[np.ndarray]) -> np.ndarray:
        """Counts a target image.

        Args:
            index: its number.
            views: probabilities, float32 [C, h, w] each: of the image as it is, mirrored, recoloured and smaller.

        Returns:
            The label map of the image as it is, uint8 [h, w].
        """
        plain, flipped, *others = views
        last = np.moveaxis(plain, 0, -1).reshape(-1, self.num_classes)
        self.probability += last.sum(axis=0, dtype=np.float64)
        self.entropy += float(pixel_entropy(last).sum())
        self.pixels += len(last)
        places = np.random.default_rng([0, index]).random((2, self.per_image))
        rows, columns = (places * np.array(plain.shape[1:])[:, None]).astype(int)
        self.points[index] = np.rint(plain[:, rows, columns].T * 255)
        labels = _labels(plain)
        for name, other in zip(VIEWS, [transforms.mirror(flipped), *others], strict=True):
            self.compare(name, labels, _labels(other))
        return labels

    def statistics(self) -> dict[str, np.ndarray]:
        """What `measure` returns."""
        return {
            "points": self.points.reshape(-1, self.num_classes),
            "mean_probability": self.probability / self.pixels,
            "entropy": np.array([self.entropy / self.pixels]),
            **self.confusions,
        }


def _views(dataset: Dataset, index: int, options: EvaluationOptions) -> tuple[np.ndarray, np.ndarray]:
    """Network inputs, float32: the image as it is, mirrored, recoloured, [3, 3, h, w]; and smaller, [1, 3, h', w']."""
    image, how = dataset.read_image(index), options.normalization
    whole = transforms.resize_image(image, options.input_size)
    factors = np.random.default_rng([1, index]).uniform(1 - JITTER, 1 + JITTER, 3)
    recoloured = transforms.jitter_color(whole, factors.tolist())
    planes = [
        transforms.normalize(whole, how),
        transforms.normalize(whole, how, mirrored=True),
        transforms.normalize(recoloured, how),
    ]
    smaller = transforms.resize_image(image, options.input_size, SMALLER)
    return np.stack(planes), transforms.normalize(smaller, how)[None]


def _labelled(material: JudgedImages, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A source image as network input, float32 [1, 3, h, w], and its trainIds on the grid, uint8."""
    options = material.source_options
    image, label = material.source.read_pair(index)
    planes = transforms.normalize(transforms.resize_image(image, options.input_size), options.normalization)
    rows, columns = _grid(planes.shape[1:])
    return planes[None], transforms.resize_label(label, (columns, rows))


def _grid(size: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the cells that predictions for inputs of `size` (H, W) are compared in."""
    return max(1, size[0] // CELL), max(1, size[1] // CELL)


def _logits(segmenter: Segmenter, planes: np.ndarray) -> list[Tensor]:
    return [logits.astype("float32") for logits in segmenter(paddle.to_tensor(planes))]


def _on_grid(segmenter: Segmenter, logits: Tensor, size: Sequence[int]) -> np.ndarray:
    """Probabilities, float32 [B, C, h, w], on the grid of inputs of `size`.

    Raises:
        NotFinite: one is not finite.
    """
    return require_finite(class_probabilities(segmenter.resize(logits, _grid(size))).numpy())


def _labels(probabilities: np.ndarray) -> np.ndarray:
    """The most probable class of [C, h, w], uint8 [h, w]."""
    return probabilities.argmax(axis=0).astype(np.uint8)


def ahead(pool: ThreadPoolExecutor, make: Callable[[int], Item], count: int) -> Iterator[Item]:
    """Yields `make(0)` … `make(count − 1)`, a few made ahead by threads."""
    started = (pool.submit(make, index) for index in range(count))
    waiting = deque(islice(started, 1 + available_cores()))
    while waiting:
        done = waiting.popleft().result()
        waiting.extend(islice(started, 1))
        yield done
