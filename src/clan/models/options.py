"""The configuration of a segmenter, used by training, evaluation, prediction and inspection; imports no Paddle."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, model_validator

from clan.core.schema import OneOf, Section
from clan.models import OutputStride
from clan.models.normalization import SCHEMES, Normalization, Scheme

BACKBONES = {
    "resnet101": "clan.models.resnet:resnet101",
    "resnet50": "clan.models.resnet:resnet50",
    "mobilenetv2": "clan.models.mobilenet:MobileNetV2",
    "resnet-tiny": "clan.models.resnet:resnet_tiny",
    "dinov2-s": "clan.models.dinov2:dinov2_s",
    "dinov2-b": "clan.models.dinov2:dinov2_b",
    "dinov2-l": "clan.models.dinov2:dinov2_l",
    **{f"mit-b{size}": f"clan.models.mit:mit_b{size}" for size in range(6)},
}
"""Backbone constructors by name, called with `output_stride` and, for ResNets, `projection_bias`, for MiT `drop_path`.

A backbone has `channels` and `strides` of four levels; `pyramid` returns the four feature maps of images, `forward` the
last one.
"""

HEADS = {
    "deeplab": "clan.models.heads:Head",
    "light": "clan.models.light_head:LightHead",
    "daformer": "clan.models.daformer_head:DAFormerHead",
}
"""Head classes by name.

`reads` lists the pyramid levels that a head takes, `of` builds one, and `run_together` runs several on the same levels.
"""

Upsampling = Literal["bilinear", "bicubic"]
"""Interpolation of logits."""

PATCHES = {
    "dinov2": ((8,), "DINOv2", "whose patches have 14 pixels"),
    "mit": ((8, 32), "MiT", "whose last patches are 32 pixels apart"),
}
"""Transformers by the beginning of their names: output strides to pass over, 8 once the default, name, patches."""

DILATIONS = (6, 12, 18, 24)
"""Default dilations of a head's branches."""

HEAD_CHANNELS, DROPOUT = 256, 0.1
"""Default channels and dropout of a daformer head, the authors'."""

Backbone = Annotated[str, OneOf(BACKBONES)]


def patches_of(backbone: str) -> tuple[tuple[int, ...], str, str] | None:
    """What `PATCHES` says of a transformer, whose weights are for RGB by ImageNet's mean and deviation; else None."""
    return PATCHES.get(backbone.partition("-")[0])


HeadKind = Annotated[str, OneOf(HEADS)]
Dilation = Annotated[int, Field(ge=1, le=1024)]


class Statistics(Protocol):
    """A data set that may override the normalisation of its images."""

    @property
    def mean(self) -> tuple[float, float, float] | None:
        """Mean of red, green and blue, 0…255; None: the usual one."""
        ...

    @property
    def std(self) -> tuple[float, float, float] | None:
        """Standard deviation of red, green and blue; None: the usual one."""
        ...


class NetworkConfig(Section):
    """The segmenter: a backbone and one or two heads."""

    model: HeadKind = "deeplab"
    """Kind of heads.

    deeplab: a sum of dilated convolutions.
    light: VFM-UDA's, at four times the features' size.
    daformer: all four levels, fused at the finest one's size.
    """
    backbone: Backbone = "resnet101"
    """Backbone; resnet-tiny is the demo's, for training from scratch on a laptop; dinov2-s is ViT-S/14, and so on."""
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Largest rate at which MiT's blocks are left out in training, rising linearly from 0; none: the authors' 0.1."""
    output_stride: OutputStride | None = None
    """Input resolution / resolution of the last features; none: what the head is meant for, 8, or 32 with daformer."""
    num_heads: Annotated[int, Field(ge=1, le=2)] = 2
    """Number of heads; their logits are added. Method clan needs two."""
    head_dilations: Annotated[tuple[Dilation, ...], Field(min_length=1, max_length=16)] = DILATIONS
    """Dilations of a DeepLab head's convolutions; smaller ones suit smaller images."""
    head_channels: Annotated[int, Field(ge=1, le=4096)] = HEAD_CHANNELS
    """Channels of a daformer head."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = DROPOUT
    """Share of a daformer head's channels that are left out in training, drawn for each image."""
    align_corners: bool = True
    """Upsample logits with aligned corner pixels, as Paddle's `align_corners`."""
    input_normalization: Scheme = "caffe-bgr"
    """Input normalisation of the initial weights: BGR 0…255 minus the mean, or RGB by mean and standard deviation."""
    num_classes: Annotated[int, Field(ge=1, le=255)] = 19
    """Number of classes C, 1…255."""
    restore_from: Path | None = None
    """Initial weights of the segmenter (.pdparams, .pth, .pt, .safetensors); none: random."""
    restore_heads: bool = True
    """Also load the heads from `restore_from`, if their shapes match."""
    restore_discriminator_from: Path | None = None
    """Initial weights of the discriminator; none: random."""
    discriminator_width: Annotated[int, Field(ge=1, le=1024)] = 64
    """Channels of the discriminator's first layer, doubled by each further layer."""
    train_batch_norm_affine: bool = False
    """Train batch-norm's γ and β (all but the stem's)."""
    batch_norm: Literal["official", "frozen", "per-domain"] = "official"
    """Batch-norm statistics in training.

    official: batch statistics; both domains update the running ones, which evaluation uses.
    frozen: running statistics, not updated.
    per-domain: batch statistics; each domain has its own running ones, evaluation uses the target's.
    """
    projection_bias: bool = False
    """Add a bias to the projection convolutions of a ResNet."""
    evaluation_upsampling: Upsampling = "bilinear"
    """Interpolation of logits to the ground truth's size in evaluation."""

    def normalization(self, dataset: Statistics) -> Normalization:
        """Returns the input normalisation: that of the initial weights, overridden by the data set's statistics."""
        usual = SCHEMES[self.input_normalization]
        return replace(usual, mean=dataset.mean or usual.mean, std=dataset.std or usual.std)

    @model_validator(mode="after")
    def _suits_patches(self) -> "NetworkConfig":
        if (known := patches_of(self.backbone)) is None:
            return self
        strides, name, patches = known
        if self.output_stride not in (None, *strides):
            raise ValueError(
                f"output_stride {self.output_stride} has no effect on {self.backbone}, {patches}: leave the option out"
            )
        if self.restore_from and self.input_normalization != "imagenet-rgb":
            raise ValueError(
                f"input_normalization {self.input_normalization} is not that of {name}'s weights: set it to "
                "imagenet-rgb"
            )
        return self

    @property
    def stride(self) -> int:
        """`output_stride`, by default what the head is meant for."""
        return self.output_stride or (32 if self.model == "daformer" else 8)

    @model_validator(mode="after")
    def _suits_head(self) -> "NetworkConfig":
        if self.model == "daformer":
            return self
        for name, usual in (("head_channels", HEAD_CHANNELS), ("dropout", DROPOUT)):
            if getattr(self, name) != usual:
                raise ValueError(f"{name} is for the head daformer, and model is {self.model}: leave the option out")
        return self

    @model_validator(mode="after")
    def _has_options(self) -> "NetworkConfig":
        if self.projection_bias and not self.backbone.startswith("resnet"):
            raise ValueError(f"projection_bias is for ResNets: {self.backbone} has no projection convolutions")
        if self.drop_path is not None and not self.backbone.startswith("mit-"):
            raise ValueError(f"drop_path is for MiT: {self.backbone} has no stochastic depth, leave the option out")
        return self
