"""A method with its optimizers: what one iteration changes, and all that must be kept to go on."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from clan.config import Config, Schedule
from clan.engine.optim import SGD, Adam
from clan.engine.schedule import learning_rate
from clan.methods.base import Method, Pair, Progress


class Learner:
    """Trains a method's networks, one iteration at a time.

    Args:
        config: rates, schedules, accumulation and batch-norm mode are used.
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
        self._set_training_mode()

    def accumulate(self, iteration: int, pairs: Iterable[Pair]) -> dict[str, float]:
        """Adds up the gradients of an iteration's passes; returns the losses, averaged over them."""
        progress = Progress(iteration, self.config.num_steps, self.config.warmup)
        share = 1.0 / self.config.iter_size
        totals: dict[str, float] = {}
        for pair in pairs:
            losses = self.method.train_step(pair, progress, lambda loss: (loss * share).backward())
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + float(loss) * share
        return totals

    def step(self, iteration: int) -> dict[str, float]:
        """Steps every optimizer once on what `accumulate` added up; returns the rates by name."""
        rates = self.rates(iteration)
        self.sgd.step(rates["learning_rate"])
        self.sgd.clear_grad()
        self._follow(iteration)
        for adam in self.adams.values():
            adam.step(rates["learning_rate_D"])
            adam.clear_grad()
        return rates

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

    def _set_training_mode(self) -> None:
        segmenter = self.method.segmenter
        segmenter.train()
        policy = self.config.network.batch_norm
        if policy == "frozen":
            for layer in segmenter.norms():
                layer.eval()
        elif policy == "per-domain":
            segmenter.separate_statistics()
