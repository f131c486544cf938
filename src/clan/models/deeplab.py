"""The segmenter: a trunk and two DeepLab-v2 heads on the same features."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal

from paddle import Tensor, nn
from paddle.nn import functional as F

from clan.models.heads import DILATIONS, Head
from clan.models.mobilenet import MobileNetV2
from clan.models.resnet import ResNet

Upsampling = Literal["bilinear", "bicubic"]
"""How maps are brought to a larger size."""

BACKBONES: Mapping[str, Callable[..., nn.Layer]] = {
    "resnet101": partial(ResNet, (3, 4, 23, 3)),
    "resnet50": partial(ResNet, (3, 4, 6, 3)),
    "mobilenetv2": MobileNetV2,
    "resnet-tiny": partial(ResNet, (1, 1, 1, 1), width=16),
}
"""Trunks by name; each takes `output_stride`, ResNets `projection_bias` too.

A trunk has `out_channels` and `middle_channels`, the channels of what its `stages` returns: features of the middle
and of the end, of which `forward` returns the last.
"""


class Segmenter(nn.Layer):
    """Trunk E and heads C1, C2: same shape, no shared weights.

    Args:
        backbone: a key of `BACKBONES`.
        num_classes: C.
        output_stride: 8 or 16, the input's resolution over that of the features.
        head_dilations: one 3×3 convolution of a head for each.
        projection_bias: give the trunk's projection convolutions a bias, as the seed does.
        train_batch_norm_affine: train γ and β of the batch norms, all but the stem's, as the seed does.
        auxiliary_head: have a third head, on the features of the trunk's middle.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        *,
        output_stride: int = 8,
        head_dilations: tuple[int, ...] = DILATIONS,
        projection_bias: bool = False,
        train_batch_norm_affine: bool = False,
        auxiliary_head: bool = False,
    ) -> None:
        super().__init__()
        options = {"projection_bias": True} if projection_bias else {}
        self.trunk = BACKBONES[backbone](output_stride=output_stride, **options)
        self.head1 = Head(self.trunk.out_channels, num_classes, head_dilations)
        self.head2 = Head(self.trunk.out_channels, num_classes, head_dilations)
        self.auxiliary = Head(self.trunk.middle_channels, num_classes, head_dilations) if auxiliary_head else None
        for number, layer in enumerate(self.norms()):
            trained = train_batch_norm_affine and number > 0
            # Not layer.parameters(): Paddle counts the running statistics among them.
            for parameter in (layer.weight, layer.bias):
                assert parameter is not None
                parameter.stop_gradient = not trained

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, h, w] → logits of both heads [B, C, about h/stride, about w/stride]."""
        logits1, logits2 = Head.run_together([self.head1, self.head2], self.trunk(images))
        return logits1, logits2

    def norms(self) -> list[nn.BatchNorm2D]:
        """The batch norms, the stem's first."""
        return [layer for layer in self.trunk.sublayers() if isinstance(layer, nn.BatchNorm2D)]

    def separate_statistics(self) -> None:
        """From now on the source has running statistics of its own, which start as a copy.

        They are buffers `_source_mean` and `_source_variance` beside the usual ones, which are the target's.
        """
        for layer in self.norms():
            layer.register_buffer("_source_mean", layer._mean.clone())
            layer.register_buffer("_source_variance", layer._variance.clone())

    @contextmanager
    def source_statistics(self) -> Iterator[None]:
        """Within the block batch norms use and update the source's running statistics, where it has its own."""
        separate = [layer for layer in self.norms() if "_source_mean" in layer._buffers]

        def exchange() -> None:
            for layer in separate:
                for name in ("mean", "variance"):
                    usual, source = layer._parameters, layer._buffers
                    usual[f"_{name}"], source[f"_source_{name}"] = source[f"_source_{name}"], usual[f"_{name}"]

        exchange()
        try:
            yield
        finally:
            exchange()

    def all_logits(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Like `forward`, and the auxiliary head's logits, of the same shape."""
        assert self.auxiliary is not None
        middle, features = self.trunk.stages(images)
        logits1, logits2 = Head.run_together([self.head1, self.head2], features)
        return logits1, logits2, self.auxiliary(middle)


def upsample(maps: Tensor, size: tuple[int, int], mode: Upsampling = "bilinear") -> Tensor:
    """Resizes [B, C, h, w] to `size` (H, W), corners aligned, bilinear or bicubic."""
    return F.interpolate(maps, size=size, mode=mode, align_corners=True)
