"""MobileNetV2's trunk (Sandler et al., CVPR 2018), dilated to output stride 8 or 16.

Parameter names are torchvision's: features.0.0, features.1.conv.0 … features.18.1.
"""

from paddle import Tensor, nn

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, output channels, blocks and stride of each stage, after a stem of stride 2."""

STEM_CHANNELS, LAST_CHANNELS = 32, 1280
MIDDLE_BLOCKS = 14
"""Layers before the stage of 160 channels; what leaves them has stride 16 in the original."""


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

    Strides beyond the output stride become dilations of what follows, the convolution itself keeping the dilation
    it had, so that every kernel sees what it was trained on.

    Args:
        output_stride: 8 or 16.
    """

    out_channels = LAST_CHANNELS
    middle_channels = 96

    def __init__(self, *, output_stride: int = 8) -> None:
        super().__init__()
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

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, h, w] → features [B, 96, …] before the last two stages, and those of `forward`."""
        layers = list(self.features)
        for layer in layers[:MIDDLE_BLOCKS]:
            x = layer(x)
        middle = x
        for layer in layers[MIDDLE_BLOCKS:]:
            x = layer(x)
        return middle, x

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, h, w] → features [B, 1280, ⌈h/stride⌉, ⌈w/stride⌉]."""
        return self.stages(x)[1]
