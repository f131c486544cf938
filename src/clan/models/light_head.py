"""The light head of VFM-UDA (Englert et al., CVPR workshops 2024): two transposed convolutions and two convolutions.

Parameter names are the authors': upscale.0 … upscale.6, out.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from paddle import Tensor, nn

from clan.models.options import NetworkConfig

EPSILON = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Normalises every pixel over its channels, with a factor and a summand per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, epsilon=EPSILON)

    def forward(self, input: Tensor) -> Tensor:
        """[B, K, h, w] → [B, K, h, w]."""
        return super().forward(input.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])


class LightHead(nn.Layer):
    """K features → C logits at four times their resolution, no layer with a bias but the norms.

    Args:
        in_channels: K, a multiple of four.
        num_classes: C.
    """

    reads: ClassVar[tuple[int, ...]] = (3,)
    """Indices of the backbone levels that the head takes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        half, quarter = in_channels // 2, in_channels // 4
        self.upscale = nn.Sequential(
            _doubling(in_channels, half),
            ChannelNorm(half),
            nn.GELU(),
            _doubling(half, quarter),
            ChannelNorm(quarter),
            nn.Conv2D(quarter, quarter, 3, padding=1, bias_attr=False, weight_attr=_uniform(9 * quarter)),
            ChannelNorm(quarter),
        )
        normal: Any = nn.initializer.Normal(0.0, 0.1)
        self.out = nn.Conv2D(quarter, num_classes, 1, bias_attr=False, weight_attr=normal)

    def forward(self, features: Tensor) -> Tensor:
        """[B, K, h, w] → [B, C, 4h, 4w]."""
        return self.out(self.upscale(features))

    @classmethod
    def of(cls, network: NetworkConfig, in_channels: int) -> "LightHead":
        """Builds a head for a configuration.

        Args:
            network: gives the classes.
            in_channels: channels K of the features.
        """
        return cls(in_channels, network.num_classes)

    @staticmethod
    def run_together(heads: Sequence["LightHead"], features: Tensor) -> list[Tensor]:
        """The logits of several heads on the same features [B, K, h, w]: [B, C, 4h, 4w] each."""
        return [head(features) for head in heads]


def _doubling(in_channels: int, out_channels: int) -> nn.Conv2DTranspose:
    """A transposed 2×2 convolution of stride 2 without bias: every pixel becomes four."""
    uniform = _uniform(4 * out_channels)
    return nn.Conv2DTranspose(in_channels, out_channels, 2, stride=2, bias_attr=False, weight_attr=uniform)


def _uniform(fan_in: int) -> Any:
    """PyTorch's initial values of a convolution."""
    return nn.initializer.Uniform(-(fan_in**-0.5), fan_in**-0.5)
