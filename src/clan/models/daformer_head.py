"""DAFormer's head (Hoyer et al., CVPR 2022): all levels at the finest resolution, fused at several dilations.

Parameter names are the authors': embed_layers.0.proj … embed_layers.3.proj, fuse_layer.aspp_modules.0.conv …,
fuse_layer.bottleneck.conv, conv_seg.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from clan.models.mobilenet import Depthwise
from clan.models.options import NetworkConfig

DILATIONS = (6, 12, 18)
"""Dilations of the depthwise branches, beside the 1×1 convolution."""


class Embedding(nn.Layer):
    """A linear map of every pixel's channels.

    Args:
        in_channels, channels: of the input and of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        bound = in_channels**-0.5
        uniform = nn.initializer.Uniform(-bound, bound)
        self.proj = nn.Layer()
        self.proj.weight = self.create_parameter([channels, in_channels], default_initializer=uniform)
        self.proj.bias = self.create_parameter([channels], is_bias=True, default_initializer=uniform)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, channels, h, w]."""
        weight: Any = self.proj.weight
        return F.conv2d(x, weight.unsqueeze([2, 3]), self.proj.bias)


class Unit(nn.Layer):
    """A convolution without bias, batch norm and ReLU.

    Args:
        convolution: its weights are initialised N(0, 2 / fan-out), as the authors' are.
    """

    def __init__(self, convolution: nn.Conv2D) -> None:
        super().__init__()
        channels, _, *kernel = convolution.weight.shape
        normal = nn.initializer.Normal(0.0, (2.0 / (channels * kernel[0] * kernel[1])) ** 0.5)
        normal(convolution.weight)
        self.conv = convolution
        self.bn = nn.BatchNorm2D(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, channels, h, w]."""
        return F.relu(self.bn(self.conv(x)))


class Separable(nn.Layer):
    """A depthwise 3×3 convolution and a 1×1 convolution, batch norm and ReLU after each.

    Args:
        in_channels, channels: of the input and of the output.
        dilation: of the 3×3.
    """

    def __init__(self, in_channels: int, channels: int, dilation: int) -> None:
        super().__init__()
        self.depthwise_conv = Unit(Depthwise(in_channels, dilation=dilation))
        self.pointwise_conv = Unit(nn.Conv2D(in_channels, channels, 1, bias_attr=False))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, channels, h, w]."""
        return self.pointwise_conv(self.depthwise_conv(x))


class Fusion(nn.Layer):
    """Branches of several dilations on the same maps, and a 3×3 convolution of them all.

    Args:
        in_channels, channels: of the input, and of each branch and the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        first = Unit(nn.Conv2D(in_channels, channels, 1, bias_attr=False))
        others = [Separable(in_channels, channels, dilation) for dilation in DILATIONS]
        self.aspp_modules = nn.LayerList([first, *others])
        joined = channels * len(self.aspp_modules)
        self.bottleneck = Unit(nn.Conv2D(joined, channels, 3, padding=1, bias_attr=False))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, channels, h, w]."""
        return self.bottleneck(paddle.concat([branch(x) for branch in self.aspp_modules], axis=1))


class DAFormerHead(nn.Layer):
    """All four levels → logits at the finest one's resolution, a quarter of the images'.

    Args:
        in_channels: channels of each level.
        num_classes: C.
        channels: those that each level is brought to, and of the fused maps.
        dropout: share of the fused maps that are zero in training, drawn by Paddle's generator.
    """

    reads: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    """Indices of the backbone levels that the head takes."""

    def __init__(
        self, in_channels: Sequence[int], num_classes: int, *, channels: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.embed_layers = nn.LayerList([Embedding(each, channels) for each in in_channels])
        self.fuse_layer = Fusion(channels * len(in_channels), channels)
        self.dropout = nn.Dropout2D(dropout)
        normal: Any = nn.initializer.Normal(0.0, 0.01)
        self.conv_seg = nn.Conv2D(channels, num_classes, 1, weight_attr=normal)

    def forward(self, *levels: Tensor) -> Tensor:
        """Levels [B, K, h, w], the finest first → [B, C, h, w] at the first one's resolution."""
        size = levels[0].shape[2:]
        maps = [
            embed(levels[number]) for number, embed in enumerate(self.embed_layers)
        ]  # to_static knows no strict zip
        maps = [maps[0], *(F.interpolate(each, size, mode="bilinear", align_corners=False) for each in maps[1:])]
        return self.conv_seg(self.dropout(self.fuse_layer(paddle.concat(maps, axis=1))))

    @classmethod
    def of(cls, network: NetworkConfig, *in_channels: int) -> "DAFormerHead":
        """Builds a head for a configuration.

        Args:
            network: gives classes, channels and dropout.
            in_channels: channels of each level.
        """
        return cls(in_channels, network.num_classes, channels=network.head_channels, dropout=network.dropout)

    @staticmethod
    def run_together(heads: Sequence["DAFormerHead"], *levels: Tensor) -> list[Tensor]:
        """The logits of several heads on the same levels: [B, C, h, w] each."""
        return [head(*levels) for head in heads]
