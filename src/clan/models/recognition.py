"""Recognising the network that weights belong to, by names and shapes of their arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clan.models.options import DILATIONS

HEAD = "layer5.conv2d_list."
DAFORMER, LIGHT = "layer5.conv_seg.weight", "layer5.out.weight"
"""The last layers of the other heads."""
RESNETS = {"resnet101": (3, 4, 23, 3, 64), "resnet50": (3, 4, 6, 3, 64), "resnet-tiny": (1, 1, 1, 1, 16)}
"""Blocks of the four stages and width of the stem."""

DINOV2 = {(384, 12): "dinov2-s", (768, 12): "dinov2-b", (1024, 24): "dinov2-l"}
"""Width of a token and number of blocks → backbone."""

MIT: dict[tuple[int, ...], str] = {
    (32, 2, 2, 2, 2): "mit-b0",
    (64, 2, 2, 2, 2): "mit-b1",
    (64, 3, 4, 6, 3): "mit-b2",
    (64, 3, 4, 18, 3): "mit-b3",
    (64, 3, 8, 27, 3): "mit-b4",
    (64, 3, 6, 40, 3): "mit-b5",
}
"""Width of the first stage and blocks of the four stages → backbone."""


@dataclass(frozen=True)
class Recognised:
    """A recognised network.

    Args:
        backbone: a key of `BACKBONES`; None: unknown.
        num_classes: C; None: there are no heads.
        branches: number of dilated convolutions of a DeepLab head.
        model: a key of `HEADS`.
        num_heads: number of heads.
        head_channels: channels of a daformer head; None: it is none.
    """

    backbone: str | None
    num_classes: int | None
    branches: int
    model: str = "deeplab"
    num_heads: int = 2
    head_channels: int | None = None

    @property
    def usual_heads(self) -> bool:
        """Whether nothing but the usual dilations is to be expected: DeepLab's number of branches, or another head."""
        return self.model != "deeplab" or self.branches == len(DILATIONS)


def recognise(arrays: Mapping[str, np.ndarray]) -> Recognised:
    """Recognises the network of arrays under their names on file."""
    lasts = {"deeplab": f"{HEAD}0.weight", "light": LIGHT, "daformer": DAFORMER}
    model = next((name for name, last in lasts.items() if last in arrays), "deeplab")
    head = arrays.get(lasts[model])
    shape = head.shape if head is not None and head.ndim == 4 and 0 < head.shape[0] < 256 else None
    return Recognised(
        backbone=_backbone(arrays),
        num_classes=shape[0] if shape else None,
        branches=sum(f"{HEAD}{branch}.weight" in arrays for branch in range(len(arrays))),
        model=model,
        num_heads=1 + any(name.startswith("layer6.") for name in arrays),
        head_channels=shape[1] if shape and model == "daformer" else None,
    )


def _backbone(arrays: Mapping[str, np.ndarray]) -> str | None:
    if "features.18.1.weight" in arrays:
        return "mobilenetv2"
    if (token := arrays.get("cls_token")) is not None:
        depth = sum(name.endswith(".attn.qkv.weight") for name in arrays)
        return DINOV2.get((token.shape[-1] if token.ndim else 0, depth))
    if (patches := arrays.get("patch_embed1.proj.bias")) is not None:
        depths = [sum(f"block{stage}.{n}.norm1.weight" in arrays for n in range(len(arrays))) for stage in (1, 2, 3, 4)]
        return MIT.get((len(patches) if patches.ndim else 0, *depths))
    stem = arrays.get("conv1.weight")
    prefixes = {name.rpartition(".conv1.weight")[0] for name in arrays if name.endswith(".conv1.weight")}
    blocks = tuple(sum(prefix.startswith(f"layer{stage}.") for prefix in prefixes) for stage in (1, 2, 3, 4))
    shape = (*blocks, stem.shape[0] if stem is not None and stem.ndim == 4 else 0)
    return next((name for name, known in RESNETS.items() if known == shape), None)
