"""Which network weights are of, as far as their arrays tell."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clan.models.deeplab import BACKBONES
from clan.models.heads import DILATIONS
from clan.models.mobilenet import MobileNetV2

HEAD = "layer5.conv2d_list."


@dataclass(frozen=True)
class Recognised:
    """What arrays tell of their network.

    Args:
        backbone: a key of `BACKBONES`; None: none that is known.
        num_classes: C; None: there are no heads.
        branches: dilated convolutions of a head.
    """

    backbone: str | None
    num_classes: int | None
    branches: int

    @property
    def usual_heads(self) -> bool:
        """Whether the heads have as many branches as DeepLab's, whose dilations are then most likely."""
        return self.branches == len(DILATIONS)


def recognise(arrays: Mapping[str, np.ndarray]) -> Recognised:
    """Looks at the names and shapes of arrays, both as on file."""
    head = arrays.get(f"{HEAD}0.weight")
    return Recognised(
        backbone=_backbone(arrays),
        num_classes=head.shape[0] if head is not None and head.ndim == 4 and 0 < head.shape[0] < 256 else None,
        branches=sum(f"{HEAD}{branch}.weight" in arrays for branch in range(len(arrays))),
    )


def _backbone(arrays: Mapping[str, np.ndarray]) -> str | None:
    if "features.18.1.weight" in arrays:
        return next(name for name, make in BACKBONES.items() if make is MobileNetV2)
    stem = arrays.get("conv1.weight")
    prefixes = {name.rpartition(".conv1.weight")[0] for name in arrays if name.endswith(".conv1.weight")}
    blocks = tuple(sum(prefix.startswith(f"layer{stage}.") for prefix in prefixes) for stage in (1, 2, 3, 4))
    for name, make in BACKBONES.items():
        resnet = getattr(make, "args", None) == (blocks,)
        if resnet and stem is not None and stem.shape[:1] == (getattr(make, "keywords", {}).get("width", 64),):
            return name
    return None
