"""Input normalisation, which must match the initial weights."""

from dataclasses import dataclass
from typing import Literal

Channels = Literal["bgr", "rgb"]

ORDERS: dict[Channels, tuple[int, int, int]] = {"bgr": (2, 1, 0), "rgb": (0, 1, 2)}
"""The RGB index of each channel of the network's input, by channel order."""


@dataclass(frozen=True)
class Normalization:
    """(value − mean) / std of every channel.

    Args:
        order: the RGB index of each channel of the network's input, a value of `ORDERS`.
        mean: of red, green and blue, in 0…255.
        std: standard deviation of red, green and blue, > 0.
    """

    order: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def channels(self) -> Channels:
        """The name of `order`."""
        return next(name for name, order in ORDERS.items() if order == self.order)


CAFFE = Normalization(ORDERS["bgr"], (122.67891434, 116.66876762, 104.00698793), (1.0, 1.0, 1.0))
"""BGR minus the ImageNet means: for DeepLab's Caffe weights."""

IMAGENET = Normalization(ORDERS["rgb"], (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""RGB with the ImageNet mean and standard deviation: for most other published weights."""

Scheme = Literal["caffe-bgr", "imagenet-rgb"]

SCHEMES: dict[Scheme, Normalization] = {"caffe-bgr": CAFFE, "imagenet-rgb": IMAGENET}
"""Normalisations by name."""
