"""From a configuration to samples, and from their arrays to tensors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from clan.core.errors import ConfigError, DataError, of_domain
from clan.core.schema import find
from clan.data.dataset import Dataset, open_domain
from clan.data.loader import Batch, DomainSampler, PairedBatch
from clan.methods import METHODS
from clan.methods.base import Domain, LabelledDomain, Pair
from clan.run.config import SAMPLINGS, Config, DomainConfig


def build_samplers(config: Config) -> tuple[DomainSampler, DomainSampler]:
    """Samplers of the source, with labels, and of the target, with labels only for a method that asks for them."""

    def sampler(number: int, labelled: bool) -> DomainSampler:
        domain = (config.source, config.target)[number]
        with of_domain(("source", "target")[number]):
            dataset = open_domain(domain, config.classes)
        made = _sampler(config, domain, dataset, number, labelled=labelled)
        made.sampling = find(SAMPLINGS[domain.sampling])(made.dataset, made.seed, config)
        return made

    return sampler(0, labelled=True), sampler(1, labelled=METHODS[config.method.name].reads_target_labels)


def build_few_sampler(config: Config, validated: Dataset | None = None) -> DomainSampler | None:
    """Sampler of the target images whose labels `target_labels` permits to read; None: it is not given.

    Args:
        config: the run.
        validated: images that the run is scored on; None: there are none.

    Raises:
        ConfigError: the method learns from all labels of the target anyway, or an image of the list is validated on.
        DataError: an image of the list, or the label of one, does not exist.
    """
    if config.target_labels is None:
        return None
    if METHODS[config.method.name].reads_target_labels:
        raise ConfigError(
            f"method {config.method.name} learns from all labels of the target: leave --target-labels out"
        )
    domain = config.target.model_copy(update={"list_file": config.target_labels})
    with of_domain("target"):
        dataset = open_domain(domain, config.classes)
    if not dataset.labelled:
        raise DataError(
            f"--target-labels {config.target_labels} asks for labels, and the description of {dataset.name} has none: "
            "add a labels pattern"
        )
    missing = [index for index in range(len(dataset)) if not dataset.has_label(index)]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(dataset)} images of --target-labels {config.target_labels} have no label, "
            f"first {dataset.names[missing[0]]}: {dataset.label_path(missing[0])} does not exist; label them or take "
            "them from the list"
        )
    if validated is not None:
        _require_apart(config, dataset, validated)
    return _sampler(config, domain, dataset, FEW_DRAWS, labelled=True)


def _require_apart(config: Config, few: Dataset, validated: Dataset) -> None:
    """Checks that no label of `target_labels` is one that the run is scored by.

    Raises:
        ConfigError: an image is in both data sets.
    """
    names = {few.image_path(index): few.names[index] for index in range(len(few))}
    if both := names.keys() & {validated.image_path(index) for index in range(len(validated))}:
        raise ConfigError(
            f"{len(both)} of the {len(names)} images of --target-labels {config.target_labels} are validated on too, "
            f"first {names[min(both)]}: take them from the list, or choose another --validation-split"
        )


def _sampler(config: Config, domain: DomainConfig, dataset: Dataset, number: int, *, labelled: bool) -> DomainSampler:
    """A sampler of a data set; `number` distinguishes its draws from those of others."""
    sampler = DomainSampler(
        dataset,
        size=domain.size,
        augmentation=config.augmentation,
        batch_size=config.batch_size,
        shuffle=config.shuffle,
        labelled=labelled,
        seed=(config.seed, number),
        normalization=config.network.normalization(domain.dataset),
    )
    sampler.ignore_label = config.ignore_label
    return sampler


def sample_names(batches: Iterable[PairedBatch]) -> list[str]:
    """The images of all batches."""
    return [name for pair in batches for batch in pair.batches.values() for name in batch.names]


STEP_DRAWS = 2
"""Beside the run's seed, what the generators of steps are seeded with; the domains' are 0 and 1."""

FEW_DRAWS = 3
"""The same of the sampler of few labelled target images."""


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

    def labelled(batch: Batch, **options: Any) -> LabelledDomain:
        assert batch.labels is not None, "it is sampled with labels"
        return LabelledDomain(send(batch.images), batch.size, send(batch.labels), **options)

    return Pair(
        labelled(source, is_source=True, array=source.labels),
        Domain(send(target.images), target.size) if target.labels is None else labelled(target),
        random=np.random.default_rng([seed, STEP_DRAWS, batch.number]),
        few=labelled(batch.few) if batch.few else None,
    )
