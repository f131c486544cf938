"""The contract between a method and the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import paddle
from paddle import Tensor, nn

from clan.losses.segmentation import segmentation_loss
from clan.methods.networks import Network, Role
from clan.models.segmenter import Segmenter
from clan.run.config import Config
from clan.run.method_options import MethodOptions

Layer = TypeVar("Layer", bound=nn.Layer)

Backward = Callable[[Tensor], None]
"""Takes a scalar loss and accumulates its gradients; the engine scales, averages and synchronises."""


@dataclass(frozen=True)
class Domain:
    """One domain's part of a batch, on the device.

    Args:
        images: float32 [B, 3, h, w].
        size: base height and width (H, W).
        is_source: whether it is the source, which may have running statistics of its own.
    """

    images: Tensor
    size: tuple[int, int]
    is_source: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class LabelledDomain(Domain):
    """A domain with labels.

    Args:
        labels: uint8 trainIds [B, H, W].
    """

    labels: Tensor


@dataclass(frozen=True)
class Pair:
    """What one call of `Method.train_step` sees; the target has labels for methods that ask for them.

    Args:
        source, target: the images.
        random: for everything that the step draws. It begins at a state that follows from the run's seed and the pair's
            number in the endless sequence, so that a resumed run draws the same, and every rank something else. What
            Paddle draws, such as dropout, follows from it too.
    """

    source: LabelledDomain
    target: Domain
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))


@dataclass(frozen=True)
class Progress:
    """Where training stands: iteration i = 0…N−1 of `total` N, of which `warmup` warm up."""

    iteration: int
    total: int
    warmup: int

    @property
    def fraction(self) -> float:
        """I / N."""
        return self.iteration / self.total


class Method(ABC):
    """An adaptation method: one readable training step over its networks.

    Args:
        segmenter: what is trained to be used.
        config: the run.
        class_weights: float32 [C], of the classes in the segmentation loss; None: all the same.

    Attributes:
        options: an instance of `options_type`.
        networks: all networks by name, "segmenter" among them, with their roles. Subclasses `add` theirs.
    """

    options_type: ClassVar[type[MethodOptions]]
    """Its own options, which name it."""
    reads_target_labels: ClassVar[bool] = False
    """Whether the target is to be sampled with labels."""
    has_auxiliary_head: ClassVar[bool] = False
    """Whether the segmenter is to have a further head, on features of the backbone's third level."""
    fewest_heads: ClassVar[int] = 1
    """Heads that the segmenter must have."""

    def __init__(self, segmenter: Segmenter, config: Config, class_weights: Tensor | None = None) -> None:
        self.networks = {"segmenter": Network(segmenter, Role.STUDENT)}
        self.segmenter = segmenter
        self.options: Any = config.method
        self.segmentation_loss = partial(
            segmentation_loss, gamma=config.loss.gamma, ignore_label=config.ignore_label, class_weights=class_weights
        )

    exports: ClassVar[str] = "segmenter"
    """The network that is validated and saved as the run's weights: the segmenter, or a teacher of the same shape."""

    def add(self, name: str, layer: Layer, role: Role) -> Layer:
        """Takes a further network, which the engine treats as its role says, and returns it.

        Args:
            name: its name in states. The first discriminator is "discriminator", further ones "discriminator_…".
            layer: the network.
            role: what it is for.
        """
        self.networks[name] = Network(layer, role)
        return layer

    @property
    def discriminators(self) -> dict[str, nn.Layer]:
        """The networks trained against the segmenter, by name; may be empty."""
        return {name: one.layer for name, one in self.networks.items() if one.role is Role.DISCRIMINATOR}

    @property
    def exported(self) -> Segmenter:
        """The network that `exports` names."""
        layer = self.networks[self.exports].layer
        assert isinstance(layer, Segmenter)
        return layer

    def on_weights_loaded(self) -> None:  # noqa: B027 (most have nothing to do)
        """Called before the first iteration, when the segmenter has its initial weights; not when a run is resumed.

        Here teachers and references take them.
        """

    def after_step(self, iteration: int) -> None:  # noqa: B027
        """Called after the optimizers' step of an iteration, the same on all ranks; here teachers follow."""

    @abstractmethod
    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Gives every loss of one batch to `backward` and returns the losses by name, for the record."""

    def logits(self, domain: Domain, **options: Any) -> tuple[Tensor, ...]:
        """Every head's logits of a domain's images at base size, [B, C, H, W] each.

        Args:
            domain: the images.
            options: what the backbone takes beside them.
        """
        with self._statistics_of(domain):
            coarse = self.segmenter(domain.images, **options)
        return tuple(self.segmenter.resize(logits, domain.size) for logits in coarse)

    def all_logits(self, domain: Domain) -> tuple[Tensor, ...]:
        """Like `logits`, and the auxiliary head's last."""
        with self._statistics_of(domain):
            coarse = self.segmenter.all_logits(domain.images)
        return tuple(self.segmenter.resize(logits, domain.size) for logits in coarse)

    def pyramid(self, domain: Domain) -> tuple[Tensor, ...]:
        """The backbone's four levels of features of a domain's images, [B, K, about H/stride, about W/stride] each."""
        with self._statistics_of(domain):
            return self.segmenter.backbone.pyramid(domain.images)

    def judge(self, domain: Domain) -> dict[str, Tensor]:
        """Every discriminator's logits of a domain's images at base size by its name, [B, 1, H, W] each."""
        return {}

    def _statistics_of(self, domain: Domain) -> AbstractContextManager[None]:
        return self.segmenter.source_statistics() if domain.is_source else nullcontext()

    def supervise(self, logits: Iterable[Tensor], labels: Tensor, **weights: Any) -> Tensor:
        """The sum of every head's segmentation loss.

        Args:
            logits: of every head, [B, C, H, W].
            labels: [B, H, W].
            weights: `weight_BHW` and `mean_over` of `segmentation_loss`.
        """
        return paddle.add_n([self.segmentation_loss(head, labels, **weights) for head in logits])

    def damping(self, progress: Progress) -> float:
        """The factor d(i) = 1 − i/N, or 1 where losses do not fade."""
        return 1.0 - progress.fraction if self.options.damping else 1.0


@contextmanager
def frozen(*networks: nn.Layer) -> Iterator[None]:
    """Within the block gradients flow through the networks, but none are computed for their parameters."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    trained = [parameter for parameter in parameters if not parameter.stop_gradient]
    for parameter in trained:
        parameter.stop_gradient = True
    try:
        yield
    finally:
        for parameter in trained:
            parameter.stop_gradient = False
