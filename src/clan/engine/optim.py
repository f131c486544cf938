"""Stochastic gradient descent as the official code ran it.

The official code collects the trunk's parameters by walking modules and listing the parameters *of every
module on the way*, so that a tensor is listed once per module that encloses it: the stem once, a
bottleneck's convolution three times (stage, bottleneck, convolution), a projection convolution four times.
PyTorch 1.0 walked that list entry by entry, updating a tensor at each visit, which triples the trunk's
effective rate. The published numbers depend on it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor, nn

from clan.config import OptimizerConfig
from clan.models.deeplab import Segmenter


@dataclass
class Slot:
    """One parameter with its momentum.

    Args:
        name: its name in the network's state.
        parameter: the tensor.
        velocity: the momentum buffer v, of the same shape.
        multiplier: factor on the base rate.
        visits: updates per step.
    """

    name: str
    parameter: Tensor
    velocity: Tensor
    multiplier: float
    visits: int


def repeated_visits(trunk: nn.Layer) -> Iterator[tuple[str, int]]:
    """How often the official code lists each parameter: its number of enclosing layers below the trunk."""
    for name, _ in trunk.named_parameters():
        yield name, name.count(".")


def visit_matrix(rate: float, *, momentum: float, weight_decay: float, visits: int) -> np.ndarray:
    """What `visits` updates in a row make of (p, v, g): a float64 [3, 3] matrix.

    One visit is g ← g + wd·p, *kept* for the next visit; v ← momentum·v + g; p ← p − rate·v. It is linear,
    so k of them are the k-th power of its matrix.
    """
    decay = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [weight_decay, 0.0, 1.0]])
    accelerate = np.array([[1.0, 0.0, 0.0], [0.0, momentum, 1.0], [0.0, 0.0, 1.0]])
    move = np.array([[1.0, -rate, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return np.linalg.matrix_power(move @ accelerate @ decay, visits)


class SGD:
    """Momentum SGD over a segmenter, heads at their own rate, the trunk visited once or repeatedly.

    Args:
        segmenter: its trainable parameters are updated.
        config: rates, momentum, decay, and whether updates repeat.
    """

    def __init__(self, segmenter: Segmenter, config: OptimizerConfig) -> None:
        self.momentum = config.momentum
        self.weight_decay = config.weight_decay
        visits = dict(repeated_visits(segmenter.trunk)) if config.repeated_updates else {}
        self.slots = [
            Slot(
                name=name,
                parameter=parameter,
                velocity=paddle.zeros_like(parameter),
                multiplier=1.0 if name.startswith("trunk.") else config.head_multiplier,
                visits=visits.get(name.removeprefix("trunk."), 1),
            )
            for name, parameter in segmenter.named_parameters()
            if not parameter.stop_gradient
        ]

    @paddle.no_grad()
    def step(self, rate: float) -> None:
        """Updates every parameter that has a gradient, at the base rate given."""
        for slot in self.slots:
            p, v, g = slot.parameter, slot.velocity, slot.parameter.grad
            if g is None:
                continue
            matrix = visit_matrix(
                rate * slot.multiplier,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                visits=slot.visits,
            )
            (pp, pv, pg), (vp, vv, vg) = matrix[:2]
            # The change of p, not p·pp: at small rates pp rounds to 1 in float32.
            change = p * float(pp - 1.0) + v * float(pv) + g * float(pg)
            v.scale_(float(vv)).add_(p * float(vp)).add_(g * float(vg))
            p.add_(change)

    def clear_grad(self) -> None:
        """Forgets the gradients."""
        for slot in self.slots:
            slot.parameter.clear_gradient(set_to_zero=False)

    def state(self) -> dict[str, Tensor]:
        """The momentum buffers by parameter name."""
        return {slot.name: slot.velocity for slot in self.slots}


class Adam:
    """Paddle's Adam over a discriminator, with its state under the parameters' structured names.

    Args:
        network: its parameters are updated.
        weight_decay: L2 decay.
    """

    BETAS = (0.9, 0.99)

    def __init__(self, network: nn.Layer, *, weight_decay: float) -> None:
        self._adam = paddle.optimizer.Adam(
            learning_rate=0.0,
            beta1=self.BETAS[0],
            beta2=self.BETAS[1],
            epsilon=1e-8,
            parameters=network.parameters(),
            weight_decay=weight_decay or None,
        )
        self._names = {parameter.name: name for name, parameter in network.named_parameters()}

    def step(self, rate: float) -> None:
        """Updates every parameter at the given rate."""
        self._adam.set_lr(rate)
        self._adam.step()

    def clear_grad(self) -> None:
        """Forgets the gradients."""
        self._adam.clear_grad(set_to_zero=False)

    def state(self) -> dict[str, Tensor]:
        """Moments and the powers of β; Paddle makes them at the first step."""
        return {
            f"{self._names[own]}/{key[len(own) + 1 :]}": value
            for key, value in self._adam.state_dict().items()
            for own in [self._owner(key)]
            if own
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes a state that `state` returned, of this or another process."""
        own_names = {name: own for own, name in self._names.items()}
        renamed = {}
        for key, value in state.items():
            name, slot = key.rsplit("/", 1)
            # Until the first step Paddle's optimizer gives out again what it was given, as it was given.
            renamed[f"{own_names[name]}_{slot}"] = paddle.to_tensor(value)
        self._adam.set_state_dict(renamed)

    def _owner(self, key: str) -> str | None:
        return next((own for own in self._names if key.startswith(own + "_")), None)
