"""MobileNetV2 as a backbone (Sandler et al., CVPR 2018), at output stride 8, 16 (dilated) or 32.

Parameter names are features.0.0, features.1.conv.0 … features.18.1, the layers of a block numbered through; see
`clan.models.mobilenet_names` for others.
"""

from paddle import Tensor, nn

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, output channels, blocks and stride of each stage, after a stem of stride 2."""

STEM_CHANNELS, LAST_CHANNELS = 32, 1280
LEVEL_ENDS = (4, 7, 14, 19)
"""Layers up to the end of each level: of the stages of 24, 32 and 96 channels, and of everything."""


def pointwise(in_channels: int, out_channels: int) -> nn.Conv2D:
    """A 1×1 convolution without bias."""
    return nn.Conv2D(in_channels, out_channels, 1, bias_attr=False)


class Depthwise(nn.Conv2D):
    """A 3×3 convolution of every channel with its own kernel, no bias, zeros beyond the border.

    Args:
        channels: of the input and of the output.
        stride: 1 or 2.
        dilation: of the kernel, and the padding.
    """

    def __init__(self, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, groups=channels, bias_attr=False
        )


class InvertedResidual(nn.Layer):
    """1×1 to more channels, depthwise 3×3, 1×1 back; with a residual where the shapes allow it.

    Args:
        in_channels, out_channels: of the block.
        expansion: inner channels over `in_channels`; 1 leaves the first 1×1 out.
        stride: of the 3×3.
        dilation: of the 3×3.
    """

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        channels = in_channels * expansion
        expand = (pointwise(in_channels, channels), nn.BatchNorm2D(channels), nn.ReLU6()) if expansion > 1 else ()
        self.conv = nn.Sequential(
            *expand,
            Depthwise(channels, stride=stride, dilation=dilation),
            nn.BatchNorm2D(channels),
            nn.ReLU6(),
            pointwise(channels, out_channels),
            nn.BatchNorm2D(out_channels),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, out_channels, ⌈h/stride⌉, ⌈w/stride⌉]."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Layer):
    """Stem, seven stages of inverted residuals and a last 1×1 convolution.

    Strides beyond the output stride become dilations of the following layers; the strided convolution itself keeps its
    dilation, so that kernels sample the same positions as in training.

    Args:
        output_stride: 8, 16 or 32.
    """

    channels = (24, 32, 96, LAST_CHANNELS)

    def __init__(self, *, output_stride: int = 8) -> None:
        super().__init__()
        self.strides = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
        stem = nn.Sequential(
            nn.Conv2D(3, STEM_CHANNELS, 3, stride=2, padding=1, bias_attr=False),
            nn.BatchNorm2D(STEM_CHANNELS),
            nn.ReLU6(),
        )
        layers: list[nn.Layer] = [stem]
        in_channels, reached, dilation = STEM_CHANNELS, 2, 1
        for expansion, channels, blocks, stage_stride in STAGES:
            for block in range(blocks):
                stride = stage_stride if block == 0 else 1
                keeps = reached * stride <= output_stride
                layers.append(
                    InvertedResidual(
                        in_channels,
                        channels,
                        expansion=expansion,
                        stride=stride if keeps else 1,
                        dilation=dilation,
                    )
                )
                reached, dilation = (reached * stride, dilation) if keeps else (reached, dilation * stride)
                in_channels = channels
        last = nn.Sequential(pointwise(in_channels, LAST_CHANNELS), nn.BatchNorm2D(LAST_CHANNELS), nn.ReLU6())
        self.features = nn.Sequential(*layers, last)

    def pyramid(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images [B, 3, h, w] → four levels of features, [B, channels, ⌈h/stride⌉, ⌈w/stride⌉] each."""
        levels = []
        for number, layer in enumerate(self.features):  # no start=1, which to_static lacks (Paddle 3.3.1)
            x = layer(x)
            if number + 1 in LEVEL_ENDS:
                levels.append(x)
        return tuple(levels)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, h, w] → the last level."""
        return self.pyramid(x)[-1]
