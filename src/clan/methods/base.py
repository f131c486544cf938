"""The interface between an adaptation method and the trainer; networks by role."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import paddle
from paddle import Tensor, nn

from clan.core import fused
from clan.core.errors import ConfigError
from clan.losses.segmentation import segmentation_loss
from clan.models.segmenter import Segmenter, batch_norms
from clan.run.config import Config
from clan.run.method_options import MethodOptions


class Role(Enum):
    """What a network of a method is for.

    All networks are in the states. Gradients are averaged over the ranks where a role is trained, running statistics
    where it keeps them.
    """

    STUDENT = "student"
    """Trained by the segmenter's optimizer; batch norms as `network.batch_norm` says."""
    DISCRIMINATOR = "discriminator"
    """Trained by an optimizer of its own; saved beside the weights as NAME_D."""
    TEACHER = "teacher"
    """Never trained; batch norms as the student's, everything else, such as dropout, as in evaluation."""
    REFERENCE = "reference"
    """Never changed, and in eval mode: what a trained network is compared with."""

    @property
    def trained(self) -> bool:
        """Whether gradients are computed for it."""
        return self in (Role.STUDENT, Role.DISCRIMINATOR)

    @property
    def keeps_statistics(self) -> bool:
        """Whether its batch norms normalise by the batch and keep running statistics."""
        return self in (Role.STUDENT, Role.TEACHER)


@dataclass(frozen=True)
class Network:
    """A layer and its role."""

    layer: nn.Layer
    role: Role

    def set_training_mode(self, *, frozen_statistics: bool) -> None:
        """Puts the layer into the mode in which its role takes part in training.

        Args:
            frozen_statistics: batch norms normalise by their running statistics and leave them as they are.
        """
        self.layer.train() if self.role.trained else self.layer.eval()
        for norm in batch_norms(self.layer):
            norm.training = self.role.keeps_statistics and not frozen_statistics

    def running_statistics(self) -> list[Tensor]:
        """Means and variances of its batch norms, those of the source among them where it has its own."""
        state = self.layer.state_dict()
        return [tensor for name, tensor in state.items() if name.endswith(STATISTICS)]


STATISTICS = ("_mean", "_variance")
"""What names of running statistics end in."""


def duplicate(network: nn.Layer) -> nn.Layer:
    """A network of the same shape and weights, for which no gradients are computed."""
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.stop_gradient = True
    return other


def assign(network: nn.Layer, source: nn.Layer) -> None:
    """Gives a network another one's parameters and buffers, where both have them."""
    theirs = source.state_dict()
    for name, tensor in network.state_dict().items():
        if name in theirs:
            tensor.set_value(theirs[name])


def follow(average: nn.Layer, network: nn.Layer, decay: float, *, statistics: bool = False) -> None:
    """θ' ← decay·θ' + (1 − decay)·θ.

    Args:
        average: θ', a layer of the same shape.
        network: θ.
        decay: 0…1.
        statistics: average running statistics too; otherwise they stay.
    """
    theirs = dict(network.named_parameters())
    own = [one for one in average.named_parameters() if statistics or not one[0].endswith(STATISTICS)]
    fused.blend([parameter for _, parameter in own], [theirs[name] for name, _ in own], decay, 1.0 - decay)


def synchronise_batch_norms(networks: Mapping[str, Network]) -> None:
    """Makes batch norms that keep statistics normalise by the batches of all ranks together.

    Raises:
        ConfigError: this process computes on the CPU.
    """
    if paddle.device.get_device() == "cpu":
        raise ConfigError("--sync-batch-norm needs GPUs, since Paddle has it for them alone: leave it out on the CPU")
    for network in networks.values():
        if network.role.keeps_statistics:
            before = batch_norms(network.layer)
            nn.SyncBatchNorm.convert_sync_batchnorm(network.layer)
            # Paddle makes new layers that share parameters and running statistics, and forgets everything else.
            for old, new in zip(before, batch_norms(network.layer), strict=True):
                new.training = old.training
                for name, buffer in old._buffers.items():
                    new.register_buffer(name, buffer)


Layer = TypeVar("Layer", bound=nn.Layer)

Backward = Callable[[Tensor], None]
"""Accumulates the gradients of a scalar loss; the trainer scales, averages and synchronises them."""


@dataclass(frozen=True)
class Domain:
    """Images of one domain, on the device.

    Args:
        images: float32 [B, 3, h, w], normalised.
        size: base height and width (H, W), the size of labels and resized logits.
        is_source: whether this is the source, which has its own running statistics with per-domain batch norm.
    """

    images: Tensor
    size: tuple[int, int]
    is_source: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class LabelledDomain(Domain):
    """Images of one domain with labels.

    Args:
        labels: uint8 trainIds [B, H, W].
        array: the same on the host, where they come from, so that drawing by them does not wait for a device.
    """

    labels: Tensor
    array: np.ndarray | None = field(default=None, kw_only=True)

    def labels_on_host(self) -> np.ndarray:
        """Returns the labels, uint8 [B, H, W]."""
        return self.labels.numpy() if self.array is None else self.array


@dataclass(frozen=True)
class Pair:
    """Input of one call of `Method.train_step`.

    Args:
        source: labelled images.
        target: images; a `LabelledDomain` if the method sets `reads_target_labels`.
        few: images of the few of the target that have labels, with `target_labels` in the configuration.
        random: generator for everything random in the step. It is seeded by the run's seed and the number of the pair,
            so that a resumed run repeats the values and ranks differ. Paddle's generator is seeded from it.
    """

    source: LabelledDomain
    target: Domain
    few: LabelledDomain | None = field(default=None, kw_only=True)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))


@dataclass(frozen=True)
class Progress:
    """Iteration i = 0…N−1 of `total` N; the first `warmup` are the warm-up."""

    iteration: int
    total: int
    warmup: int

    @property
    def fraction(self) -> float:
        """Fraction i/N, 0 ≤ i/N < 1."""
        return self.iteration / self.total


class Method(ABC):
    """An adaptation method: its networks and one training step.

    Args:
        segmenter: the network to adapt.
        config: the run.
        class_weights: weights of classes in the segmentation loss, float32 [C]; None: equal weights.

    Attributes:
        options: an instance of `options_type`.
        networks: all networks with their roles, by name; the first is "segmenter". Subclasses `add` others.
        views: images and labels of the last pass by name, to look at: "source", "mixed", …; most methods have none.
    """

    options_type: ClassVar[type[MethodOptions]]
    """The method's options; their `name` is the method's."""
    reads_target_labels: ClassVar[bool] = False
    """Whether the target is sampled with labels."""
    has_auxiliary_head: ClassVar[bool] = False
    """Whether the segmenter has a further head on the backbone's third level."""
    fewest_heads: ClassVar[int] = 1
    """Smallest number of heads that the method works with."""
    clamps_probabilities: ClassVar[bool] = True
    """Whether the segmentation loss clamps probabilities, as that of CLAN does."""

    def __init__(self, segmenter: Segmenter, config: Config, class_weights: Tensor | None = None) -> None:
        self.networks = {"segmenter": Network(segmenter, Role.STUDENT)}
        self.segmenter = segmenter
        self.views: dict[str, Tensor] = {}
        self.options: Any = config.method
        self.segmentation_loss = partial(
            segmentation_loss,
            gamma=config.loss.gamma,
            ignore_label=config.ignore_label,
            class_weights=class_weights,
            clamped=self.clamps_probabilities,
        )

    exports: str = "segmenter"
    """Name of the network that is validated and saved as weights: the segmenter, or a teacher of the same structure."""

    def add(self, name: str, layer: Layer, role: Role) -> Layer:
        """Registers a network, which the trainer treats by its role, and returns it.

        Args:
            name: its name in states; "discriminator" for the first discriminator, "discriminator_…" for others.
            layer: the network.
            role: its role.
        """
        self.networks[name] = Network(layer, role)
        return layer

    @property
    def discriminators(self) -> dict[str, nn.Layer]:
        """The networks with role `DISCRIMINATOR` by name; may be empty."""
        return {name: one.layer for name, one in self.networks.items() if one.role is Role.DISCRIMINATOR}

    @property
    def exported(self) -> Segmenter:
        """The network that `exports` names."""
        layer = self.networks[self.exports].layer
        assert isinstance(layer, Segmenter)
        return layer

    @property
    def compared(self) -> dict[str, Segmenter]:
        """Networks by name that are validated beside the exported one, to look at; most methods have none."""
        return {}

    def pseudo_labels(self, target: Domain) -> Tensor | None:
        """Returns the labels that a step would train on for these images, uint8 [B, H, W], without drawing anything.

        None: the method makes none.
        """
        return None

    def on_weights_loaded(self) -> None:  # noqa: B027 (most have nothing to do)
        """Called after initial weights are loaded, but not in a resumed run; e.g. to copy them to a teacher."""

    def before_step(self, iteration: int) -> None:  # noqa: B027
        """Called on all ranks before the passes of an iteration, e.g. to update a teacher."""

    def after_step(self, iteration: int) -> None:  # noqa: B027
        """Called on all ranks after the optimizers' step of an iteration, e.g. to update a teacher."""

    @abstractmethod
    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Computes one batch.

        Args:
            batch: the images.
            progress: the iteration.
            backward: must be called on every loss.

        Returns:
            Scalars by name, as recorded in `metrics.jsonl`: losses, whose names begin with "loss_", and other measures.
        """

    def learn_few(self, few: LabelledDomain, weight: float, backward: Backward) -> Tensor:
        """Learns labels of target images beside what the method does.

        Args:
            few: the images.
            weight: of the segmentation loss of all heads.
            backward: as of `train_step`.

        Returns:
            The weighted loss, a scalar.
        """
        loss = weight * self.supervise(self.logits(few), few.labels)
        backward(loss)
        return loss

    def logits(self, domain: Domain, **options: Any) -> tuple[Tensor, ...]:
        """Returns every head's logits at base size, float32 [B, C, H, W] each.

        Args:
            domain: the images.
            options: further arguments of the backbone.
        """
        with self.statistics_of(domain):
            coarse = self.segmenter(domain.images, **options)
        return tuple(self.segmenter.resize(logits, domain.size) for logits in coarse)

    def all_logits(self, domain: Domain) -> tuple[Tensor, ...]:
        """Returns the same as `logits`, then the logits of the auxiliary head."""
        with self.statistics_of(domain):
            coarse = self.segmenter.all_logits(domain.images)
        return tuple(self.segmenter.resize(logits, domain.size) for logits in coarse)

    def judge(self, domain: Domain) -> dict[str, Tensor]:
        """Returns every discriminator's logits at base size by name, float32 [B, 1, H, W] each; for `clan inspect`."""
        return {}

    def statistics_of(self, domain: Domain) -> AbstractContextManager[None]:
        """Context in which the segmenter's running statistics are those of the domain."""
        return self.segmenter.source_statistics() if domain.is_source else nullcontext()

    def supervise(self, logits: Iterable[Tensor], labels: Tensor, **weights: Any) -> Tensor:
        """Returns the sum of every head's segmentation loss, a scalar.

        Args:
            logits: of every head, float32 [B, C, H, W].
            labels: uint8 trainIds [B, H, W].
            weights: `weight_BHW` and `mean_over` of `segmentation_loss`.
        """
        return paddle.add_n([self.segmentation_loss(head, labels, **weights) for head in logits])

    def damping(self, progress: Progress) -> float:
        """Returns d(i) = 1 − i/N, or 1 without damping."""
        return 1.0 - progress.fraction if self.options.damping else 1.0


@contextmanager
def frozen(*networks: nn.Layer) -> Iterator[None]:
    """Context in which gradients flow through the networks but are not computed for their parameters."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    trained = [parameter for parameter in parameters if not parameter.stop_gradient]
    for parameter in trained:
        parameter.stop_gradient = True
    try:
        yield
    finally:
        for parameter in trained:
            parameter.stop_gradient = False
