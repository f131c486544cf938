"""The fully convolutional discriminator of output space (Tsai et al., CVPR 2018; Luo et al., CVPR 2019)."""

import itertools

from paddle import Tensor, nn
from paddle.nn import functional as F


class Discriminator(nn.Layer):
    """Five 4×4 convolutions of stride 2, C→64→128→256→512→1, with LeakyReLU 0.2 between them.

    Source is trained towards logit −∞ (label 0), target towards +∞ (label 1).
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        channels = (num_classes, width, width * 2, width * 4, width * 8, 1)
        layers = [nn.Conv2D(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(channels)]
        self.conv1, self.conv2, self.conv3, self.conv4, self.classifier = layers

    def forward(self, probability: Tensor) -> Tensor:
        """Class probabilities [B, C, H, W] → domain logits [B, 1, about H/32, about W/32]."""
        x = probability
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.leaky_relu(layer(x), 0.2)
        return self.classifier(x)
