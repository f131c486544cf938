"""To add a kind of head: a layer that says which levels it reads, and an entry in HEADS."""

from paddle import nn
from paddle.nn import functional as F


class SumHead(nn.Layer):
    """Logits of two levels, added at the finer one's resolution."""

    reads = (1, 3)

    def __init__(self, fine, coarse, num_classes):
        super().__init__()
        self.fine, self.coarse = nn.Conv2D(fine, num_classes, 1), nn.Conv2D(coarse, num_classes, 1)

    @classmethod
    def of(cls, network, *channels):
        return cls(*channels, network.num_classes)

    def forward(self, fine, coarse):
        logits = self.fine(fine)
        return logits + F.interpolate(self.coarse(coarse), size=logits.shape[2:], mode="bilinear")

    @staticmethod
    def run_together(heads, *levels):
        return [head(*levels) for head in heads]
