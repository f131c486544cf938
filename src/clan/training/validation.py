"""Validation while training: what the segmenter scores on labels that it never learns from."""

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from clan.core.errors import ConfigError, of_domain
from clan.core.ranks import Ranks
from clan.data.dataset import Dataset
from clan.evaluation.confusion import confusion_matrix
from clan.evaluation.finite import NotFinite
from clan.evaluation.inference import EvaluationOptions, each_label_map
from clan.evaluation.iou import headline, score
from clan.models.segmenter import Segmenter
from clan.run.config import Config
from clan.run.observer import NetworkScores, Validation


class Stopped(Exception):
    """A validation was broken off."""


class Validator:
    """Scores a segmenter on the target's labelled split and remembers what was best.

    Ranks share the images and add up what they counted, so that all of them know the same.

    Args:
        config: the run.
        ranks: the processes that do it together.

    Raises:
        ClanError: the split is not there, or lacks labels.

    Attributes:
        best: the best so far, the first of equals; None: there is none that has a score.
        latest: iteration of the last validation.
    """

    def __init__(self, config: Config, ranks: Ranks) -> None:
        self.ranks = ranks
        self.source = config.source.dataset.name
        self.options = EvaluationOptions.of_run(config, config.target.dataset)
        self.dataset = open_labelled(config)
        self.name = f"{self.dataset.name} {config.validation_split}, {len(self.dataset)} images"
        self.best: Validation | None = None
        self.latest = 0

    def notes(self) -> dict[str, Any]:
        """What goes on with the run, as JSON has it."""
        return {"validated": self.latest, "best": self.best.record() if self.best else None}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Takes what `notes` gave; a best of other images than these is none."""
        self.latest = notes.get("validated", 0)
        if record := notes.get("best"):
            best = Validation.of(record)
            self.best = best if best.dataset == self.name else None

    def validate(
        self,
        segmenter: Segmenter,
        iteration: int,
        *,
        on_image: Callable[[int, int], None],
        stop: Callable[[], bool],
        compared: Mapping[str, Segmenter] = MappingProxyType({}),
    ) -> Validation | None:
        """Scores networks, without leaving a trace in them.

        Args:
            segmenter: with the weights to score.
            iteration: iterations done.
            compared: other networks by name, whose scores are kept beside those of the segmenter.
            on_image: called with the images that this rank has seen, and of how many.
            stop: asked after each image whether to break off.

        Returns:
            The scores, all NaN if a prediction is not finite; or None if any rank broke off.

        Raises:
            DataError: an image or a label cannot be read.
        """
        found_of = {}
        networks = {"": segmenter, **compared}
        for number, (name, network) in enumerate(networks.items()):

            def seen(done: int, total: int, before: int = number) -> None:
                on_image(before * total + done, len(networks) * total)

            with self.ranks.together():
                counts, stopped, not_finite = self._count(network, seen, stop)
            *total, stops, failures = self.ranks.sum(np.append(counts, np.array([stopped, not_finite], np.int64)))
            if stops:
                return None
            # Without a pixel all scores are NaN.
            confusion = np.zeros_like(counts) if failures else np.reshape(total, counts.shape)
            scores = score(confusion, self.dataset.classes.label_space)
            found_of[name] = NetworkScores(
                dict(scores.means), dict(zip(scores.names, map(float, scores.iou), strict=True))
            )
        own = found_of.pop("")
        found = Validation(iteration, self.name, headline(self.source, own.means), own.means, own.iou, found_of)
        self.latest = iteration
        # Not "worse or equal": a score of no pixels is NaN, which compares as neither.
        if found.score > (self.best.score if self.best else -1.0):
            self.best = found
        return found

    def _count(
        self, segmenter: Segmenter, on_image: Callable[[int, int], None], stop: Callable[[], bool]
    ) -> tuple[np.ndarray, bool, bool]:
        """The confusion matrix of this rank's images, int64 [C, C]; whether it broke off; whether one is not finite."""
        share = self.dataset.part(self.ranks.share(range(len(self.dataset))))
        num_classes = share.classes.label_space.num_classes
        total, lock, done = np.zeros((num_classes, num_classes), np.int64), threading.Lock(), 0

        def compare(train_ids: np.ndarray, index: int) -> None:
            confusion = confusion_matrix(share.read_label(index), train_ids, num_classes)
            with lock:
                np.add(total, confusion, out=total)

        def seen(name: str) -> None:
            nonlocal done
            done += 1
            on_image(done, len(share))
            if stop():
                raise Stopped

        try:
            each_label_map(segmenter, share, compare, options=self.options, on_image=seen)
        except Stopped:
            return total, True, False
        except NotFinite:
            return total, False, True
        return total, False, False


def open_labelled(config: Config) -> Dataset:
    """The images to validate on, all of which have labels.

    Raises:
        ClanError: the split is not there, or lacks labels.
    """
    target = config.target
    with of_domain("target"):
        whole = Dataset(target.dataset, target.root, split=config.validation_split, classes=config.classes)
    count = min(config.validation_images or len(whole), len(whole))
    chosen = whole.part(np.linspace(0, len(whole) - 1, count).round().astype(int).tolist())
    bare = [index for index in range(len(chosen)) if not chosen.has_label(index)]
    if bare:
        raise ConfigError(
            f"{len(bare)} of {len(chosen)} images to validate on have no label, first {chosen.names[bare[0]]} of "
            f"{whole.name}: choose another --validation-split or leave --validate-every out"
        )
    return chosen
