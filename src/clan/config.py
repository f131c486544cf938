"""What a run is: one immutable, validated value that is written beside its results and runs again.

Fields carry the values of the `official` preset (SPEC sections 3 and 4) as defaults; `clan.recipes` holds
the other presets. Every field is a flag of `clan train` and a key of `config.yaml`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from clan.domains import CITYSCAPES_CLASSES, PACKAGED, Classes, Description, packaged
from clan.errors import ConfigError
from clan.normalization import BACKBONES, CAFFE, Channels, Normalization
from clan.schema import Fraction, Section, Size, build, refuse

Schedule = Literal["warmup-poly", "poly", "constant"]


def _described(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in PACKAGED:
        refuse(f"expected {', '.join(PACKAGED)} or a description, got {value!r}")
    return packaged(value)


def _shortened(description: Description) -> str | dict[str, Any]:
    """A packaged description by its name, another one whole: a run needs no file but its `config.yaml`."""
    if description.name in PACKAGED and description == packaged(description.name):
        return description.name
    return description.model_dump(mode="json", exclude_defaults=True)


def _merged(value: Any) -> Any:
    return CITYSCAPES_CLASSES if value == "cityscapes" else value


def _shortened_classes(classes: Classes) -> str | dict[str, Any]:
    return "cityscapes" if classes == CITYSCAPES_CLASSES else classes.model_dump(mode="json")


class DomainConfig(Section):
    """One data set: where its images lie and at what size the network sees them."""

    dataset: Annotated[Description, BeforeValidator(_described), PlainSerializer(_shortened)]
    """Layout and labels of the data set: synthia, gta5, cityscapes or a description file."""
    root: Path
    """Folder of the data set."""
    list_file: Path | None = None
    """Text file naming the images to use, one a line; without it, every image of the folder, sorted."""
    split: str = "train"
    """Split to use, for data sets that have them."""
    size: Size
    """Width and height that images and labels are resized to."""


class AugmentationConfig(Section):
    """Random changes to training samples."""

    random_scale: bool = True
    """Resize images (not labels) by a ratio drawn from `scales`."""
    scales: tuple[tuple[Annotated[float, Field(gt=0)], Fraction], ...] = ((0.8, 0.3), (1.0, 0.4), (1.1, 0.3))
    """Pairs of ratio and probability; the probabilities sum to 1."""
    random_mirror: bool = True
    """Mirror image and label together, half of the time."""

    @model_validator(mode="after")
    def _probabilities_sum_to_one(self) -> "AugmentationConfig":
        total = sum(probability for _, probability in self.scales)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"the probabilities of scales sum to {total:g}, not to 1")
        return self


class NetworkConfig(Section):
    """The segmenter: trunk and two heads."""

    model: Literal["deeplab"] = "deeplab"
    """Kind of heads: DeepLab-v2's sum of four dilated convolutions."""
    backbone: Literal["resnet101", "resnet-tiny"] = "resnet101"
    """The trunk; resnet-tiny is the demo's, for training from scratch on a laptop."""
    num_classes: PositiveInt = 19
    """Number of classes C."""
    restore_from: Path | None = None
    """Initial weights of the segmenter (.pdparams, .pth, .pt, .safetensors); none: random."""
    restore_heads: bool = True
    """Take the heads from `restore_from` too, where they fit."""
    restore_discriminator_from: Path | None = None
    """Initial weights of the discriminator; none: random."""
    discriminator_width: PositiveInt = 64
    """Channels of the discriminator's first layer; each further one doubles them."""
    train_batch_norm_affine: bool = False
    """Train batch-norm's γ and β (all but the stem's)."""
    batch_statistics: bool = True
    """Normalise by the batch's statistics while training; otherwise by the running ones, left as they are."""
    projection_bias: bool = False
    """Give the trunk's projection convolutions a bias."""
    channels: Channels | None = None
    """Order of the input's channels; none: as the backbone's published weights want."""
    mean: tuple[float, float, float] | None = None
    """Mean of red, green and blue, 0…255; none: as the backbone's published weights want."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Deviation of red, green and blue; none: as the backbone's published weights want."""
    evaluation_upsampling: Literal["bilinear", "bicubic"] = "bilinear"
    """How logits are brought to the ground truth's size in evaluation."""

    def normalization(self, dataset: Description) -> Normalization:
        """How the network's input is made: the weights decide, unless this or the data set says otherwise."""
        usual = BACKBONES.get(self.backbone, CAFFE)
        return Normalization(
            channels=self.channels or usual.channels,
            mean=dataset.mean or self.mean or usual.mean,
            std=dataset.std or self.std or usual.std,
        )


class LossConfig(Section):
    """Weights and shapes of the losses; symbols as in SPEC section 3."""

    gamma: NonNegativeFloat = 2.0
    """Focusing exponent γ of the segmentation loss; 0 is cross entropy."""
    lambda_adv: NonNegativeFloat = 0.001
    """Weight of the adversarial loss."""
    lambda_weight: NonNegativeFloat = 0.01
    """Weight of the heads' weight divergence."""
    weight_multiplier: NonNegativeFloat = 2.0
    """Further factor on the weight divergence: 2 in the official code, 1 in the paper."""
    epsilon: NonNegativeFloat = 0.4
    """Floor ε of the adaptive adversarial weight."""
    lambda_local: NonNegativeFloat = 10.0
    """Weight of the discrepancy map in the adaptive adversarial weight."""
    damping: bool = True
    """Let the adversarial and weight losses fade linearly to 0 over the run."""


class OptimizerConfig(Section):
    """Both optimizers: SGD with momentum for the segmenter, Adam for the discriminator."""

    learning_rate: NonNegativeFloat = 2.5e-4
    """Base rate of the segmenter."""
    head_multiplier: NonNegativeFloat = 10.0
    """Factor on the rate of the two heads."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 decay of the segmenter."""
    repeated_updates: bool = True
    """Update each trunk tensor once per enclosing module, as the official code does."""
    schedule: Schedule = "warmup-poly"
    """Course of the segmenter's rate."""
    discriminator_learning_rate: NonNegativeFloat = 1e-4
    """Base rate of the discriminator."""
    discriminator_weight_decay: NonNegativeFloat = 0.0
    """L2 decay of the discriminator."""
    discriminator_schedule: Schedule = "warmup-poly"
    """Course of the discriminator's rate."""
    power: NonNegativeFloat = 0.9
    """Exponent of the polynomial decay."""


class Config(Section):
    """A whole training run."""

    method: Literal["clan", "source-only"] = "clan"
    """The adaptation method."""
    source: DomainConfig
    """The labelled domain."""
    target: DomainConfig
    """The unlabelled domain."""
    classes: Annotated[Classes, BeforeValidator(_merged), PlainSerializer(_shortened_classes)] = CITYSCAPES_CLASSES
    """The classes that both share: those of Cityscapes, or a file of named merges."""
    augmentation: AugmentationConfig = AugmentationConfig()
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    num_steps: PositiveInt = 100_000
    """Iterations N that schedules and damping are laid out for."""
    num_steps_stop: PositiveInt | None = None
    """Iteration to stop at; none: `num_steps`."""
    warmup_steps: NonNegativeInt | None = None
    """Iterations of warm-up, of the rates and of the adaptive weight; none: `num_steps` / 20."""
    batch_size: PositiveInt = 1
    """Images of each domain per forward pass."""
    iter_size: PositiveInt = 1
    """Forward passes whose gradients are averaged into one step."""
    ignore_label: Annotated[int, Field(ge=0, le=255)] = 255
    """The trainId that takes part in no loss."""
    shuffle: bool = True
    """Draw samples in random order; otherwise in the order of the list."""
    num_workers: NonNegativeInt = 4
    """Threads that prepare samples; 0: in the main one."""
    seed: NonNegativeInt = 1234
    """Seed of the order, the augmentation and the initial weights."""
    snapshot_dir: Path = Path("snapshots")
    """Folder of everything the run writes."""
    save_every: PositiveInt = 2000
    """Iterations between snapshots."""
    save_images: NonNegativeInt = 2
    """Colour masks of target images saved with each snapshot."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to compute; auto: the GPU if this Paddle has one."""
    gpu: NonNegativeInt = 0
    """Index of the GPU among the visible ones."""

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.stop > self.num_steps:
            raise ValueError(f"num_steps_stop {self.stop} lies beyond num_steps {self.num_steps}")
        if self.warmup > self.num_steps:
            raise ValueError(f"warmup_steps {self.warmup} lies beyond num_steps {self.num_steps}")
        named = len(self.classes.classes)
        if self.classes != CITYSCAPES_CLASSES and self.network.num_classes != named:
            raise ValueError(f"network.num_classes is {self.network.num_classes}, but classes names {named}")
        return self

    @property
    def stop(self) -> int:
        """The iteration the run ends before."""
        return self.num_steps if self.num_steps_stop is None else self.num_steps_stop

    @property
    def warmup(self) -> int:
        """Iterations of warm-up."""
        return self.num_steps // 20 if self.warmup_steps is None else self.warmup_steps


def to_yaml(config: Config) -> str:
    """The complete configuration as YAML, readable by `load`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load(path: Path) -> Config:
    """Reads a `config.yaml`.

    Raises:
        ConfigError: the file is missing, is not YAML, or a value does not fit.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the config {path} holds {type(values).__name__}, not a mapping of options")
    return build(Config, values, origin=str(path))
