"""Measurements of one snapshot's networks in eval mode."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from clan.data.dataset import Dataset
from clan.data.loader import DomainSampler
from clan.evaluation.finite import require_finite
from clan.evaluation.inference import total
from clan.losses.adversarial import discrepancy_map, weight_divergence
from clan.losses.segmentation import class_probabilities
from clan.methods import build_method
from clan.methods.base import Domain, Method, Pair
from clan.models.segmenter import Segmenter, own_weights
from clan.models.weights import load_weights
from clan.reporting.inspection.alignment import FeatureSample
from clan.reporting.inspection.findings import Accuracy
from clan.run.config import AugmentationConfig, Config

OnImage = Callable[..., object]
"""Called after each image, or with a number of images."""


def open_networks(config: Config) -> Method:
    """Builds a run's networks for `load_snapshot`; the segmenter in eval mode."""
    method = build_method(config)
    if config.network.batch_norm == "per-domain":
        method.segmenter.separate_statistics()
    method.segmenter.eval()
    return method


def load_snapshot(method: Method, path: Path) -> list[str]:
    """Loads a snapshot; returns the names of the discriminators that were saved with it.

    Raises:
        WeightsError: a file cannot be read or does not fit.
    """
    load_weights(method.segmenter, path, strict=True)
    found = []
    for name, network in method.discriminators.items():
        own = path.with_stem(path.stem + name.replace("discriminator", "_D"))
        if own.is_file():
            load_weights(network, own, strict=True)
            found.append(name)
    return found


def plain_sampler(config: Config, dataset: Dataset, size: tuple[int, int], *, labelled: bool) -> DomainSampler:
    """Returns a sampler of single images in order, without augmentation; `size` is (width, height)."""
    return DomainSampler(
        dataset,
        size=size,
        augmentation=AugmentationConfig(random_scale=False, random_mirror=False),
        batch_size=1,
        shuffle=False,
        labelled=labelled,
        seed=(0, 0),
        normalization=config.network.normalization(dataset.description),
    )


@dataclass(frozen=True)
class Discrepancies:
    """Discrepancy of the two heads on a set of images: M = 1 − cosine of their class probabilities."""

    of_image: np.ndarray  # mean of each image, float64 [n]
    of_class: np.ndarray  # mean over all pixels of a class, float64 [C]; NaN without pixels
    pixels: np.ndarray  # pixels of each class, int64 [C]
    maps: list[np.ndarray]  # of the first images, float32 [H, W]


@paddle.no_grad()
def discrepancies(
    method: Method, sampler: DomainSampler, num_classes: int, *, keep: int, on_image: OnImage
) -> Discrepancies:
    """Computes the discrepancy of every image of a target sampler.

    Classes of pixels are the sampler's labels, or the prediction if it has none.

    Args:
        method: networks with two heads.
        sampler: the images.
        num_classes: C.
        keep: number of maps to keep.
        on_image: called after each image.

    Raises:
        NotFinite: a discrepancy is not finite.
    """
    sums, pixels, of_image, maps = np.zeros(256), np.zeros(256, np.int64), [], []
    for number in range(len(sampler.dataset)):
        batch = sampler.batch(number)
        logits = method.logits(Domain(paddle.to_tensor(batch.images), batch.size))
        found = require_finite(discrepancy_map(*map(class_probabilities, logits))[0, 0].numpy())
        labels = total(logits).argmax(axis=1).numpy() if batch.labels is None else batch.labels
        sums += np.bincount(labels.ravel(), weights=found.ravel(), minlength=256)
        pixels += np.bincount(labels.ravel(), minlength=256)
        of_image.append(found.mean(dtype=np.float64))
        if len(maps) < keep:
            maps.append(found)
        on_image()
    sums, pixels = sums[:num_classes], pixels[:num_classes]
    of_class = np.divide(sums, pixels, out=np.full(num_classes, np.nan), where=pixels > 0)
    return Discrepancies(np.array(of_image), of_class, pixels, maps)


def head_cosine(segmenter: Segmenter) -> float:
    """Returns the cosine of the two heads' weights and biases, −1…1."""
    head1, head2 = segmenter.heads
    return float(weight_divergence(own_weights(head1), own_weights(head2))) - 1.0


@paddle.no_grad()
def discriminator_accuracy(method: Method, pairs: Iterable[Pair], names: Iterable[str]) -> dict[str, Accuracy]:
    """Returns the share of pixels that each discriminator classifies correctly; a logit of exactly 0 counts half.

    Args:
        method: the networks.
        pairs: images of both domains with equal base sizes.
        names: discriminators to measure.
    """
    shares: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for pair in pairs:
        source, target = method.judge(pair.source), method.judge(pair.target)
        for name, of_pairs in shares.items():
            # Source has label 0 (negative logit), target 1.
            signs = float(source[name].sign().mean()), float(target[name].sign().mean())
            of_pairs.append(((1 - signs[0]) / 2, (1 + signs[1]) / 2))
    means = {name: np.mean(of_pairs, axis=0) for name, of_pairs in shares.items()}
    return {name: Accuracy(source=float(mean[0]), target=float(mean[1])) for name, mean in means.items()}


@paddle.no_grad()
def collect_features(
    method: Method, sampler: DomainSampler, sample: FeatureSample, *, is_source: bool, on_image: OnImage
) -> None:
    """Adds the backbone's features of every image, cell by cell, to a sample.

    The class of a cell is the label at its position (aligned corners), or the prediction if the sampler has no labels.

    Raises:
        NotFinite: a feature or a prediction is not finite.
    """
    segmenter = method.segmenter
    for number in range(len(sampler.dataset)):
        batch = sampler.batch(number)
        domain = Domain(paddle.to_tensor(batch.images), batch.size, is_source=is_source)
        with method.statistics_of(domain):
            pyramid = segmenter.backbone.pyramid(domain.images)
            features = pyramid[-1]
            _, channels, height, width = features.shape
            if batch.labels is None:
                logits = segmenter.resize(total(segmenter.read(pyramid)), (height, width))
                labels = require_finite(logits.numpy())[0].argmax(axis=0)
            else:
                labels = at_cells(batch.labels[0], (height, width))
        sample.add(require_finite(features.numpy()).reshape(channels, -1).T, labels.ravel())
        on_image()


def at_cells(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Samples labels [H, W] at the cells of a map of `size` (h, w), corners aligned: [h, w]."""
    rows, columns = (
        np.rint(np.linspace(0, length - 1, number)).astype(int)
        for length, number in zip(labels.shape, size, strict=True)
    )
    return labels[np.ix_(rows, columns)]
