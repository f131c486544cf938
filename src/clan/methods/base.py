"""The contract between a method and the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from paddle import Tensor, nn

from clan.models.deeplab import Segmenter, upsample

Backward = Callable[[Tensor], None]
"""Takes a scalar loss and accumulates its gradients; the engine scales, averages and synchronises."""


@dataclass(frozen=True)
class Domain:
    """One domain's part of a batch, on the device.

    Args:
        images: float32 [B, 3, h, w].
        size: base height and width (H, W).
    """

    images: Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class LabelledDomain(Domain):
    """A domain with labels.

    Args:
        labels: uint8 trainIds [B, H, W].
    """

    labels: Tensor


@dataclass(frozen=True)
class Pair:
    """What one call of `Method.train_step` sees."""

    source: LabelledDomain
    target: Domain


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

    Attributes:
        segmenter: what is trained to be used.
        discriminators: networks trained against it, by name; may be empty.
    """

    segmenter: Segmenter
    discriminators: Mapping[str, nn.Layer]

    @abstractmethod
    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Gives every loss of one batch to `backward` and returns the losses by name, for the record."""

    def logits(self, domain: Domain) -> tuple[Tensor, Tensor]:
        """Both heads' logits of a domain's images at base size, [B, C, H, W] each."""
        coarse1, coarse2 = self.segmenter(domain.images)
        return upsample(coarse1, domain.size), upsample(coarse2, domain.size)


@contextmanager
def frozen(network: nn.Layer) -> Iterator[None]:
    """Within the block gradients flow through the network, but none are computed for its parameters."""
    trained = [parameter for parameter in network.parameters() if not parameter.stop_gradient]
    for parameter in trained:
        parameter.stop_gradient = True
    try:
        yield
    finally:
        for parameter in trained:
            parameter.stop_gradient = False
