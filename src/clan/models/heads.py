"""DeepLab-v2's classifier heads: sums of dilated convolutions of the same features."""

from collections.abc import Sequence
from typing import ClassVar

from paddle import Tensor, nn

from clan.models.options import DILATIONS, NetworkConfig
from clan.models.resnet import convolution


class Head(nn.Layer):
    """The sum of one 3×3 convolution per dilation, K features → C logits at the features' resolution."""

    reads: ClassVar[tuple[int, ...]] = (3,)
    """Indices of the backbone levels that the head takes."""

    def __init__(self, in_channels: int, num_classes: int, dilations: tuple[int, ...] = DILATIONS) -> None:
        super().__init__()
        self.dilations = dilations
        self.conv2d_list = nn.LayerList(
            convolution(in_channels, num_classes, 3, padding=dilation, dilation=dilation, bias=True)
            for dilation in dilations
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, K, h, w] → [B, C, h, w]."""
        first, *others = self.conv2d_list
        logits = first(features)
        for branch in others:
            logits = logits + branch(features)
        return logits

    @classmethod
    def of(cls, network: NetworkConfig, in_channels: int) -> "Head":
        """Builds a head for a configuration.

        Args:
            network: gives classes and dilations.
            in_channels: channels K of the features.
        """
        return cls(in_channels, network.num_classes, network.head_dilations)

    @staticmethod
    def run_together(heads: Sequence["Head"], features: Tensor) -> list[Tensor]:
        """The logits of several heads on the same features [B, K, h, w]: [B, C, h, w] each."""
        return [head(features) for head in heads]
