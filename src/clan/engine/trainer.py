"""The training loop. It owns the machinery; what is computed is the method's business."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from clan.config import Config, to_yaml
from clan.data import transforms
from clan.data.datasets import open_domain
from clan.data.loader import DomainSampler, PairedBatch, PairedLoader
from clan.engine.balance import class_weights, count_classes
from clan.engine.checkpoint import STATE_NAME, State, load_state, save_state
from clan.engine.device import select_device
from clan.engine.distributed import connect, synchronise_batch_norm
from clan.engine.events import EventLog
from clan.engine.inference import evaluating, predict
from clan.engine.learner import Learner
from clan.engine.precision import check_precision
from clan.errors import ConfigError, TrainingError
from clan.methods import METHODS, build_method
from clan.methods.base import Domain, LabelledDomain, Pair
from clan.models.weights import load_weights, save_weights
from clan.reporting.images import save_color

SNAPSHOT_PREFIX = {"synthia": "SYS", "gta5": "GTA5"}
"""What snapshot files of a source are called, as the seed does; other sources go by their own name."""


@dataclass(frozen=True)
class Report:
    """What the caller is told while training: iteration just finished, of how many, and its numbers."""

    iteration: int
    total: int
    losses: dict[str, float]
    seconds: float


class Trainer:
    """One run: networks, optimizers and loader of a configuration, trained from `iteration` on.

    Args:
        config: the run.
        resume: continue from the state in the snapshot folder.
        notify: takes sentences for the user.

    Raises:
        ClanError: whatever of data, weights, folder or device does not fit, before the first iteration.
    """

    def __init__(self, config: Config, *, resume: bool = False, notify: Callable[[str], None] = print) -> None:
        self.config = config
        self.folder = config.snapshot_dir
        device = select_device(config.device, config.gpu)
        self.ranks = ranks = connect()
        notify(f"computing on {device}" + (f" and {ranks.size - 1} more like it" if ranks.size > 1 else ""))
        if remark := check_precision(config.precision):
            notify(remark)
        paddle.seed(config.seed)
        with ranks.together():
            self.source, self.target = build_samplers(config)
        notify(f"{len(self.source.dataset)} source and {len(self.target.dataset)} target images")
        self.method = build_method(config, self._class_weights())
        if config.sync_batch_norm:
            synchronise_batch_norm(self.method)
        if not resume:
            ranks.from_first(lambda: self._initialise(notify))
        self.learner = Learner(config, self.method)
        self.iteration = 0
        state = ranks.from_first(lambda: self._start(resume, notify))
        self.learner.restore(state.arrays)
        self.iteration = state.iteration

    def run(self, on_step: Callable[[Report], None] = lambda report: None) -> Path:
        """Trains until `config.stop`; returns the path of the last snapshot.

        Raises:
            TrainingError: a loss is not finite.
            DataError: a sample cannot be read.
        """
        config, ranks = self.config, self.ranks
        events = EventLog(self.folder, self.iteration) if ranks.first else None
        # Ranks take pairs in turn, so that R ranks see in k passes what one process sees in R·k.
        start = self.iteration * config.iter_size * ranks.size + ranks.rank
        loader = PairedLoader(self.source, self.target, num_workers=config.num_workers, start=start, stride=ranks.size)
        batches = iter(loader)
        try:
            while self.iteration < config.stop:
                started = time.perf_counter()
                losses, numbers = self._iterate(batches)
                seconds = time.perf_counter() - started
                if events:
                    events.write(self.iteration, losses, {**numbers, "seconds": seconds})
                on_step(Report(self.iteration, config.stop, losses, seconds))
                self.iteration += 1
                if self.iteration % config.save_every == 0 or self.iteration == config.stop:
                    with ranks.together():
                        if ranks.first:
                            self._save()
        finally:
            batches.close()
            if events:
                events.close()
        return self.snapshot_path()

    def snapshot_path(self, suffix: str = "") -> Path:
        """Where the segmenter (or, with suffix "_D", the discriminator) is saved at this iteration."""
        prefix = SNAPSHOT_PREFIX.get(self.source.dataset.name, self.source.dataset.name)
        return self.folder / f"{prefix}_{self.iteration}{suffix}.pdparams"

    def _iterate(self, batches: Iterator[PairedBatch]) -> tuple[dict[str, float], dict[str, float]]:
        """One iteration; returns its losses, averaged over the ranks, and its rates."""
        learner = self.learner
        with self.ranks.together():
            taken = list(itertools.islice(batches, self.config.iter_size))
            losses = learner.accumulate(self.iteration, map(to_device, taken))
            self._check_finite(losses, taken)
        losses = self.ranks.average(losses, [*learner.gradients(), *learner.running_statistics()])
        return losses, learner.step(self.iteration)

    def _check_finite(self, losses: dict[str, float], batches: list[PairedBatch]) -> None:
        for name, value in losses.items():
            if not np.isfinite(value):
                samples = ", ".join(name for batch in batches for name in batch.source.names + batch.target.names)
                raise TrainingError(
                    f"{name} is {value} at iteration {self.iteration} (samples {samples}): lower the learning "
                    "rates or look at these samples; the state of the last snapshot is intact"
                )

    def _class_weights(self) -> paddle.Tensor | None:
        weighting = self.config.loss.class_weighting
        if weighting == "none":
            return None
        supervised = self.target if self.target.labelled else self.source
        counts = count_classes(supervised.dataset, self.config.network.num_classes)
        return paddle.to_tensor(class_weights(counts, weighting))

    def _start(self, resume: bool, notify: Callable[[str], None]) -> State:
        """Makes the folder ready, on the rank that writes there, and returns where all of them start."""
        config = self.config
        make_folder(self.folder)
        if resume:
            state = load_state(self.folder, config, ranks=self.ranks.size)
            notify(f"resuming at iteration {state.iteration}")
        else:
            set_aside(self.folder, notify)
            state = self._state()
        (self.folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        return state

    def _state(self) -> State:
        arrays = {name: tensor.numpy() for name, tensor in self.learner.state().items()}
        return State(self.iteration, arrays, to_yaml(self.config), ranks=self.ranks.size)

    def _initialise(self, notify: Callable[[str], None]) -> None:
        network = self.config.network
        if network.restore_from:
            report = load_weights(self.method.segmenter, network.restore_from, restore_heads=network.restore_heads)
            notify(f"segmenter from {network.restore_from}: {report.summary()}")
        if network.restore_discriminator_from:
            if not self.method.discriminators:
                raise ConfigError(f"method {self.config.method} has no discriminator to restore: drop that option")
            discriminator = self.method.discriminators["discriminator"]
            report = load_weights(discriminator, network.restore_discriminator_from)
            notify(f"discriminator from {network.restore_discriminator_from}: {report.summary()}")

    def _save(self) -> None:
        """A snapshot for users, previews, and the state to resume from."""
        with self.learner.averaged():
            save_weights(self.method.segmenter, self.snapshot_path())
            self._save_previews()
        for name, discriminator in self.method.discriminators.items():
            save_weights(discriminator, self.snapshot_path(name.replace("discriminator", "_D")))
        save_state(self.folder, self._state())

    def _save_previews(self) -> None:
        """Colour masks of the first target images, to look at while training."""
        dataset, size = self.target.dataset, self.target.size
        with evaluating(self.method.segmenter):
            for index in range(min(self.config.save_images, len(dataset))):
                image = transforms.resize_image(dataset.read_image(index), size)
                planes = transforms.normalize(image, self.target.normalization)
                train_ids = predict(self.method.segmenter, planes[None], [(size[1], size[0])])[0]()
                stem = f"{self.snapshot_path().stem}_{dataset.stems[index].replace('/', '_')}"
                save_color(train_ids, self.folder / "images" / f"{stem}.png", self.config.classes.label_space)


def make_folder(folder: Path) -> None:
    """Creates a folder and makes sure that files can be written there.

    Raises:
        ConfigError: it cannot.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} ({error.strerror}): choose another --snapshot-dir") from None


def set_aside(folder: Path, notify: Callable[[str], None]) -> None:
    """Renames the state and records of an earlier run in the folder, which a new one must not mix with or lose."""
    for name in (STATE_NAME, *EventLog.NAMES):
        path = folder / name
        if path.exists():
            path.replace(folder / f"{name}.before")
            notify(f"{path} belongs to an earlier run: kept as {name}.before")


def build_samplers(config: Config) -> tuple[DomainSampler, DomainSampler]:
    """Samplers of the source, with labels, and of the target, with labels only for a method that asks for them."""

    def sampler(number: int, labelled: bool) -> DomainSampler:
        domain = (config.source, config.target)[number]
        return DomainSampler(
            open_domain(domain, config.classes),
            size=domain.size,
            augmentation=config.augmentation,
            batch_size=config.batch_size,
            shuffle=config.shuffle,
            labelled=labelled,
            seed=(config.seed, number),
            normalization=config.network.normalization(domain.dataset),
        )

    return sampler(0, labelled=True), sampler(1, labelled=METHODS[config.method].reads_target_labels)


def to_device(batch: PairedBatch) -> Pair:
    """A pair of batches of arrays as tensors on the current device."""
    source, target = batch.source, batch.target
    assert source.labels is not None, "the source is sampled with labels"
    labels = paddle.to_tensor(source.labels)
    images = paddle.to_tensor(target.images)
    return Pair(
        LabelledDomain(paddle.to_tensor(source.images), source.size, labels, is_source=True),
        Domain(images, target.size)
        if target.labels is None
        else LabelledDomain(images, target.size, paddle.to_tensor(target.labels)),
    )
