"""ResNet backbones in the Caffe style of DeepLab-v2, at output stride 8, 16 or 32.

Parameter names are the reference's: conv1, bn1, layer1.0.conv1 … layer4.2.bn3, downsample.0 and .1.
"""

from functools import partial

from paddle import Tensor, nn
from paddle.nn import functional as F

EXPANSION = 4
"""Output channels of a bottleneck over its inner ones."""


def convolution(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1,
    bias: bool = False,
) -> nn.Conv2D:  # fmt: skip
    """A convolution initialised N(0, 0.01), its bias zero."""
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        weight_attr=nn.initializer.Normal(0.0, 0.01),
        bias_attr=nn.initializer.Constant(0.0) if bias else False,
    )


class Bottleneck(nn.Layer):
    """1×1, 3×3, 1×1 with a residual; the stride sits in the first 1×1, as in Caffe's ResNet.

    Args:
        in_channels: channels of the input.
        channels: inner channels; the output has `EXPANSION` times as many.
        stride: of the first 1×1 and of the projection.
        dilation: of the 3×3.
        project: use a 1×1 convolution and batch norm on the shortcut.
        projection_bias: add a bias to that convolution.
    """

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1, project: bool = False,
        projection_bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stride, self.dilation = stride, dilation
        out_channels = channels * EXPANSION
        self.conv1 = convolution(in_channels, channels, 1, stride=stride)
        self.bn1 = nn.BatchNorm2D(channels)
        self.conv2 = convolution(channels, channels, 3, padding=dilation, dilation=dilation)
        self.bn2 = nn.BatchNorm2D(channels)
        self.conv3 = convolution(channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2D(out_channels)
        self.downsample = None
        if project:
            self.downsample = nn.Sequential(
                convolution(in_channels, out_channels, 1, stride=stride, bias=projection_bias),
                nn.BatchNorm2D(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, EXPANSION·channels, h/stride, w/stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out + shortcut)


STRIDES_AND_DILATIONS = {
    8: ((1, 2, 1, 1), (1, 1, 2, 4)),
    16: ((1, 2, 2, 1), (1, 1, 1, 2)),
    32: ((1, 2, 2, 2), (1, 1, 1, 1)),
}
"""Output stride → strides and dilations of the four stages."""


class ResNet(nn.Layer):
    """Stem and four stages; the last ones are dilated instead of strided: stages 3 and 4 by (2, 4) at output stride 8.

    Args:
        blocks: bottlenecks per stage; (3, 4, 23, 3) is ResNet-101.
        width: inner channels of the first stage; each further stage doubles it.
        output_stride: 8, 16 or 32.
        projection_bias: add a bias to projection convolutions, as the port does.
    """

    def __init__(
        self, blocks: tuple[int, int, int, int], *, width: int = 64, output_stride: int = 8,
        projection_bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.channels = tuple(width * factor * EXPANSION for factor in (1, 2, 4, 8))
        self.strides = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
        self.conv1 = convolution(3, width, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2D(width)
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1, ceil_mode=True)
        in_channels = width
        strides, dilations = STRIDES_AND_DILATIONS[output_stride]
        for stage, (count, stride, dilation) in enumerate(zip(blocks, strides, dilations, strict=True)):
            channels = width << stage
            first = Bottleneck(
                in_channels,
                channels,
                stride=stride,
                dilation=dilation,
                project=True,
                projection_bias=projection_bias,
            )
            in_channels = channels * EXPANSION
            rest = [Bottleneck(in_channels, channels, dilation=dilation) for _ in range(count - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, *rest))

    def pyramid(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images [B, 3, h, w] → the features of all four stages, [B, channels, about h/stride, about w/stride] each."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        levels = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            levels.append(x)
        return tuple(levels)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, h, w] → the features of the last stage."""
        return self.pyramid(x)[-1]


resnet101 = partial(ResNet, (3, 4, 23, 3))
resnet50 = partial(ResNet, (3, 4, 6, 3))
resnet_tiny = partial(ResNet, (1, 1, 1, 1), width=16)
