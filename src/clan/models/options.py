"""What a segmenter is: the one description that training, evaluation, prediction and inspection build it from.

Nothing here imports Paddle, so that a configuration is read at once.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, model_validator

from clan.core.schema import OneOf, Section
from clan.models.normalization import SCHEMES, Normalization, Scheme

BACKBONES = {
    "resnet101": "clan.models.resnet:resnet101",
    "resnet50": "clan.models.resnet:resnet50",
    "mobilenetv2": "clan.models.mobilenet:MobileNetV2",
    "resnet-tiny": "clan.models.resnet:resnet_tiny",
}
"""What makes each backbone. It is called with `output_stride`, a ResNet's with `projection_bias` too.

A backbone has `channels` and `strides` of four levels, a method `pyramid` that gives the four maps of images, and
`forward`, which gives the last of them.
"""

HEADS = {"deeplab": "clan.models.heads:Head"}
"""The kinds of heads.

Each says by `reads` which levels of the pyramid it takes, and has `of` to make one and `run_together` to run several.
"""

Backbone = Annotated[str, OneOf(BACKBONES)]
HeadKind = Annotated[str, OneOf(HEADS)]
Dilation = Annotated[int, Field(ge=1, le=1024)]


class Statistics(Protocol):
    """What may say how its images are to be normalised: a data set."""

    @property
    def mean(self) -> tuple[float, float, float] | None:
        """Of every channel."""
        ...

    @property
    def std(self) -> tuple[float, float, float] | None:
        """Likewise."""
        ...


class NetworkConfig(Section):
    """The segmenter: a backbone and one or two heads."""

    model: HeadKind = "deeplab"
    """Kind of heads: DeepLab-v2's sum of dilated convolutions."""
    backbone: Backbone = "resnet101"
    """What makes features of images; resnet-tiny is the demo's, for training from scratch on a laptop."""
    output_stride: Literal[8, 16, 32] = 8
    """Resolution of the input over that of the last features; 16 takes a quarter of the time in the last stages."""
    num_heads: Annotated[int, Field(ge=1, le=2)] = 2
    """Heads of the same shape on the same features; their logits are added. Method clan compares two."""
    head_dilations: Annotated[tuple[Dilation, ...], Field(min_length=1, max_length=16)] = (6, 12, 18, 24)
    """Dilations of the convolutions that a head sums; smaller ones suit smaller images."""
    align_corners: bool = True
    """Resize logits so that the centres of corner pixels stay in place; otherwise the edges of the images do."""
    input_normalization: Scheme = "caffe-bgr"
    """What the initial weights were trained on: BGR 0…255 minus the mean, or RGB 0…1 by mean and deviation."""
    num_classes: Annotated[int, Field(ge=1, le=255)] = 19
    """Number of classes C; label maps hold 8 bits, and 255 is none."""
    restore_from: Path | None = None
    """Initial weights of the segmenter (.pdparams, .pth, .pt, .safetensors); none: random."""
    restore_heads: bool = True
    """Take the heads from `restore_from` too, where they fit."""
    restore_discriminator_from: Path | None = None
    """Initial weights of the discriminator; none: random."""
    discriminator_width: Annotated[int, Field(ge=1, le=1024)] = 64
    """Channels of the discriminator's first layer; each further one doubles them."""
    train_batch_norm_affine: bool = False
    """Train batch-norm's γ and β (all but the stem's)."""
    batch_norm: Literal["official", "frozen", "per-domain"] = "official"
    """Statistics of batch norms in training.

    official: the batch's; running ones, which evaluation uses, are taken over both domains in turn.
    frozen: the running ones, left as they are.
    per-domain: the batch's; each domain has its own running ones, and evaluation uses the target's.
    """
    projection_bias: bool = False
    """Give the backbone's projection convolutions a bias."""
    evaluation_upsampling: Literal["bilinear", "bicubic"] = "bilinear"
    """How logits are brought to the ground truth's size in evaluation."""

    def normalization(self, dataset: Statistics) -> Normalization:
        """How the network's input is made: as its initial weights want, unless the data set says otherwise."""
        usual = SCHEMES[self.input_normalization]
        return replace(usual, mean=dataset.mean or usual.mean, std=dataset.std or usual.std)

    @model_validator(mode="after")
    def _has_projections(self) -> "NetworkConfig":
        if self.projection_bias and not self.backbone.startswith("resnet"):
            raise ValueError(f"projection_bias is for ResNets: {self.backbone} has no projection convolutions")
        return self
