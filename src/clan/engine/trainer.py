"""The training loop. It owns the machinery; what is computed is the method's business."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from clan.config import Config, Schedule, to_yaml
from clan.data import transforms
from clan.data.datasets import Dataset
from clan.data.loader import DomainSampler, PairedBatch, PairedLoader
from clan.engine.checkpoint import State, load_state, save_state
from clan.engine.device import select_device
from clan.engine.events import EventLog
from clan.engine.inference import evaluating, predict
from clan.engine.optim import SGD, Adam
from clan.engine.schedule import learning_rate
from clan.errors import ConfigError, TrainingError
from clan.labels import CITYSCAPES
from clan.methods import build_method
from clan.methods.base import Domain, LabelledDomain, Pair, Progress
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
        make_folder(self.folder)
        notify(f"computing on {select_device(config.device, config.gpu)}")
        paddle.seed(config.seed)
        self.source, self.target = build_samplers(config)
        notify(f"{len(self.source.dataset)} source and {len(self.target.dataset)} target images")
        self.method = build_method(config)
        self.sgd = SGD(self.method.segmenter, config.optimizer)
        self.adams = {
            name: Adam(network, weight_decay=config.optimizer.discriminator_weight_decay)
            for name, network in self.method.discriminators.items()
        }
        self.iteration = 0
        if resume:
            self._restore(load_state(self.folder, config))
            notify(f"resuming at iteration {self.iteration}")
        else:
            self._initialise(notify)
        self._set_training_mode()
        (self.folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")

    def run(self, on_step: Callable[[Report], None] = lambda report: None) -> Path:
        """Trains until `config.stop`; returns the path of the last snapshot.

        Raises:
            TrainingError: a loss is not finite.
            DataError: a sample cannot be read.
        """
        config = self.config
        events = EventLog(self.folder, self.iteration)
        loader = PairedLoader(
            self.source, self.target, num_workers=config.num_workers, start=self.iteration * config.iter_size
        )
        batches = iter(loader)
        try:
            while self.iteration < config.stop:
                started = time.perf_counter()
                losses, rates = self._step(batches)
                seconds = time.perf_counter() - started
                events.write(self.iteration, losses, {**rates, "seconds": seconds})
                on_step(Report(self.iteration, config.stop, losses, seconds))
                self.iteration += 1
                if self.iteration % config.save_every == 0 or self.iteration == config.stop:
                    self._save()
        finally:
            batches.close()
            events.close()
        return self.snapshot_path()

    def snapshot_path(self, suffix: str = "") -> Path:
        """Where the segmenter (or, with suffix "_D", the discriminator) is saved at this iteration."""
        prefix = SNAPSHOT_PREFIX.get(self.config.source.dataset, self.config.source.dataset)
        return self.folder / f"{prefix}_{self.iteration}{suffix}.pdparams"

    def _step(self, batches: Iterator[PairedBatch]) -> tuple[dict[str, float], dict[str, float]]:
        """One iteration: `iter_size` passes, then every optimizer steps once."""
        config = self.config
        progress = Progress(self.iteration, config.num_steps, config.warmup)
        share = 1.0 / config.iter_size
        totals: dict[str, float] = {}
        for _ in range(config.iter_size):
            batch = next(batches)
            pair = to_device(batch)
            losses = self.method.train_step(pair, progress, lambda loss: (loss * share).backward())
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + float(loss) * share
            self._check_finite(totals, batch)
        rates = self._rates()
        self.sgd.step(rates["learning_rate"])
        self.sgd.clear_grad()
        for adam in self.adams.values():
            adam.step(rates["learning_rate_D"])
            adam.clear_grad()
        return totals, rates

    def _rates(self) -> dict[str, float]:
        config, optimizer = self.config, self.config.optimizer

        def rate(base: float, schedule: Schedule) -> float:
            return learning_rate(
                base, self.iteration, schedule=schedule, total=config.num_steps, warmup=config.warmup,
                power=optimizer.power,
            )  # fmt: skip

        rates = {"learning_rate": rate(optimizer.learning_rate, optimizer.schedule)}
        if self.adams:
            rates["learning_rate_D"] = rate(optimizer.discriminator_learning_rate, optimizer.discriminator_schedule)
        return rates

    def _check_finite(self, losses: dict[str, float], batch: PairedBatch) -> None:
        for name, value in losses.items():
            if not np.isfinite(value):
                samples = ", ".join(batch.source.names + batch.target.names)
                raise TrainingError(
                    f"{name} is {value} at iteration {self.iteration} (samples {samples}): lower the learning "
                    "rates or look at these samples; the state of the last snapshot is intact"
                )

    def _initialise(self, notify: Callable[[str], None]) -> None:
        network = self.config.network
        if network.restore_from:
            report = load_weights(self.method.segmenter, network.restore_from, restore_heads=network.restore_heads)
            notify(f"segmenter from {network.restore_from}: {report.summary()}")
        if network.restore_discriminator_from:
            if not self.method.discriminators:
                raise ConfigError(f"method {self.config.method} has no discriminator to restore: drop that option")
            for discriminator in self.method.discriminators.values():
                report = load_weights(discriminator, network.restore_discriminator_from)
                notify(f"discriminator from {network.restore_discriminator_from}: {report.summary()}")

    def _set_training_mode(self) -> None:
        self.method.segmenter.train()
        if not self.config.network.batch_statistics:
            for layer in self.method.segmenter.sublayers():
                if isinstance(layer, nn.BatchNorm2D):
                    layer.eval()

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        """Everything that training changes, by the part of the state it is kept in."""
        parts = {"segmenter": self.method.segmenter.state_dict(), "sgd": self.sgd.state()}
        for name, network in self.method.discriminators.items():
            parts[name] = network.state_dict()
            parts[f"adam.{name}"] = self.adams[name].state()
        return parts

    def _save(self) -> None:
        """A snapshot for users, previews, and the state to resume from."""
        save_weights(self.method.segmenter, self.snapshot_path())
        for discriminator in self.method.discriminators.values():
            save_weights(discriminator, self.snapshot_path("_D"))
        self._save_previews()
        arrays = {
            f"{part}/{name}": tensor.numpy()
            for part, tensors in self._parts().items()
            for name, tensor in tensors.items()
        }
        save_state(self.folder, State(self.iteration, arrays, to_yaml(self.config)))

    def _restore(self, state: State) -> None:
        def part(prefix: str) -> dict[str, Any]:
            return {
                key[len(prefix) + 1 :]: array for key, array in state.arrays.items() if key.startswith(prefix + "/")
            }

        self.method.segmenter.set_state_dict(part("segmenter"))
        velocities = part("sgd")
        for slot in self.sgd.slots:
            slot.velocity = paddle.to_tensor(velocities[slot.name])
        for name, network in self.method.discriminators.items():
            network.set_state_dict(part(name))
            self.adams[name].restore(part(f"adam.{name}"))
        self.iteration = state.iteration

    def _save_previews(self) -> None:
        """Colour masks of the first target images, to look at while training."""
        dataset, size = self.target.dataset, self.target.size
        with evaluating(self.method.segmenter):
            for index in range(min(self.config.save_images, len(dataset))):
                planes = transforms.normalize(transforms.resize_image(dataset.read_image(index), size))
                train_ids = predict(self.method.segmenter, planes, (size[1], size[0]))
                stem = f"{self.snapshot_path().stem}_{Path(dataset.names[index]).stem}"
                save_color(train_ids, self.folder / "images" / f"{stem}.png", CITYSCAPES)


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


def build_samplers(config: Config) -> tuple[DomainSampler, DomainSampler]:
    """Samplers of the source, with labels, and of the target, without."""

    def sampler(number: int, labelled: bool) -> DomainSampler:
        domain = (config.source, config.target)[number]
        return DomainSampler(
            Dataset(domain.dataset, domain.root, list_file=domain.list_file, split=domain.split),
            size=domain.size,
            augmentation=config.augmentation,
            batch_size=config.batch_size,
            shuffle=config.shuffle,
            labelled=labelled,
            seed=(config.seed, number),
        )

    return sampler(0, labelled=True), sampler(1, labelled=False)


def to_device(batch: PairedBatch) -> Pair:
    """A pair of batches of arrays as tensors on the current device."""
    source, target = batch.source, batch.target
    assert source.labels is not None, "the source is sampled with labels"
    labels = paddle.to_tensor(source.labels)
    return Pair(
        LabelledDomain(paddle.to_tensor(source.images), source.size, labels),
        Domain(paddle.to_tensor(target.images), target.size),
    )
