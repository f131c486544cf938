"""DeepLab-v2's classifier heads: sums of dilated convolutions of the same features."""

import paddle
from paddle import Tensor, nn

from clan.cpu.bridge import available
from clan.models.resnet import convolution

DILATIONS = (6, 12, 18, 24)
"""Dilations of the four branches of a head."""


class Head(nn.Layer):
    """The sum of one 3×3 convolution per dilation, K features → C logits at the features' resolution."""

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


def both_heads(head1: Head, head2: Head, features: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of two heads of the same shape on the same features [B, K, h, w], each [B, C, h, w]."""
    if not available(features):
        return head1(features), head2(features)
    from clan.cpu.dilated import dilated_sums

    branches = [*head1.conv2d_list, *head2.conv2d_list]
    weights = [branch.weight for branch in branches]
    sums = dilated_sums(features.transpose([0, 2, 3, 1]), weights, head1.dilations)
    bias = paddle.stack([branch.bias for branch in branches]).reshape([2, len(head1.dilations), -1]).sum(axis=1)
    logits = (sums + bias.flatten()).transpose([0, 3, 1, 2])
    logits1, logits2 = paddle.split(logits, 2, axis=1)
    return logits1, logits2
