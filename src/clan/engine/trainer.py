"""The training loop. It owns the machinery; what is computed is the method's business."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paddle

from clan.atomic import write_atomically
from clan.config import Config, to_yaml
from clan.data import transforms
from clan.data.datasets import open_domain
from clan.data.loader import DomainSampler, PairedBatch, PairedLoader
from clan.engine import checkpoint, health
from clan.engine.bad_samples import BadSamples
from clan.engine.balance import class_weights, count_classes
from clan.engine.checkpoint import State, States, check_fits
from clan.engine.device import select_device
from clan.engine.disk import check_space, needed_space
from clan.engine.distributed import connect, synchronise_batch_norm
from clan.engine.events import EventLog
from clan.engine.inference import evaluating, predict
from clan.engine.interruption import Interruption
from clan.engine.learner import Learner
from clan.engine.precision import check_precision
from clan.errors import ConfigError, DataError, TrainingError
from clan.methods import METHODS, build_method
from clan.methods.base import Domain, LabelledDomain, Pair
from clan.models.weights import load_weights, save_weights
from clan.reporting.images import save_color

SNAPSHOT_PREFIX = {"synthia": "SYS", "gta5": "GTA5"}
"""What snapshot files of a source are called, as the seed does; other sources go by their own name."""

MOST_SKIPPED_IN_A_ROW = 100
"""Steps left out one after another from which on the network itself must be spoiled, and the run ends."""


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
        resume: continue from the latest whole state in the snapshot folder.
        accept_changes: do so though the configuration changed.
        notify: takes sentences for the user.

    Raises:
        ClanError: whatever of data, weights, folder or device does not fit, before the first iteration.
    """

    def __init__(
        self,
        config: Config,
        *,
        resume: bool = False,
        accept_changes: bool = False,
        notify: Callable[[str], None] = print,
    ) -> None:
        self.config = config
        self.notify = notify
        self.interruption = Interruption()
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
        self.states = States(self.folder, config.keep_last)
        record = "bad_samples.txt" if ranks.first else f"bad_samples.rank{ranks.rank}.txt"
        self.bad_samples = BadSamples(
            self.folder / record, config.tolerate_bad_samples, {"source": self.source, "target": self.target}, notify
        )
        self.skipped_steps = self.skipped_in_a_row = 0
        state = ranks.from_first(lambda: self._start(resume, accept_changes))
        self.learner.restore(state.arrays)
        self.bad_samples.restore(state.notes.get("bad_samples", []))
        self.skipped_steps = state.notes.get("skipped_steps", 0)
        self.iteration = state.iteration

    def run(self, on_step: Callable[[Report], None] = lambda report: None) -> Path:
        """Trains until `config.stop`; returns the path of the last snapshot.

        Raises:
            TrainingError: a loss or a gradient is not finite.
            DataError: a sample cannot be read.
            CheckpointError: something cannot be written.
            Interrupted: a signal came; the iteration was finished and the state saved.
        """
        config, ranks = self.config, self.ranks
        with ranks.together():
            events = EventLog(self.folder, self.iteration) if ranks.first else None
        # Ranks take pairs in turn, so that R ranks see in k passes what one process sees in R·k.
        start = self.iteration * config.iter_size * ranks.size + ranks.rank
        loader = PairedLoader(
            self.source,
            self.target,
            num_workers=config.num_workers,
            start=start,
            stride=ranks.size,
            tolerate=config.tolerate_bad_samples,
            timeout=config.data_timeout,
        )
        batches = iter(loader)
        try:
            with self.interruption:
                while self.iteration < config.stop:
                    started = time.perf_counter()
                    losses, numbers, stopping = self._iterate(batches)
                    seconds = time.perf_counter() - started
                    if events:
                        events.write(self.iteration, losses, {**numbers, "seconds": seconds})
                    on_step(Report(self.iteration, config.stop, losses, seconds))
                    self.iteration += 1
                    self._save_when_due(stopping)
                    if stopping and self.iteration < config.stop:
                        raise self.interruption.stop(self.iteration, config.stop)
        finally:
            batches.close()
            if events:
                events.close()
        return self.snapshot_path()

    def snapshot_path(self, suffix: str = "") -> Path:
        """Where the segmenter (or, with suffix "_D", the discriminator) is saved at this iteration."""
        prefix = SNAPSHOT_PREFIX.get(self.source.dataset.name, self.source.dataset.name)
        return self.folder / f"{prefix}_{self.iteration}{suffix}.pdparams"

    def _iterate(self, batches: Iterator[PairedBatch]) -> tuple[dict[str, float], dict[str, float], bool]:
        """One iteration; returns its losses, averaged over the ranks, its rates and counts, and whether to stop."""
        learner, config = self.learner, self.config
        skips = config.on_nonfinite == "skip"
        # A forward pass that fails has spoiled the running statistics already.
        statistics = [tensor.clone() for tensor in learner.running_statistics()] if skips else []
        with self.ranks.together():
            taken = list(itertools.islice(batches, config.iter_size))
            for pair in taken:
                self.bad_samples.note(self.iteration, "source", pair.source)
                self.bad_samples.note(self.iteration, "target", pair.target)
            losses = learner.accumulate(self.iteration, map(to_device, taken))
            if (trouble := health.find_nonfinite(losses)) and not skips:
                raise self._nonfinite(trouble, losses, taken)
        # The signal travels with the losses, so that all ranks stop after the same iteration.
        losses = {**losses, "signal": float(self.interruption.signal > 0)}
        tensors = [*learner.gradients().values(), *learner.running_statistics()]
        losses = self.ranks.average(losses, tensors)
        stopping = losses.pop("signal") > 0
        trouble = health.find_nonfinite(losses) or learner.nonfinite_gradient()
        if trouble is None:
            self.skipped_in_a_row = 0
            numbers = learner.step(self.iteration)
        elif skips:
            self._skip(trouble, losses, taken)
            for tensor, value in zip(learner.running_statistics(), statistics, strict=True):
                tensor.set_value(value)
            numbers = learner.rates(self.iteration)
        else:
            raise self._nonfinite(trouble, losses, taken)
        if skips:
            numbers = numbers | {"nonfinite_steps": self.skipped_steps}
        if config.tolerate_bad_samples:
            numbers = numbers | {"bad_samples": len(self.bad_samples.records)}
        return losses, numbers, stopping

    def _skip(self, trouble: str, losses: dict[str, float], batches: list[PairedBatch]) -> None:
        """Leaves out the step of this iteration, and says so."""
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row == MOST_SKIPPED_IN_A_ROW:
            raise self._nonfinite(f"{trouble}, in {MOST_SKIPPED_IN_A_ROW} iterations in a row", losses, batches)
        self.learner.clear_gradients()
        self.notify(
            f"iteration {self.iteration}: {trouble} (samples {', '.join(sample_names(batches))}), step left out, "
            f"{self.skipped_steps} so far"
        )

    def _nonfinite(self, trouble: str, losses: dict[str, float], batches: list[PairedBatch]) -> TrainingError:
        """Writes down what led to it; what is trained is as it was before the iteration."""
        names = sample_names(batches)
        gradients = {f"gradient/{name}": tensor.numpy() for name, tensor in self.learner.gradients().items()}
        facts = {
            "iteration": self.iteration,
            "trouble": trouble,
            "losses": {name: repr(value) for name, value in losses.items()},
            "samples": names,
        }
        dump = health.write_dump(self.folder, self.iteration, {**self._state().arrays, **gradients}, facts)
        return TrainingError(
            f"{trouble} at iteration {self.iteration} (samples {', '.join(names)}): lower the learning rates, look at "
            f"these samples, or go on without such steps (--resume --on-nonfinite skip); {dump}"
        )

    def _class_weights(self) -> paddle.Tensor | None:
        weighting = self.config.loss.class_weighting
        if weighting == "none":
            return None
        supervised = self.target if self.target.labelled else self.source
        counts = count_classes(
            supervised.dataset,
            self.config.network.num_classes,
            tolerate=self.config.tolerate_bad_samples,
            notify=self.notify,
        )
        return paddle.to_tensor(class_weights(counts, weighting))

    def _start(self, resume: bool, accept_changes: bool) -> State:
        """Makes the folder ready, on the rank that writes there, and returns where all of them start."""
        config, notify = self.config, self.notify
        make_folder(self.folder)
        if resume:
            state = self.states.latest(notify)
            if changed := check_fits(state, config, ranks=self.ranks.size, accept_changes=accept_changes):
                notify(f"the configuration changed in {changed}")
            notify(f"resuming at iteration {state.iteration}")
        else:
            set_aside(self.folder, notify)
            state = self._state()
        self.states.remove_leftovers()
        needed = needed_space(config, self.learner, iteration=state.iteration, states=len(self.states.paths()))
        check_space(self.folder, needed)
        try:
            write_atomically(self.folder / "config.yaml", lambda file: file.write(to_yaml(config).encode()))
        except OSError as error:
            raise ConfigError(f"cannot write to {self.folder} ({error.strerror}): choose another folder") from None
        return state

    def _state(self) -> State:
        arrays = {name: tensor.numpy() for name, tensor in self.learner.state().items()}
        notes = {"bad_samples": self.bad_samples.records, "skipped_steps": self.skipped_steps}
        return State(self.iteration, arrays, to_yaml(self.config), ranks=self.ranks.size, notes=notes)

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

    def _save_when_due(self, stopping: bool) -> None:
        """At its interval and at the end, a snapshot for users, previews and the state; when stopping, the state."""
        due = self.iteration % self.config.save_every == 0 or self.iteration == self.config.stop
        if not due and not stopping:
            return
        with self.ranks.together():
            if self.ranks.first:
                if due:
                    self._save_snapshot()
                self.states.save(self._state())

    def _save_snapshot(self) -> None:
        with self.learner.averaged():
            save_weights(self.method.segmenter, self.snapshot_path())
            self._save_previews()
        for name, discriminator in self.method.discriminators.items():
            save_weights(discriminator, self.snapshot_path(name.replace("discriminator", "_D")))

    def _save_previews(self) -> None:
        """Colour masks of the first target images, to look at while training."""
        dataset, size = self.target.dataset, self.target.size
        with evaluating(self.method.segmenter):
            for index in range(min(self.config.save_images, len(dataset))):
                try:
                    image = transforms.resize_image(dataset.read_image(index), size)
                except DataError:
                    if not self.config.tolerate_bad_samples:
                        raise
                    continue  # named when training meets it
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
    """Renames the states and records of an earlier run in the folder, which a new one must not mix with or lose."""
    for name in (checkpoint.FOLDER, checkpoint.OLD_NAME, "bad_samples.txt", *EventLog.NAMES):
        path = folder / name
        if path.exists():
            names = itertools.chain([f"{name}.before"], (f"{name}.before{number}" for number in itertools.count(2)))
            free = next(before for before in names if not (folder / before).exists())
            path.replace(folder / free)
            notify(f"{path} belongs to an earlier run: kept as {free}")


def sample_names(batches: Iterable[PairedBatch]) -> list[str]:
    """The images of both domains."""
    return [name for batch in batches for name in batch.source.names + batch.target.names]


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
