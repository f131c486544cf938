"""The training loop. It owns the machinery; what is computed is the method's business."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import paddle

from clan.core.device import autotune, select_device
from clan.core.errors import TrainingError
from clan.core.precision import check_precision
from clan.core.ranks import connect, require_same_products
from clan.core.runtime import kernel_state
from clan.data.dataset import Dataset
from clan.data.loader import FewLabelled, PairedBatch, PairedLoader
from clan.methods import build_method
from clan.methods.base import synchronise_batch_norms
from clan.run import earlier
from clan.run.checkpoint import State, States, check_fits
from clan.run.config import Config, to_yaml
from clan.run.folder import BAD_SAMPLES, Snapshot
from clan.run.observer import Everyone, Observer, Step, Validation
from clan.run.records import EventLog
from clan.training import health, loggers
from clan.training.batches import Feed, build_few_sampler, build_samplers, sample_names
from clan.training.environment import memory
from clan.training.export import Snapshots, check_space, make_folder, needed_space, write_config
from clan.training.health import BadSamples
from clan.training.interruption import Interruption, Resume
from clan.training.judge import Judge
from clan.training.labels import loss_weights, shortcomings
from clan.training.learner import Learner, load_initial_weights
from clan.training.looks import Looks
from clan.training.statistics import prepare_sampling
from clan.training.validation import Validator

MOST_SKIPPED_IN_A_ROW = 100
"""Steps left out one after another from which on the network itself must be spoiled, and the run ends."""


class Trainer:
    """One run: networks, optimizers and loader of a configuration, trained from `iteration` on.

    Args:
        config: the run.
        resume: continue from the latest whole state in the snapshot folder; "auto": if there is one.
        accept_changes: do so though the configuration changed.
        notify: takes sentences for the user.

    Raises:
        ClanError: whatever of data, weights, folder or device does not fit, before the first iteration.
    """

    def __init__(
        self,
        config: Config,
        *,
        resume: Resume = False,
        accept_changes: bool = False,
        notify: Callable[[str], None] = print,
    ) -> None:
        self.config = config
        self.notify = notify
        self.interruption = Interruption(resume)
        self.folder = config.snapshot_dir
        loggers.require(config.loggers)
        device = select_device(config.device, config.gpu)
        self.ranks = ranks = connect()
        notify(f"computing on {device}" + (f" and {ranks.size - 1} more like it" if ranks.size > 1 else ""))
        with ranks.together():
            complaint = kernel_state().complaint if device == "cpu" else None
            remarks = (check_precision(config.precision), complaint, autotune() if config.autotune else None)
        require_same_products(ranks, config.precision)
        for remark in filter(None, (*remarks, *config.method.remarks(config))):
            notify(remark)
        if resume == "auto":
            resume = ranks.from_first(lambda: earlier.resumable(self.folder))
        paddle.seed(config.seed)
        with ranks.together():
            self.source, self.target = build_samplers(config)
            self.validator = Validator(config, ranks) if config.validate_every else None
            self.few = build_few_sampler(config, self.validator and self.validator.dataset)
            self.judge = Judge(config) if config.select_without_labels else None
        samplers = {"source": self.source, "target": self.target}
        prepare_sampling(config, samplers, folder=self.folder, ranks=ranks, notify=notify)
        few = f", {len(set(self.few.dataset.names))} of them with labels" if self.few else ""
        notify(f"{len(self.source.dataset)} source and {len(self.target.dataset)} target images{few}")
        supervised = self.target if self.target.labelled else self.source
        if ranks.first:
            self._look_at_labels(supervised.dataset)
        self.method = build_method(config, loss_weights(config, supervised.dataset, notify))
        if config.sync_batch_norm:
            synchronise_batch_norms(self.method.networks)
        if not resume:
            ranks.from_first(lambda: load_initial_weights(config, self.method, notify))
            self.method.on_weights_loaded()
        self.learner = Learner(config, self.method)
        self.snapshots = Snapshots(config, self.learner, self.target)
        self.looks = Looks(config, self.method, self.target)
        self.records = self.observer = Observer()
        self.iteration = self.pairs = 0
        self.states = States(self.folder, config.keep_last)
        record = BAD_SAMPLES if ranks.first else f"bad_samples.rank{ranks.rank}.txt"
        samplers |= {"few": self.few} if self.few else {}
        self.bad_samples = BadSamples(self.folder / record, config.tolerate_bad_samples, samplers, notify)
        self.skipped_steps = self.skipped_in_a_row = 0
        self.stopping = False
        self.saved = -1
        self.past_validation = {}  # what a run that does not validate hands on to one that does
        self._restore(ranks.from_first(lambda: self._start(resume, accept_changes)))
        ranks.from_first(lambda: write_config(self.folder, config))
        self.loader = self._loader()
        self.feed = Feed(config.seed, self.loader.next_if_read)

    def _look_at_labels(self, supervised: Dataset) -> None:
        """Says what is wrong with the labels that are learnt from, those that are validated on, and their lists."""
        labelled = [(supervised, "training set")]
        labelled += [(self.few.dataset, "--target-labels images of")] if self.few else []
        labelled += [(self.validator.dataset, "validation set")] if self.validator else []
        for dataset in (self.source.dataset, self.target.dataset, *(each for each, _ in labelled[1:])):
            for remark in dataset.remarks:
                self.notify(remark)
        for dataset, role in labelled:
            for sentence in shortcomings(dataset, role):
                self.notify(sentence)

    def run(self, *observers: Observer) -> Path:
        """Trains until `config.stop`, telling observers; returns the path of the last snapshot.

        Raises:
            TrainingError: a loss or a gradient is not finite.
            DataError: a sample cannot be read.
            CheckpointError: something cannot be written.
            Interrupted: a signal came; the iteration was finished and the state saved.
        """
        config = self.config
        with self.ranks.together():
            if self.ranks.first:
                self.records, given = self._records(), self.config.model_dump(mode="json")
                self.observer = Everyone(
                    [*loggers.open_loggers(config.loggers, self.folder, self.iteration, given), *observers]
                )
        batches = iter(self.loader)
        try:
            self.observer.started(self.iteration, config.stop)
            with self.interruption:
                if self._validation_due():  # the signal that ended the run before has put it off
                    found = self._validate_when_due()
                    self._save_state()
                    self._tell(found=found)
                while self.iteration < config.stop and not self.stopping:
                    self._advance(batches)
                if self.stopping and (self.iteration < config.stop or self._validation_due()):
                    raise self.interruption.stop(self.iteration, config.stop)
        finally:
            batches.close()
            self.records.close()
            self.observer.close()
        return self.snapshots.path(self.iteration)

    def _records(self) -> Observer:
        """What the run keeps about itself: a line that cannot be written ends it, as a state does."""
        validated = self.validator.latest if self.validator else self.iteration
        return EventLog(self.folder, self.iteration, validated)

    def _loader(self) -> PairedLoader:
        """Ranks take pairs in turn, so that R ranks see in k passes what one process sees in R·k."""
        config = self.config
        return PairedLoader(
            self.source,
            self.target,
            num_workers=config.num_workers,
            start=self.pairs + self.ranks.rank,
            stride=self.ranks.size,
            tolerate=config.tolerate_bad_samples,
            timeout=config.data_timeout,
            few=self.few and FewLabelled(self.few, config.target_labels_every, config.iter_size * self.ranks.size),
        )

    def _advance(self, batches: Iterator[PairedBatch]) -> None:
        """One iteration, and what is due after it."""
        config = self.config
        started = time.perf_counter()
        losses, numbers = self._iterate(batches)
        seconds = time.perf_counter() - started
        pairs = config.iter_size * self.ranks.size
        step = Step(self.iteration, losses, numbers, seconds, 2 * config.batch_size * pairs, memory())
        self.records.step(step)
        self.iteration += 1
        self.pairs += pairs
        found = self._validate_when_due()
        self._tell(step, found, self._save_when_due(found))

    def _tell(
        self,
        step: Step | None = None,
        found: Validation | None = None,
        previews: Mapping[str, Path] | None = None,
    ) -> None:
        """Tells observers what is on the disk already, so that none of them, hanging or failing, costs a state."""
        if step:
            self.observer.step(step)
        if found and self.validator:
            self.observer.validated(found, self.validator.best)
        if previews is not None:
            self.observer.saved(self.iteration, self.snapshots.path(self.iteration), previews)
        if self.saved == self.iteration:
            self.observer.flush()

    def _iterate(self, batches: Iterator[PairedBatch]) -> tuple[dict[str, float], dict[str, float]]:
        """One iteration; returns its losses, averaged over the ranks, its rates and counts."""
        learner, config = self.learner, self.config
        skips = config.on_nonfinite == "skip"
        # A forward pass that fails has spoiled the running statistics already.
        statistics = [tensor.clone() for tensor in learner.running_statistics()] if skips else []
        with self.ranks.together():
            # Passes that synchronise statistics are begun by all ranks or by none: a rank that failed would not answer.
            with self.ranks.together() if config.sync_batch_norm else nullcontext():
                taken = list(itertools.islice(batches, config.iter_size))
                for pair in taken:
                    for domain, batch in pair.batches.items():
                        self.bad_samples.note(self.iteration, domain, batch)
            passes = learner.accumulate(self.iteration, self.feed.pairs(taken))
            losses = passes.losses
            if (trouble := health.find_nonfinite(losses)) and not skips:
                raise self._nonfinite(trouble, losses, taken)
        # The signal travels with the losses, so that all ranks stop after the same iteration.
        losses = {**losses, "signal": float(self.interruption.signal > 0)}
        tensors = [*learner.gradients().values(), *learner.running_statistics()]
        losses = self.ranks.average(losses, tensors)
        self.stopping = losses.pop("signal") > 0
        # The mean over ranks of what is finite on each may overflow; alone nothing more is read.
        nonfinite = bool(learner.any_nonfinite()) if self.ranks.size > 1 else not passes.finite
        trouble = health.find_nonfinite(losses) or (learner.nonfinite_gradient() if nonfinite else None)
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
        return losses, numbers

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

    def _validation_due(self) -> bool:
        """Whether a validation is missing, of those at the interval and at the end of the schedule."""
        if self.validator is None or self.validator.latest >= self.iteration:
            return False
        return self.iteration % self.config.validate_every == 0 or self.iteration == self.config.num_steps

    def _validate_when_due(self) -> Validation | None:
        """Validates; returns what came of it.

        While a signal asks to stop, what is due is left to the run that resumes this one.
        """
        validator = self.validator
        if validator is None or not self._validation_due() or (self.stopping and self.iteration < self.config.stop):
            return None
        with self.learner.averaged():
            found = validator.validate(
                self.method.exported,
                self.iteration,
                on_image=self.observer.validating,
                stop=lambda: self.interruption.signal > 0,
                compared=self.method.compared,
            )
        if found is None:
            self.stopping = True
            return None
        self.records.validated(found, validator.best)
        with self.ranks.together():
            if found is validator.best and self.ranks.first:
                self.snapshots.save_best(found)
        return found

    def _save_when_due(self, found: Validation | None) -> Mapping[str, Path] | None:
        """At its interval and at the end, a snapshot for users, previews, which it returns, and the state.

        When stopping, and beside a new best, which is to be of the history that a resumed run goes on from, the state.
        """
        due = self.iteration % self.config.save_every == 0 or self.iteration == self.config.stop
        improved = found is not None and self.validator is not None and found is self.validator.best
        previews = None
        with self.ranks.together():
            if due and self.ranks.first:
                previews = {**self.snapshots.save(self.iteration), **self._look()}
        if due or improved or self.stopping:
            self._save_state()
        if due and self.judge and not self.stopping:
            self._judge(self.judge)
        return previews

    def _look(self) -> Mapping[str, Path]:
        """Looks at what the method made of this rank's last pairs, if it shows that; returns pictures by title."""
        if not self.method.views:
            return {}
        newest = range(self.pairs - self.ranks.size, -1, -self.ranks.size)
        # A teacher that synchronises statistics would wait for the other ranks, which do not look.
        by_itself = not self.config.sync_batch_norm
        if by_itself and (labels := self.looks.compare(self.iteration, newest[: self.looks.batches])):
            self.records.looked(labels)
            self.observer.looked(labels)
        return self.looks.sheet(self.iteration, newest[0], self.snapshots.prefix)

    def _judge(self, judge: Judge) -> None:
        """Measures the snapshot that was just saved; a signal leaves that to `clan select`."""
        with self.ranks.together():
            if not self.ranks.first:
                return
            with self.learner.averaged():
                said = judge.judge(
                    self.method,
                    Snapshot(self.snapshots.path(self.iteration), self.iteration),
                    on_image=self.observer.validating,
                    stop=lambda: self.interruption.signal > 0,
                )
            if said:
                self.notify(f"{self.snapshots.path(self.iteration).stem}, {said}")

    def _save_state(self) -> None:
        with self.ranks.together():
            if self.ranks.first:
                self.states.save(self._state())
        self.saved = self.iteration

    def _state(self) -> State:
        arrays = {name: tensor.numpy() for name, tensor in self.learner.state_dict().items()}
        notes = {"bad_samples": self.bad_samples.records, "skipped_steps": self.skipped_steps}
        notes |= self.validator.notes() if self.validator else self.past_validation
        return State(self.iteration, arrays, to_yaml(self.config), self.ranks.size, self.pairs, notes)

    def _restore(self, state: State) -> None:
        """Takes what `_state` gave."""
        for sentence in self.learner.load_state_dict(state.arrays):
            self.notify(sentence)
        self.bad_samples.restore(state.notes.get("bad_samples", []))
        self.skipped_steps = state.notes.get("skipped_steps", 0)
        self.past_validation = {name: state.notes[name] for name in ("validated", "best") if name in state.notes}
        if self.validator:
            self.validator.restore(self.past_validation)
        self.iteration, self.pairs = state.iteration, state.pairs

    def _start(self, resume: bool, accept_changes: bool) -> State:
        """Makes the folder ready, on the rank that writes there, and returns where all of them start."""
        config, notify = self.config, self.notify
        make_folder(self.folder)
        if resume:
            earlier.bring_back(self.folder)
            state = self.states.latest(notify)
            if changed := check_fits(state, config, ranks=self.ranks.size, accept_changes=accept_changes):
                notify(f"the configuration changed in {changed}")
            notify(f"resuming at iteration {state.iteration}")
        else:
            state = self._state()
        states = len(self.states.paths()) if resume else 0
        check_space(self.folder, needed_space(config, self.learner, iteration=state.iteration, states=states))
        if not resume:
            earlier.set_aside(self.folder, notify)
            for weights in (config.network.restore_from, config.network.restore_discriminator_from):
                if weights and not weights.exists():
                    notify(f"{weights}, which this run starts from, went with it: name its new place to run this again")
        self.states.remove_leftovers()
        return state
