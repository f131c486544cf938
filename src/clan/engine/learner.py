"""A method with its optimizers: what one iteration changes, and all that must be kept to go on."""

from collections.abc import Iterable, Mapping
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

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes: "segmenter/…", "sgd/…", "discriminator/…", "adam.discriminator/…"."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "segmenter": self.method.segmenter.state_dict(),
            "sgd": self.sgd.state(),
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
