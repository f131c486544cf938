"""A method with its optimizers: what one iteration changes, and all that must be kept to go on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from clan.core import fused
from clan.core.errors import CheckpointError, ConfigError
from clan.core.precision import LossScale, autocast
from clan.methods.base import Method, Pair, Progress, Role
from clan.models.segmenter import Segmenter
from clan.models.weights import load_weights
from clan.run.config import Config
from clan.run.schedules import SCHEDULES, ScheduleOptions
from clan.training.health import any_nonfinite, find_nonfinite_gradient
from clan.training.optimizers import discriminator_optimizer, release_gradient, segmenter_optimizer

FEW = "loss_target_labels"
"""Name of the loss on the few target images with labels; 0 in iterations without them."""


@dataclass(frozen=True)
class Passes:
    """What came of the passes of an iteration.

    Args:
        losses: by name, averaged over the passes.
        finite: whether all gradients of this rank are; a loss scale sees to its own overflows.
    """

    losses: dict[str, float]
    finite: bool


class Learner:
    """Trains a method's networks, one iteration at a time.

    Args:
        config: rates, schedules, accumulation, precision and batch-norm mode are used.
        method: its networks, with their initial weights, are changed in place.
    """

    def __init__(self, config: Config, method: Method) -> None:
        self.config = config
        self.method = method
        options = config.optimizer
        self.course = ScheduleOptions(config.num_steps, config.warmup, options.power, options.warmup_ratio)
        self.optimizers = {"segmenter": segmenter_optimizer(method.segmenter, config)}
        for name, network in method.discriminators.items():
            self.optimizers[name] = discriminator_optimizer(network, config)
        self.average: dict[str, Tensor] = {}
        if config.optimizer.ema_decay:
            if method.exports != "segmenter":
                raise ConfigError(
                    f"optimizer.ema_decay averages weights that method {config.method.name} does not save, since it "
                    f"saves its {method.exports}: leave the option out"
                )
            self.average = self._averages({})
        self.loss_scale = LossScale() if config.precision == "fp16" else None
        for network in method.networks.values():
            network.set_training_mode(frozen_statistics=config.network.batch_norm == "frozen")
        self.untrained = keep_affine_in_graph(method.segmenter) if has_cudnn() else []
        if config.network.batch_norm == "per-domain":
            method.segmenter.separate_statistics()

    def accumulate(self, iteration: int, pairs: Iterable[Pair]) -> Passes:
        """Adds up the gradients of an iteration's passes.

        A GPU is waited for once, at the end, for all losses together.
        """
        progress = Progress(iteration, self.course.total, self.course.warmup)
        share = 1.0 / self.config.iter_size
        factor = share if self.loss_scale is None else share * self.loss_scale.factor

        def backward(loss: Tensor) -> None:
            with paddle.amp.auto_cast(enable=False):  # a gradient is computed in what its forward pass was
                (loss * factor).backward()

        self.method.before_step(iteration)
        passes: list[dict[str, Tensor]] = []
        for pair in pairs:
            paddle.seed(int(pair.random.integers(2**31)))
            with autocast(self.config.precision):
                losses = self.method.train_step(pair, progress, backward)
                if pair.few is not None:
                    weight = self.config.target_labels_weight
                    losses = {**losses, FEW: self.method.learn_few(pair.few, weight, backward)}
            passes.append({name: loss.detach() for name, loss in losses.items()})
        *values, nonfinite = self._read([loss for losses in passes for loss in losses.values()])
        totals: dict[str, float] = {}
        for name, value in zip((name for losses in passes for name in losses), values, strict=True):
            totals[name] = totals.get(name, 0.0) + value * share
        if self.config.target_labels:
            totals.setdefault(FEW, 0.0)  # all ranks have the same names in all iterations
        return Passes(totals, not nonfinite)

    @paddle.no_grad()
    def _read(self, losses: list[Tensor]) -> list[float]:
        """The losses, and 1 if a gradient is not finite, in one transfer."""
        dtype = losses[0].dtype
        parts = [loss if loss.dtype == dtype else loss.astype(dtype) for loss in losses]
        numbers: Any = paddle.stack([*parts, self.any_nonfinite().astype(dtype).reshape([])]).tolist()
        return numbers

    def gradients(self) -> dict[str, Tensor]:
        """Those that `accumulate` added up, to be changed in place, as "segmenter/…" and "discriminator/…"."""
        return {
            f"{part}/{slot.name}": slot.parameter.grad
            for part, optimizer in self.optimizers.items()
            for slot in optimizer.slots
            if slot.parameter.grad is not None
        }

    def any_nonfinite(self) -> Tensor:
        """Whether a gradient is not finite, bool [1] on the device; a loss scale sees to its own overflows."""
        gradients = list(self.gradients().values())
        return any_nonfinite(gradients) if gradients and self.loss_scale is None else paddle.zeros([1], "bool")

    def nonfinite_gradient(self) -> str:
        """What is not finite among the gradients, if something is."""
        return find_nonfinite_gradient(self.gradients())

    def running_statistics(self) -> list[Tensor]:
        """Means and variances of the batch norms that are keeping them, to be changed in place."""
        if self.config.network.batch_norm == "frozen":
            return []
        keeping = [one for one in self.method.networks.values() if one.role.keeps_statistics]
        return [tensor for network in keeping for tensor in network.running_statistics()]

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
            for name, optimizer in self.optimizers.items():
                optimizer.step(rates["learning_rate" if name == "segmenter" else "learning_rate_D"])
            self._follow(iteration)
            self.method.after_step(iteration)
        self.clear_gradients()
        return numbers

    def clear_gradients(self) -> None:
        """Forgets what `accumulate` added up."""
        for optimizer in self.optimizers.values():
            optimizer.clear_grad()
        for parameter in self.untrained:
            release_gradient(parameter)

    def rates(self, iteration: int) -> dict[str, float]:
        """Base rates of an iteration: `learning_rate` and, with a discriminator, `learning_rate_D`."""
        optimizer = self.config.optimizer
        schedule = SCHEDULES[optimizer.schedule]
        rates = {"learning_rate": schedule(optimizer.learning_rate, iteration, self.course)}
        if self.method.discriminators:
            schedule = SCHEDULES[optimizer.discriminator_schedule]
            rates["learning_rate_D"] = schedule(optimizer.discriminator_learning_rate, iteration, self.course)
        return rates

    def _follow(self, iteration: int) -> None:
        """Moves the average towards the weights; faster at first, so that it soon forgets the initial ones."""
        decay = min(self.config.optimizer.ema_decay, (1 + iteration) / (10 + iteration))
        if self.average:
            slots = self.optimizers["segmenter"].slots
            averages = [self.average[slot.name] for slot in slots]
            fused.blend(averages, [slot.parameter for slot in slots], decay, 1.0 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the segmenter has the averaged weights, if there are any: those to save and to evaluate."""
        averaged = [
            (slot.parameter, self.average[slot.name]) for slot in self.optimizers["segmenter"].slots if self.average
        ]
        own = [parameter.detach().clone() for parameter, _ in averaged]
        for parameter, average in averaged:
            parameter.set_value(average)
        try:
            yield
        finally:
            for (parameter, _), value in zip(averaged, own, strict=True):
                parameter.set_value(value)

    def state_dict(self) -> dict[str, Tensor]:
        """All that training changes: networks and optimizers by name, "average/…" and "loss_scale/…"."""
        parts: dict[str, Mapping[str, Tensor]] = {"average": self.average}
        for name, network in self.method.networks.items():
            parts[name] = network.layer.state_dict()
        for name, optimizer in self.optimizers.items():
            parts[self._optimizer_part(name)] = optimizer.state_dict()
        if self.loss_scale is not None:
            parts["loss_scale"] = self.loss_scale.state_dict()
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """Takes what `state_dict` gave, of this or another process, perhaps under other options.

        Returns:
            What of optimizers, average and loss scale starts anew, since the state has none, one sentence each.

        Raises:
            CheckpointError: a network or a part of it is missing, or has another shape.
        """
        anew = []

        def part(prefix: str) -> dict[str, Any]:
            start = f"{prefix}/"
            return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}

        for name, network in self.method.networks.items():
            load_layer(name, network.layer, part(name))
        for name, optimizer in self.optimizers.items():
            if not (state := part(self._optimizer_part(name))):
                anew.append(f"the optimizer of the {name}")
            optimizer.load_state_dict(state)
        if self.average:
            if not (state := part("average")):
                anew.append("the average of weights")
            self.average = self._averages(state)
        if self.loss_scale is not None:
            if state := part("loss_scale"):
                self.loss_scale.load_state_dict(state)
            else:
                anew.append("the loss scale")
        return [f"{one} starts anew, since the state has none" for one in anew]

    def _averages(self, known: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Averages by the parameter's name: those known, otherwise the weights that the segmenter now has."""
        return {
            slot.name: paddle.to_tensor(known[slot.name]) if slot.name in known else slot.parameter.detach().clone()
            for slot in self.optimizers["segmenter"].slots
        }

    def _optimizer_part(self, network: str) -> str:
        """What a network's optimizer is called in states: "sgd" of the segmenter, "adam.discriminator"."""
        options = self.config.optimizer
        return options.algorithm if network == "segmenter" else f"{options.discriminator_algorithm}.{network}"


def load_layer(name: str, layer: nn.Layer, state: dict[str, Any]) -> None:
    """Takes a state of all of a layer's tensors; Paddle itself passes over what does not fit.

    Raises:
        CheckpointError: a tensor is missing, or has another shape.
    """
    for key, tensor in layer.state_dict().items():
        if key not in state or list(state[key].shape) != tensor.shape:
            found = f"has {name}/{key} in another shape" if key in state else f"lacks {name}/{key}"
            raise CheckpointError(
                f"the state {found}: it is of another method or network; give its options, or start afresh"
            )
    layer.set_state_dict(state)


def has_cudnn() -> bool:
    """Whether batch norm's gradient may be cuDNN's."""
    return paddle.device.get_device() != "cpu"


def keep_affine_in_graph(segmenter: Segmenter) -> list[Tensor]:
    """Has the gradients of a network's γ and β computed where no optimizer updates them; returns those.

    On a GPU Paddle computes batch norm's gradient by cuDNN if those of γ and β are wanted, and otherwise by a kernel of
    its own, a block of threads a channel.
    """
    kept = []
    for layer in segmenter.norms():
        for parameter in (layer.weight, layer.bias):
            if layer.training and parameter is not None and parameter.stop_gradient:
                parameter.stop_gradient = False
                kept.append(parameter)
    return kept


def load_initial_weights(config: Config, method: Method, notify: Callable[[str], None]) -> None:
    """Gives a method's networks the weights that the configuration names, and says what fitted.

    Raises:
        ClanError: a file cannot be read or does not fit.
    """
    network = config.network
    if network.restore_from:
        report = load_weights(method.segmenter, network.restore_from, restore_heads=network.restore_heads)
        notify(f"segmenter from {network.restore_from}: {report.summary()}")
    elif any(one.role is Role.REFERENCE for one in method.networks.values()):
        notify(
            f"method {config.method.name} compares features with those of the initial weights, which are random "
            "without network.restore_from: name weights there, or turn the comparison off in the method's options"
        )
    if network.restore_discriminator_from:
        if not method.discriminators:
            raise ConfigError(f"method {config.method.name} has no discriminator to restore: drop that option")
        report = load_weights(method.discriminators["discriminator"], network.restore_discriminator_from)
        notify(f"discriminator from {network.restore_discriminator_from}: {report.summary()}")
