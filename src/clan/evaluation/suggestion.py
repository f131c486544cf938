"""`clan suggest`: which target images are worth labelling, by what a trained network makes of them.

An image is worth much where the network is uncertain, where it shows classes that the target shows rarely, and where it
is unlike the images chosen already.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from clan.core.errors import ConfigError, DataError, of_domain
from clan.core.runtime import available_cores
from clan.data import transforms
from clan.data.dataset import Dataset
from clan.evaluation.criteria import pixel_entropy
from clan.evaluation.finite import require_finite
from clan.evaluation.inference import EvaluationOptions, evaluating, total
from clan.evaluation.measuring import ahead
from clan.losses.segmentation import class_probabilities
from clan.models.segmenter import Segmenter
from clan.run.config import Config
from clan.run.records import located


@dataclass(frozen=True)
class Impressions:
    """What a network makes of images.

    Args:
        entropy: float64 [N], mean of `pixel_entropy` over an image, 0…1.
        disagreement: float64 [N], share of pixels whose class two heads see differently; 0 of a single head.
        shares: float64 [N, C], mean class probabilities.
        features: float64 [N, K], means of the backbone's last features.
    """

    entropy: np.ndarray
    disagreement: np.ndarray
    shares: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Suggestion:
    """An image worth labelling.

    Args:
        index: in the data set.
        entropy: see `Impressions`.
        disagreement: likewise.
        rarity: see `rarity`.
        distance: see `suggest`.
    """

    index: int
    entropy: float
    disagreement: float
    rarity: float
    distance: float


def rarity(shares: np.ndarray) -> np.ndarray:
    """How much of an image is of rare classes: the mean over classes of √(its share / the mean share), float64 [N].

    Args:
        shares: floating [N, C], mean class probabilities of images.
    """
    usual = np.maximum(shares.mean(axis=0), 1e-9)
    return np.sqrt(shares / usual).mean(axis=1)


def ranks(values: np.ndarray) -> np.ndarray:
    """The share of values that each one is at least as large as, float64 [N], 1/N…1; equal values have equal ranks."""
    return np.searchsorted(np.sort(values), values, side="right") / len(values)


def suggest(seen: Impressions, count: int, known: Sequence[int] = ()) -> list[Suggestion]:
    """Ranks images: greedily the one with the largest product of worth and distance from all that are chosen.

    Worth is the mean of the ranks of uncertainty (the mean of those of entropy and disagreement) and rarity. Distance
    is that of mean features, each scaled to unit variance (k-center greedy, Sener and Savarese, ICLR 2018), over the
    largest there is.

    Args:
        seen: of all images.
        count: number of images wanted, at most as many as there are beside the known ones.
        known: indices of images that are labelled already: they are not suggested, and others should be unlike them.
    """
    rare = rarity(seen.shares)
    uncertain = (ranks(seen.entropy) + ranks(seen.disagreement)) / 2
    worth = (uncertain + ranks(rare)) / 2
    spread = seen.features.std(axis=0)
    features = (seen.features - seen.features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    nearest = np.full(len(worth), np.inf)
    taken = np.zeros(len(worth), bool)

    def take(index: int) -> None:
        taken[index] = True
        np.minimum(nearest, np.linalg.norm(features - features[index], axis=1), out=nearest)

    for index in known:
        take(index)
    found = []
    for _ in range(count):
        distance = np.ones_like(nearest) if np.isinf(nearest).all() else nearest / max(float(nearest.max()), 1e-12)
        # Copies of chosen images have no distance, and come last, by their worth.
        index = int(np.argmax(np.where(taken, -1.0, worth * (distance + 1e-9))))
        values = (float(one[index]) for one in (seen.entropy, seen.disagreement, rare, distance))
        found.append(Suggestion(index, *values))
        take(index)
    return found


def look(
    segmenter: Segmenter,
    dataset: Dataset,
    options: EvaluationOptions,
    *,
    on_image: Callable[[], object] = lambda: None,
) -> Impressions:
    """Runs a network over images; labels are not read.

    Args:
        segmenter: the network.
        dataset: the images.
        options: how the network sees them.
        on_image: called after each image.

    Raises:
        DataError: an image cannot be read.
        NotFinite: what the network makes of an image has infinite or undefined numbers.
    """

    def planes(index: int) -> np.ndarray:
        image = transforms.resize_image(dataset.read_image(index), options.input_size)
        return transforms.normalize(image, options.normalization)[None]

    found: list[tuple[float, float, np.ndarray, np.ndarray]] = []
    with ThreadPoolExecutor(available_cores()) as pool, evaluating(segmenter, options.precision):
        for one in ahead(pool, planes, len(dataset)):
            pyramid = segmenter.backbone.pyramid(paddle.to_tensor(one))
            heads = [logits.astype("float32") for logits in segmenter.read(pyramid)]
            prob = class_probabilities(total(heads)).numpy()[0]
            classes = [logits.numpy()[0].argmax(axis=0) for logits in heads]
            seen = (
                float(pixel_entropy(np.moveaxis(prob, 0, -1)).mean()),
                float(np.mean(classes[0] != classes[-1])),
                prob.mean(axis=(1, 2), dtype=np.float64),
                pyramid[-1].astype("float32").numpy()[0].mean(axis=(1, 2), dtype=np.float64),
            )
            for value in seen:
                require_finite(np.asarray(value))
            found.append(seen)
            on_image()
    return Impressions(*(np.array(values) for values in zip(*found, strict=True)))


def open_target(config: Config, folder: Path) -> tuple[Dataset, list[int]]:
    """Opens the target images of a run.

    Args:
        config: the run.
        folder: its folder.

    Returns:
        The images, and the indices of those whose labels the run has learnt.

    Raises:
        DataError: the data set or the list is not there.
    """
    target = config.target
    root = located(target.root, folder, config)

    def listed(path: Path | None) -> Dataset:
        lists = located(path, folder, config) if path else None
        return Dataset(target.dataset, root, split=target.split, list_file=lists, classes=config.classes)

    with of_domain("target"):
        dataset = listed(target.list_file)
        labelled = set(listed(config.target_labels).names) if config.target_labels else set()
    return dataset, [index for index, name in enumerate(dataset.names) if name in labelled]


def require_count(count: int, dataset: Dataset, known: Sequence[int]) -> None:
    """Checks that so many images can be suggested.

    Raises:
        ConfigError: there are fewer.
    """
    if not 1 <= count <= len(dataset) - len(known):
        labelled = f", of which {len(known)} are labelled" if known else ""
        raise ConfigError(
            f"-n {count}: there are {len(dataset)} target images{labelled}; ask for 1 or more of the rest"
        )


def as_list(names: Sequence[str], folder: Path) -> bytes:
    """Formats names of images below a folder as a list file, which `clan.data.lists.read_lines` reads.

    Raises:
        DataError: a name has a line break, or a space at its start or end.
    """
    if strange := next((name for name in names if "\n" in name or "\r" in name or name != name.strip()), None):
        raise DataError(f"{strange!r} in {folder} cannot stand in a list: rename it")
    return "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
