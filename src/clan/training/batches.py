"""From a configuration to samples, and from their arrays to tensors."""

from collections.abc import Iterable

import numpy as np
import paddle

from clan.core.errors import of_domain
from clan.core.schema import find
from clan.data.dataset import open_domain
from clan.data.loader import DomainSampler, PairedBatch
from clan.methods import METHODS
from clan.methods.base import Domain, LabelledDomain, Pair
from clan.run.config import SAMPLINGS, Config


def build_samplers(config: Config) -> tuple[DomainSampler, DomainSampler]:
    """Samplers of the source, with labels, and of the target, with labels only for a method that asks for them."""

    def sampler(number: int, labelled: bool) -> DomainSampler:
        domain = (config.source, config.target)[number]
        with of_domain(("source", "target")[number]):
            dataset = open_domain(domain, config.classes)
        made = DomainSampler(
            dataset,
            size=domain.size,
            augmentation=config.augmentation,
            batch_size=config.batch_size,
            shuffle=config.shuffle,
            labelled=labelled,
            seed=(config.seed, number),
            normalization=config.network.normalization(domain.dataset),
        )
        made.sampling = find(SAMPLINGS[domain.sampling])(made.dataset, made.seed, config)
        return made

    return sampler(0, labelled=True), sampler(1, labelled=METHODS[config.method.name].reads_target_labels)


def sample_names(batches: Iterable[PairedBatch]) -> list[str]:
    """The images of both domains."""
    return [name for batch in batches for name in batch.source.names + batch.target.names]


STEP_DRAWS = 2
"""Beside the run's seed, what the generators of steps are seeded with; the domains' are 0 and 1."""


def to_device(batch: PairedBatch, seed: int = 0) -> Pair:
    """A pair of batches of arrays as tensors on the current device.

    Args:
        batch: the pair.
        seed: the run's; with the pair's number it decides what the step draws.
    """
    source, target = batch.source, batch.target
    assert source.labels is not None, "the source is sampled with labels"
    labels = paddle.to_tensor(source.labels)
    images = paddle.to_tensor(target.images)
    return Pair(
        LabelledDomain(paddle.to_tensor(source.images), source.size, labels, is_source=True, array=source.labels),
        Domain(images, target.size)
        if target.labels is None
        else LabelledDomain(images, target.size, paddle.to_tensor(target.labels)),
        np.random.default_rng([seed, STEP_DRAWS, batch.number]),
    )
