"""To add a backbone: a layer that gives four levels, and an entry in BACKBONES."""

from paddle import nn
from paddle.nn import functional as F


class Plain(nn.Layer):
    """A strided convolution per level, dilated where the output stride leaves the stride out."""

    channels = (8, 16, 32, 64)

    def __init__(self, *, output_stride=8):
        super().__init__()
        self.strides = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
        self.stem, self.norm = nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8)
        self.stages = nn.LayerList()
        channels, reached = 8, 2
        for width, stride in zip(self.channels, self.strides, strict=True):
            step, reached = stride // reached, stride
            self.stages.append(nn.Conv2D(channels, width, 3, stride=step, padding=3 - step, dilation=3 - step))
            channels = width

    def pyramid(self, images):
        features, levels = F.relu(self.norm(self.stem(images))), []
        for stage in self.stages:
            features = F.relu(stage(features))
            levels.append(features)
        return tuple(levels)

    def forward(self, images):
        return self.pyramid(images)[-1]
