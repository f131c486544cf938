"""How pixels become numbers: it is the weights that a network starts from which ask for one way or another."""

from dataclasses import dataclass
from typing import Literal

Channels = Literal["bgr", "rgb"]


@dataclass(frozen=True)
class Normalization:
    """(value − mean) / std of every channel.

    Args:
        channels: the order in which the network takes red, green and blue.
        mean: of red, green and blue, 0…255.
        std: likewise, above 0.
    """

    channels: Channels
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CAFFE = Normalization("bgr", (122.67891434, 116.66876762, 104.00698793), (1.0, 1.0, 1.0))
"""BGR minus the means of the ImageNet training set: what DeepLab's weights were trained with (SPEC section 5)."""

IMAGENET = Normalization("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""RGB with the mean and deviation that most other published ImageNet weights were trained with."""

Scheme = Literal["caffe-bgr", "imagenet-rgb"]

SCHEMES: dict[Scheme, Normalization] = {"caffe-bgr": CAFFE, "imagenet-rgb": IMAGENET}
"""What published weights were trained on, by name."""
