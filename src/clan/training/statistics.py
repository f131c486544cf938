"""Statistics of labels that a run's sampling depends on: counted once, by one process, and kept beside the run."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from clan.core.errors import ConfigError, DataError
from clan.core.output import Pace, clock
from clan.core.ranks import ALONE, Ranks
from clan.data.class_pixels import ClassPixels, count_pixels, fingerprint, load_pixels, save_pixels
from clan.data.dataset import Dataset
from clan.data.loader import DomainSampler, too_many
from clan.data.rare_class import RareClass
from clan.run.config import Config
from clan.run.folder import CLASS_PIXELS

Notify = Callable[[str], None]


def prepare_sampling(
    config: Config,
    samplers: Mapping[str, DomainSampler],
    *,
    folder: Path | None = None,
    ranks: Ranks = ALONE,
    notify: Notify = print,
) -> None:
    """Gives strategies that draw by class the pixels of each class in all labels.

    Rank 0 counts. A later run takes what is kept as long as list, labels and classes are the same.

    Args:
        config: the run.
        samplers: those of the run, "source" and "target".
        folder: keeps the counts; None: they are not kept.
        ranks: the processes of the run.
        notify: receives sentences for the user, on rank 0.

    Raises:
        ClanError: a domain without labels is to be drawn by class, no image has enough pixels of any class, more labels
            are unreadable than the run tolerates, or the result cannot be written.
    """
    for role, sampler in samplers.items():
        strategy, dataset = sampler.sampling, sampler.dataset
        if not isinstance(strategy, RareClass):
            continue
        if not sampler.labelled:
            raise ConfigError(
                f"{role}.sampling rare-class draws images by their labels, which method {config.method.name} does not "
                f"read of the {role}: make it uniform"
            )
        count = partial(
            count_with_progress,
            dataset,
            tolerate=config.tolerate_bad_samples,
            what="rare-class sampling",
            notify=notify,
        )
        path = folder / CLASS_PIXELS.format(role) if folder else None
        for remark in strategy.prepare(ranks.from_first(partial(_keep, count, dataset, path, notify))):
            if ranks.first:
                notify(remark)


def _keep(count: Callable[[], ClassPixels], dataset: Dataset, path: Path | None, notify: Notify) -> ClassPixels:
    """Returns the counts of a file that fits the data set; else counts, and writes the file if all is readable."""
    if path is None:
        return count()
    mark = fingerprint(dataset)
    if (kept := load_pixels(dataset, mark, path)) is not None:
        notify(f"the pixels of each class in {len(dataset)} labels of {dataset.name} are known from {path}")
        return kept
    counted = count()
    if not counted.unreadable:
        save_pixels(counted, dataset, mark, path)
        notify(f"the pixels of each class in {len(dataset)} labels of {dataset.name} are counted and kept in {path}")
    return counted


def count_with_progress(dataset: Dataset, *, tolerate: int, what: str, notify: Notify, **options: Any) -> ClassPixels:
    """Counts as `count_pixels`, and tells of progress where that takes more than a few seconds.

    Args:
        dataset: labelled data set.
        tolerate: unreadable labels that are left out; each is reported to `notify`.
        what: what is made of the counts, such as "class weights".
        notify: receives sentences for the user.
        options: `indices` of `count_pixels`.

    Raises:
        DataError: more labels are unreadable.
    """
    total = len(options.get("indices", dataset))
    pace, done, bad = Pace(), 0, 0

    def counted() -> None:
        nonlocal done
        done += 1
        if pace.due():
            left = clock(pace.elapsed / done * (total - done))
            notify(f"counting the pixels of each class: {done} of {total} labels, {left} left")

    def unreadable(error: DataError) -> None:
        nonlocal bad
        bad += 1
        if bad > tolerate:
            raise too_many(str(error), tolerate)
        notify(f"left out of the {what}: {error}")

    return count_pixels(dataset, on_label=counted, on_unreadable=unreadable, **options)
