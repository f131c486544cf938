"""A method with its optimizers: what one iteration changes, and all that must be kept to go on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from clan.config import Config, Schedule
from clan.engine.health import are_finite, find_nonfinite_gradient
from clan.engine.optim import SGD, Adam
from clan.engine.precision import LossScale, autocast
from clan.engine.schedule import learning_rate
from clan.errors import ConfigError
from clan.methods.base import Method, Pair, Progress
from clan.models.weights import load_weights


class Learner:
    """Trains a method's networks, one iteration at a time.

    Args:
        config: rates, schedules, accumulation, precision and batch-norm mode are used.
        method: its networks, with their initial weights, are changed in place.
    """

    def __init__(self, config: Config, method: Method) -> None:
        self.config = config
        self.method = method
        self.sgd = SGD(method.segmenter, config.optimizer)
        self.adams = {
            name: Adam(network, weight_decay=config.optimizer.discriminator_weight_decay)
            for name, network in method.discriminators.items()
        }
        self.average = (
            {slot.name: slot.parameter.detach().clone() for slot in self.sgd.slots}
            if config.optimizer.ema_decay
            else {}
        )
        self.loss_scale = LossScale() if config.precision == "fp16" else None
        self._set_training_mode()

    def accumulate(self, iteration: int, pairs: Iterable[Pair]) -> dict[str, float]:
        """Adds up the gradients of an iteration's passes; returns the losses, averaged over them."""
        progress = Progress(iteration, self.config.num_steps, self.config.warmup)
        share = 1.0 / self.config.iter_size
        factor = share if self.loss_scale is None else share * self.loss_scale.factor

        def backward(loss: Tensor) -> None:
            with paddle.amp.auto_cast(enable=False):  # a gradient is computed in what its forward pass was
                (loss * factor).backward()

        totals: dict[str, float] = {}
        for pair in pairs:
            with autocast(self.config.precision):
                losses = self.method.train_step(pair, progress, backward)
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + float(loss) * share
        return totals

    def gradients(self) -> dict[str, Tensor]:
        """Those that `accumulate` added up, to be changed in place, as "segmenter/…" and "discriminator/…"."""
        networks = {"segmenter": self.method.segmenter, **self.method.discriminators}
        return {
            f"{part}/{name}": parameter.grad
            for part, network in networks.items()
            for name, parameter in network.named_parameters()
            if parameter.grad is not None
        }

    def nonfinite_gradient(self) -> str | None:
        """What is not finite among the gradients, if anything; a loss scale sees to its own overflows."""
        gradients = self.gradients()
        if self.loss_scale is not None or are_finite(gradients):
            return None
        return find_nonfinite_gradient(gradients)

    def running_statistics(self) -> list[Tensor]:
        """Means and variances of the batch norms that are keeping them, to be changed in place."""
        if self.config.network.batch_norm == "frozen":
            return []
        state = self.method.segmenter.state_dict()
        return [tensor for name, tensor in state.items() if name.endswith(("_mean", "_variance"))]

    def step(self, iteration: int) -> dict[str, float]:
        """Steps every optimizer once on what `accumulate` added up, unless that overflowed float16.

        Returns:
            The rates by name; with a loss scale also `loss_scale` and `skipped_steps`, its count so far.
        """
        numbers = rates = self.rates(iteration)
        overflowed = False
        if self.loss_scale is not None:
            overflowed = not self.loss_scale.unscale(self.gradients().values())
            numbers = rates | {"loss_scale": self.loss_scale.factor, "skipped_steps": self.loss_scale.skipped}
        if not overflowed:
            self.sgd.step(rates["learning_rate"])
            self._follow(iteration)
            for adam in self.adams.values():
                adam.step(rates["learning_rate_D"])
        self.clear_gradients()
        return numbers

    def clear_gradients(self) -> None:
        """Forgets what `accumulate` added up."""
        for optimizer in (self.sgd, *self.adams.values()):
            optimizer.clear_grad()

    def rates(self, iteration: int) -> dict[str, float]:
        """Base rates of an iteration: `learning_rate` and, with a discriminator, `learning_rate_D`."""
        config, optimizer = self.config, self.config.optimizer

        def rate(base: float, schedule: Schedule) -> float:
            course = {"total": config.num_steps, "warmup": config.warmup, "power": optimizer.power}
            return learning_rate(base, iteration, schedule=schedule, **course)

        rates = {"learning_rate": rate(optimizer.learning_rate, optimizer.schedule)}
        if self.adams:
            rates["learning_rate_D"] = rate(optimizer.discriminator_learning_rate, optimizer.discriminator_schedule)
        return rates

    @paddle.no_grad()
    def _follow(self, iteration: int) -> None:
        """Moves the average towards the weights; faster at first, so that it soon forgets the initial ones."""
        decay = min(self.config.optimizer.ema_decay, (1 + iteration) / (10 + iteration))
        for slot in self.sgd.slots:
            if slot.name in self.average:
                self.average[slot.name].scale_(decay).add_(slot.parameter * (1.0 - decay))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the segmenter has the averaged weights, if there are any: those to save and to evaluate."""
        averaged = [(slot.parameter, self.average[slot.name]) for slot in self.sgd.slots if self.average]
        own = [parameter.detach().clone() for parameter, _ in averaged]
        for parameter, average in averaged:
            parameter.set_value(average)
        try:
            yield
        finally:
            for (parameter, _), value in zip(averaged, own, strict=True):
                parameter.set_value(value)

    def state(self) -> dict[str, Tensor]:
        """All that training changes, as "segmenter/…", "sgd/…", "average/…", "discriminator/…" and "adam.…/…"."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "segmenter": self.method.segmenter.state_dict(),
            "sgd": self.sgd.state(),
            "average": self.average,
        }
        for name, network in self.method.discriminators.items():
            parts[name] = network.state_dict()
            parts[f"adam.{name}"] = self.adams[name].state()
        if self.loss_scale is not None:
            parts["loss_scale"] = self.loss_scale.state()
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes what `state` gave, of this or another process."""

        def part(prefix: str) -> dict[str, Any]:
            start = f"{prefix}/"
            return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}

        self.method.segmenter.set_state_dict(part("segmenter"))
        velocities = part("sgd")
        for slot in self.sgd.slots:
            slot.velocity = paddle.to_tensor(velocities[slot.name])
        self.average = {name: paddle.to_tensor(array) for name, array in part("average").items()}
        for name, network in self.method.discriminators.items():
            network.set_state_dict(part(name))
            self.adams[name].restore(part(f"adam.{name}"))
        if self.loss_scale is not None:
            self.loss_scale.restore(part("loss_scale"))

    def _set_training_mode(self) -> None:
        segmenter = self.method.segmenter
        segmenter.train()
        policy = self.config.network.batch_norm
        if policy == "frozen":
            for layer in segmenter.norms():
                layer.eval()
        elif policy == "per-domain":
            segmenter.separate_statistics()


def load_initial_weights(config: Config, method: Method, notify: Callable[[str], None]) -> None:
    """Gives a method's networks the weights that the configuration names, and says what fitted.

    Raises:
        ClanError: a file cannot be read or does not fit.
    """
    network = config.network
    if network.restore_from:
        report = load_weights(method.segmenter, network.restore_from, restore_heads=network.restore_heads)
        notify(f"segmenter from {network.restore_from}: {report.summary()}")
    if network.restore_discriminator_from:
        if not method.discriminators:
            raise ConfigError(f"method {config.method.name} has no discriminator to restore: drop that option")
        report = load_weights(method.discriminators["discriminator"], network.restore_discriminator_from)
        notify(f"discriminator from {network.restore_discriminator_from}: {report.summary()}")
