"""Optimizers, and stochastic gradient descent as the official code ran it.

The official code collects the backbone's parameters by walking modules and listing the parameters *of every
module on the way*, so that a tensor is listed once per module that encloses it: the stem once, a
bottleneck's convolution three times (stage, bottleneck, convolution), a projection convolution four times.
PyTorch 1.0 walked that list entry by entry, updating a tensor at each visit, which triples the backbone's
effective rate. The published numbers depend on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import paddle
from paddle import Tensor, nn

from clan.core import fused
from clan.core.errors import ConfigError
from clan.core.schema import find
from clan.models.segmenter import Segmenter
from clan.run.config import OPTIMIZERS, Config


@dataclass(frozen=True)
class Slot:
    """One parameter, and how it is to be updated.

    Args:
        name: its name in the network's state.
        parameter: the tensor.
        multiplier: factor on the base rate.
        decays: whether weight decay acts on it.
        visits: updates per step; more than one are for SGD alone.
    """

    name: str
    parameter: Tensor
    multiplier: float = 1.0
    decays: bool = True
    visits: int = 1


@dataclass(frozen=True)
class Settings:
    """What optimizers share; each takes what it knows.

    Args:
        weight_decay: L2 decay; AdamW's is decoupled from the gradient.
        momentum: of SGD.
        betas: of Adam and AdamW, for the mean and the square of the gradient.
    """

    weight_decay: float = 0.0
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)


class Optimizer(ABC):
    """Updates parameters by their gradients.

    Args:
        slots: the parameters.
        settings: see `Settings`.
    """

    def __init__(self, slots: Sequence[Slot], settings: Settings) -> None:
        self.slots = list(slots)
        self.settings = settings

    @abstractmethod
    def step(self, rate: float) -> None:
        """Updates every parameter that has a gradient, at a base rate."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """What the next step depends on, by names that begin with a parameter's."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes what `state_dict` returned, in this or another process; what is not in it stays as it is."""

    def groups(self) -> dict[tuple[float, bool], list[Slot]]:
        """The slots whose parameters have a gradient, by multiplier and decay."""
        groups: dict[tuple[float, bool], list[Slot]] = {}
        for slot in self.slots:
            if slot.parameter.grad is not None:
                groups.setdefault((slot.multiplier, slot.decays), []).append(slot)
        return groups

    def clear_grad(self) -> None:
        """Forgets the gradients."""
        for slot in self.slots:
            release_gradient(slot.parameter)


def release_gradient(parameter: Tensor) -> None:
    """Frees a gradient's memory; Paddle 3.0 to 3.3 knows the argument by its place alone, and fills with zeros else."""
    parameter.clear_gradient(False)


def gradients_of(slots: Iterable[Slot]) -> list[Tensor]:
    """The gradients of parameters that have one."""
    return [slot.parameter.grad for slot in slots if slot.parameter.grad is not None]


def visit_matrix(rate: float, *, momentum: float, weight_decay: float, visits: int) -> np.ndarray:
    """What `visits` updates in a row make of (p, v, g): a float64 [3, 3] matrix.

    One visit is g ← g + wd·p, *kept* for the next visit; v ← momentum·v + g; p ← p − rate·v. It is linear,
    so k of them are the k-th power of its matrix.
    """
    decay = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [weight_decay, 0.0, 1.0]])
    accelerate = np.array([[1.0, 0.0, 0.0], [0.0, momentum, 1.0], [0.0, 0.0, 1.0]])
    move = np.array([[1.0, -rate, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return np.linalg.matrix_power(move @ accelerate @ decay, visits)


class SGD(Optimizer):
    """Momentum SGD; parameters are visited once or repeatedly.

    Attributes:
        velocities: the momentum buffers v by parameter name, of the parameters' shapes.
    """

    def __init__(self, slots: Sequence[Slot], settings: Settings) -> None:
        super().__init__(slots, settings)
        self.velocities = {slot.name: paddle.zeros_like(slot.parameter) for slot in self.slots}

    def step(self, rate: float) -> None:
        """Updates every parameter that has a gradient, at the base rate given."""
        if fused.in_one_call():
            self._walk(rate)
            return
        with paddle.no_grad():
            for slot in self.slots:
                if slot.parameter.grad is not None:
                    self._update(slot, rate * slot.multiplier)

    def _walk(self, rate: float) -> None:
        """One visit after the other, each of all parameters that are treated alike; gradients are used up."""
        for (multiplier, decays), slots in self.groups().items():
            for visit in range(max(slot.visits for slot in slots)):
                visited = [slot for slot in slots if slot.visits > visit]
                parameters = [slot.parameter for slot in visited]
                gradients, velocities = gradients_of(visited), [self.velocities[slot.name] for slot in visited]
                if decays and self.settings.weight_decay:
                    fused.blend(gradients, parameters, 1.0, self.settings.weight_decay)
                fused.move(parameters, gradients, velocities, rate * multiplier, self.settings.momentum)

    def _update(self, slot: Slot, rate: float) -> None:
        """All visits of a parameter at once, which reads it least often."""
        matrix = visit_matrix(
            rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay if slot.decays else 0.0,
            visits=slot.visits,
        )
        (pp, pv, pg), (vp, vv, vg) = matrix[:2]
        # The change of p, not p·pp: at small rates pp rounds to 1 in float32.
        change, kept = (float(pp - 1.0), float(pv), float(pg)), (float(vv), float(vp), float(vg))
        [gradient] = gradients_of([slot])
        fused.follow(slot.parameter, self.velocities[slot.name], gradient, change, kept)

    def state_dict(self) -> dict[str, Tensor]:
        """The momentum buffers by parameter name."""
        return dict(self.velocities)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes the momentum buffers."""
        self.velocities |= {name: paddle.to_tensor(state[name]) for name in self.velocities if name in state}


class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015), whose weight decay is added to the gradient.

    Attributes:
        moments: running means of the gradient and of its square by parameter name, of the parameters' shapes.
        powers: β to the power of the steps so far, next step included, float32 as Paddle keeps them.
    """

    decouples: ClassVar[bool] = False
    """Whether weight decay acts on the parameters themselves."""

    def __init__(self, slots: Sequence[Slot], settings: Settings) -> None:
        super().__init__(slots, settings)
        self.moments = {
            slot.name: (paddle.zeros_like(slot.parameter), paddle.zeros_like(slot.parameter)) for slot in self.slots
        }
        self.powers = {slot.name: np.array(settings.betas, np.float32) for slot in self.slots}

    def step(self, rate: float) -> None:
        """Updates every parameter that has a gradient, at the base rate given."""
        for (multiplier, decays), slots in self.groups().items():
            # A parameter that had no gradient at times has made fewer steps.
            alike: dict[tuple[float, ...], list[Slot]] = {}
            for slot in slots:
                alike.setdefault(tuple(self.powers[slot.name].tolist()), []).append(slot)
            for powers, those in alike.items():
                self._update(those, rate * multiplier, powers, self.settings.weight_decay if decays else 0.0)

    def _update(self, slots: Sequence[Slot], rate: float, powers: tuple[float, ...], decay: float) -> None:
        parameters, gradients = [slot.parameter for slot in slots], gradients_of(slots)
        if decay and not self.decouples:
            fused.blend(gradients, parameters, 1.0, decay)
        fused.adam(
            parameters,
            gradients,
            [self.moments[slot.name] for slot in slots],
            rate=rate,
            betas=self.settings.betas,
            powers=(powers[0], powers[1]),
            decoupled_decay=decay if self.decouples else None,
        )
        for slot in slots:
            self.powers[slot.name] = self.powers[slot.name] * np.array(self.settings.betas, np.float32)

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and powers, called as Paddle's optimizer calls them."""
        state = {}
        for name, pair in self.moments.items():
            values = (*pair, *(paddle.to_tensor(power.reshape(1)) for power in self.powers[name]))
            state |= {f"{name}/{key}": value for key, value in zip(ADAM_STATE, values, strict=True)}
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes moments and powers; what had made no step when an earlier version wrote the state has none."""
        for name in self.moments:
            if f"{name}/{ADAM_STATE[0]}" in state:
                first, second, *powers = (state[f"{name}/{key}"] for key in ADAM_STATE)
                self.moments[name] = (paddle.to_tensor(first), paddle.to_tensor(second))
                self.powers[name] = np.concatenate(powers).astype(np.float32)


ADAM_STATE = ("moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0")
"""What Paddle's optimizer adds to a parameter's name; states keep it."""


class AdamW(Adam):
    """Adam whose weight decay acts on the parameters themselves (Loshchilov and Hutter, ICLR 2019)."""

    decouples = True


def repeated_visits(backbone: nn.Layer) -> Iterator[tuple[str, int]]:
    """How often the official code lists each parameter: its number of enclosing layers below the backbone."""
    for name, _ in backbone.named_parameters():
        yield name, name.count(".")


BACKBONE = "backbone."
"""What the names of the backbone's parameters begin with; all others are the heads'."""


def segmenter_optimizer(segmenter: Segmenter, config: Config) -> Optimizer:
    """What updates a segmenter's trainable parameters: heads at their own rate, the backbone as the rules say.

    Raises:
        ConfigError: updates are to repeat where no official code says how often.
    """
    options = config.optimizer
    visits = {}
    if config.repeated_updates:
        if not config.is_official_network:
            raise ConfigError(
                "optimizer.repeated_updates repeats SGD's updates as the official code does in its ResNet with DeepLab "
                f"heads, and network.backbone is {config.network.backbone}, optimizer.algorithm {options.algorithm}: "
                "turn it off (--optimizer.no-repeated-updates)"
            )
        visits = dict(repeated_visits(segmenter.backbone))
    slots = []
    for name, parameter in segmenter.named_parameters():
        if parameter.stop_gradient:
            continue
        inner = name.removeprefix(BACKBONE)
        if inner == name:
            slots.append(Slot(name, parameter, options.head_multiplier))
        else:
            decays = not any(part in inner for part in options.no_decay)
            slots.append(Slot(name, parameter, decays=decays, visits=visits.get(inner, 1)))
    return _optimizer(options.algorithm)(slots, Settings(options.weight_decay, options.momentum, options.betas))


def discriminator_optimizer(discriminator: nn.Layer, config: Config) -> Optimizer:
    """What updates all parameters of a discriminator alike."""
    options = config.optimizer
    slots = [Slot(name, parameter) for name, parameter in discriminator.named_parameters()]
    settings = Settings(options.discriminator_weight_decay, options.momentum, options.discriminator_betas)
    return _optimizer(options.discriminator_algorithm)(slots, settings)


def _optimizer(algorithm: str) -> type[Optimizer]:
    return find(OPTIMIZERS[algorithm])
