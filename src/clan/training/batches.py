"""From a configuration to samples, and from their arrays to tensors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

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


class Feed:
    """Brings pairs to the device, the next one while the step of the one before it runs.

    On a GPU a pair is written to page-locked memory, from which it is fetched when the work handed over before is done;
    nobody waits for that. It is fetched in the order of that work, so that no step can read it too early.

    Args:
        seed: the run's.
        upcoming: gives the pair that comes after those taken so far, if it is read already.
    """

    def __init__(self, seed: int, upcoming: Callable[[], PairedBatch | None]) -> None:
        self.seed, self.upcoming = seed, upcoming
        self._sent: dict[int, Pair] = {}
        self._staged: list[Tensor] = []

    def pairs(self, taken: Sequence[PairedBatch]) -> Iterator[Pair]:
        """Yields the pairs of an iteration as tensors.

        The next one is to be asked for when the work on the last is handed over, and losses are to be read on the host
        before those of another iteration are.
        """
        ahead = has_own_memory()
        self._staged.clear()  # losses have been read since, so all that was staged before has been fetched
        for place, batch in enumerate(taken, start=1):
            pair = self._sent.pop(batch.number, None)
            yield self._send(batch) if pair is None else pair
            following = taken[place] if place < len(taken) else self.upcoming() if ahead else None
            self._sent = {following.number: self._send(following)} if ahead and following else {}

    def _send(self, batch: PairedBatch) -> Pair:
        return to_device(batch, self.seed, self._stage if has_own_memory() else paddle.to_tensor)

    def _stage(self, array: np.ndarray) -> Tensor:
        """An array as a tensor on the GPU, which may still be on its way."""
        staged: Any = paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())
        self._staged.append(staged)
        place = paddle.framework._current_expected_place()  # pyright: ignore[reportPrivateImportUsage]
        return staged._copy_to(place, False)


def has_own_memory() -> bool:
    """Whether what the device computes with has to be sent there."""
    return paddle.device.get_device() != "cpu"


def to_device(batch: PairedBatch, seed: int = 0, send: Callable[[np.ndarray], Tensor] = paddle.to_tensor) -> Pair:
    """A pair of batches of arrays as tensors on the current device.

    Args:
        batch: the pair.
        seed: the run's; with the pair's number it decides what the step draws.
        send: makes a tensor of an array.
    """
    source, target = batch.source, batch.target
    assert source.labels is not None, "the source is sampled with labels"
    labels, images = send(source.labels), send(target.images)
    return Pair(
        LabelledDomain(send(source.images), source.size, labels, is_source=True, array=source.labels),
        Domain(images, target.size)
        if target.labels is None
        else LabelledDomain(images, target.size, send(target.labels)),
        np.random.default_rng([seed, STEP_DRAWS, batch.number]),
    )
