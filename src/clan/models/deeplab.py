"""The segmenter: a trunk and two DeepLab-v2 heads on the same features."""

from collections.abc import Callable, Mapping
from typing import Literal

from paddle import Tensor, nn
from paddle.nn import functional as F

from clan.models.heads import Head, both_heads
from clan.models.resnet import ResNet

Upsampling = Literal["bilinear", "bicubic"]
"""How maps are brought to a larger size."""

BACKBONES: Mapping[str, Callable[[bool], nn.Layer]] = {
    "resnet101": lambda bias: ResNet((3, 4, 23, 3), projection_bias=bias),
    "resnet-tiny": lambda bias: ResNet((1, 1, 1, 1), width=16, projection_bias=bias),
}
"""Trunks by name; each takes whether projection convolutions have a bias and has `out_channels`."""


class Segmenter(nn.Layer):
    """Trunk E and heads C1, C2: same shape, no shared weights.

    Args:
        backbone: a key of `BACKBONES`.
        num_classes: C.
        projection_bias: give the trunk's projection convolutions a bias, as the seed does.
        train_batch_norm_affine: train γ and β of the batch norms, all but the stem's, as the seed does.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        *,
        projection_bias: bool = False,
        train_batch_norm_affine: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = BACKBONES[backbone](projection_bias)
        self.head1 = Head(self.trunk.out_channels, num_classes)
        self.head2 = Head(self.trunk.out_channels, num_classes)
        for name, layer in self.trunk.named_sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                trained = train_batch_norm_affine and name != "bn1"
                # Not layer.parameters(): Paddle counts the running statistics among them.
                for parameter in (layer.weight, layer.bias):
                    assert parameter is not None
                    parameter.stop_gradient = not trained

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, h, w] → logits of both heads [B, C, about h/8, about w/8]."""
        return both_heads(self.head1, self.head2, self.trunk(images))


def upsample(maps: Tensor, size: tuple[int, int], mode: Upsampling = "bilinear") -> Tensor:
    """Resizes [B, C, h, w] to `size` (H, W), corners aligned, bilinear or bicubic."""
    return F.interpolate(maps, size=size, mode=mode, align_corners=True)
