"""Optimizers, and stochastic gradient descent as the official code ran it.

The official code collects the backbone's parameters by walking modules and listing the parameters *of every
module on the way*, so that a tensor is listed once per module that encloses it: the stem once, a
bottleneck's convolution three times (stage, bottleneck, convolution), a projection convolution four times.
PyTorch 1.0 walked that list entry by entry, updating a tensor at each visit, which triples the backbone's
effective rate. The published numbers depend on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor, nn

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
        """Takes what `state_dict` returned, in this or another process."""

    def clear_grad(self) -> None:
        """Forgets the gradients."""
        for slot in self.slots:
            slot.parameter.clear_gradient(set_to_zero=False)


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

    @paddle.no_grad()
    def step(self, rate: float) -> None:
        """Updates every parameter that has a gradient, at the base rate given."""
        for slot in self.slots:
            p, v, g = slot.parameter, self.velocities[slot.name], slot.parameter.grad
            if g is None:
                continue
            matrix = visit_matrix(
                rate * slot.multiplier,
                momentum=self.settings.momentum,
                weight_decay=self.settings.weight_decay if slot.decays else 0.0,
                visits=slot.visits,
            )
            (pp, pv, pg), (vp, vv, vg) = matrix[:2]
            # The change of p, not p·pp: at small rates pp rounds to 1 in float32.
            change = p * float(pp - 1.0) + v * float(pv) + g * float(pg)
            v.scale_(float(vv)).add_(p * float(vp)).add_(g * float(vg))
            p.add_(change)

    def state_dict(self) -> dict[str, Tensor]:
        """The momentum buffers by parameter name."""
        return dict(self.velocities)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes the momentum buffers."""
        self.velocities = {slot.name: paddle.to_tensor(state[slot.name]) for slot in self.slots}


class Adam(Optimizer):
    """Paddle's Adam, with its state under the parameters' structured names."""

    make = paddle.optimizer.Adam

    def __init__(self, slots: Sequence[Slot], settings: Settings) -> None:
        super().__init__(slots, settings)
        groups: dict[tuple[float, bool], list[Tensor]] = {}
        for slot in self.slots:
            groups.setdefault((slot.multiplier, slot.decays), []).append(slot.parameter)
        self._own = type(self).make(
            learning_rate=0.0,
            beta1=settings.betas[0],
            beta2=settings.betas[1],
            epsilon=1e-8,
            parameters=[
                # A group's rate is a factor on the optimizer's.
                {
                    "params": parameters,
                    "learning_rate": multiplier,
                    "weight_decay": settings.weight_decay if decays else 0.0,
                }
                for (multiplier, decays), parameters in groups.items()
            ],
        )
        self._names = {slot.parameter.name: slot.name for slot in self.slots}

    def step(self, rate: float) -> None:
        """Updates every parameter that has a gradient, at the base rate given."""
        self._own.set_lr(rate)
        self._own.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and the powers of β; Paddle makes them at the first step."""
        return {
            f"{self._names[own]}/{key[len(own) + 1 :]}": value
            for key, value in self._own.state_dict().items()
            for own in [self._owner(key)]
            if own
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes moments and powers."""
        own_names = {name: own for own, name in self._names.items()}
        renamed = {}
        for key, value in state.items():
            name, slot = key.rsplit("/", 1)
            # Until the first step Paddle's optimizer gives out again what it was given, as it was given.
            renamed[f"{own_names[name]}_{slot}"] = paddle.to_tensor(value)
        self._own.set_state_dict(renamed)

    def _owner(self, key: str) -> str | None:
        return next((own for own in self._names if key.startswith(own + "_")), None)


class AdamW(Adam):
    """Adam whose weight decay acts on the parameters themselves (Loshchilov and Hutter, ICLR 2019)."""

    make = paddle.optimizer.AdamW


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
