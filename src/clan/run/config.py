"""What a run is: one immutable, validated value that is written beside its results and runs again.

Fields carry the values of the `official` preset (SPEC sections 3 and 4) as defaults; `clan.run.presets` holds
the other presets. Every field is a flag of `clan train` and a key of `config.yaml`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PlainSerializer,
    model_validator,
)

from clan.core.errors import ConfigError
from clan.core.runtime import Precision
from clan.core.schema import Fraction, NonNegativeInt, OneOf, PositiveInt, Section, Size, load_section, refuse
from clan.datasets import CITYSCAPES_CLASSES, NAMED_CLASSES, PACKAGED, Classes, Description, packaged
from clan.models.options import NetworkConfig
from clan.run.method_options import ClanOptions, MethodOptions, move_options, read_method, write_method
from clan.run.schedules import SCHEDULES

OPTIMIZERS = {
    "sgd": "clan.training.optimizers:SGD",
    "adam": "clan.training.optimizers:Adam",
    "adamw": "clan.training.optimizers:AdamW",
}
"""What computes the optimizers, by name."""

SAMPLINGS = {"uniform": "clan.data.sampling:uniform"}
"""What makes strategies of sampling, by name: of a data set, two seeds and the run."""

LOGGERS = {
    "tensorboard": "clan.training.loggers:TensorBoard",
    "visualdl": "clan.training.loggers:VisualDL",
    "wandb": "clan.training.loggers:WandB",
}
"""Programs that a run can log to, each into a folder of its name in the run's."""

Schedule = Annotated[str, OneOf(SCHEDULES)]
Algorithm = Annotated[str, OneOf(OPTIMIZERS)]
SamplingName = Annotated[str, OneOf(SAMPLINGS)]
LoggerName = Annotated[str, OneOf(LOGGERS)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]

MOST_PIXELS = 2**28
"""Of one domain in one iteration: their float32 values take 3 GB, and ten times that in the network."""


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
    if not isinstance(value, str):
        return value
    if value not in NAMED_CLASSES:
        refuse(f"expected {', '.join(NAMED_CLASSES)} or classes, got {value!r}")
    return NAMED_CLASSES[value]


def _shortened_classes(classes: Classes) -> str | dict[str, Any]:
    named = (name for name, known in NAMED_CLASSES.items() if known == classes)
    return next(named, None) or classes.model_dump(mode="json")


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
    sampling: SamplingName = "uniform"
    """Which image comes next; uniform: every image once per pass over the data."""


class AugmentationConfig(Section):
    """Random changes to training samples."""

    random_scale: bool = True
    """Resize images (not labels) by a ratio drawn from `scales`."""
    scales: tuple[tuple[Annotated[float, Field(gt=0)], Fraction], ...] = ((0.8, 0.3), (1.0, 0.4), (1.1, 0.3))
    """Pairs of ratio and probability; the probabilities sum to 1."""
    scale_labels: bool = False
    """Resize labels with their images; otherwise they stay at base size, to which logits are brought."""
    crop_size: Size | None = None
    """Width and height that image and label are cut to, at a random place; none: they stay whole."""
    crop_class_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Draw crops of the source again, ten times at most, in which a class has at least this share; 1: never."""
    random_mirror: bool = True
    """Mirror image and label together, half of the time."""
    color_jitter: Fraction = 0.0
    """Change brightness, contrast and saturation by factors drawn from 1 ± this, of both domains' images."""
    style: Literal["none", "statistics", "amplitude"] = "none"
    """Give each source image the looks of the target image that it is paired with.

    statistics: mean and deviation of every channel.
    amplitude: the Fourier amplitudes of low frequencies (FDA, CVPR 2020).
    """
    style_extent: Fraction = 0.01
    """Share of the shorter side up to which frequencies are low, with style amplitude."""

    @model_validator(mode="after")
    def _probabilities_sum_to_one(self) -> "AugmentationConfig":
        total = sum(probability for _, probability in self.scales)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"the probabilities of scales sum to {total:g}, not to 1")
        return self


class LossConfig(Section):
    """The segmentation loss, which all methods share; docs/method.md has the formula."""

    gamma: NonNegativeFloat = 2.0
    """Focusing exponent γ of the segmentation loss; 0 is cross entropy."""
    class_weighting: Literal["none", "median-frequency", "sqrt-inverse"] = "none"
    """Let pixels of rarer classes count more in the segmentation loss: by median frequency / frequency, or its root."""


class OptimizerConfig(Section):
    """Both optimizers: the segmenter's, and the discriminator's."""

    algorithm: Algorithm = "sgd"
    """What updates the segmenter; adamw decays weights apart from their gradients."""
    learning_rate: NonNegativeFloat = 2.5e-4
    """Base rate of the segmenter."""
    head_multiplier: NonNegativeFloat = 10.0
    """Factor on the rate of the two heads."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of Adam's and AdamW's moments of the segmenter's gradients."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 decay of the segmenter."""
    no_decay: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Backbone parameters without decay: those whose name contains one of these, such as norm."""
    repeated_updates: bool | None = None
    """Update each backbone tensor once per enclosing module, as the official code does; none: where the network is
    its ResNet and the algorithm sgd."""
    schedule: Schedule = "warmup-poly"
    """Course of the segmenter's rate."""
    warmup_ratio: Fraction = 1e-6
    """Share of the rate that schedule warmup-linear begins at."""
    discriminator_algorithm: Algorithm = "adam"
    """What updates the discriminator."""
    discriminator_betas: tuple[Beta, Beta] = (0.9, 0.99)
    """Decay of Adam's and AdamW's moments of the discriminator's gradients."""
    discriminator_learning_rate: NonNegativeFloat = 1e-4
    """Base rate of the discriminator."""
    discriminator_weight_decay: NonNegativeFloat = 0.0
    """L2 decay of the discriminator."""
    discriminator_schedule: Schedule = "warmup-poly"
    """Course of the discriminator's rate."""
    power: NonNegativeFloat = 0.9
    """Exponent of the polynomial decay."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Save a running average of the segmenter's weights, which each step moves by 1 − this; 0: the weights."""


class Config(Section):
    """A whole training run."""

    method: Annotated[MethodOptions, BeforeValidator(read_method), PlainSerializer(write_method)] = ClanOptions()
    """The adaptation method and its own options."""
    source: DomainConfig
    """The labelled domain."""
    target: DomainConfig
    """The unlabelled domain."""
    classes: Annotated[Classes, BeforeValidator(_merged), PlainSerializer(_shortened_classes)] = CITYSCAPES_CLASSES
    """The classes that both share: cityscapes, synthia-16, synthia-13, or a file of named merges."""
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
    num_workers: Annotated[int, Field(ge=0, le=256)] = 4
    """Threads that prepare samples; 0: in the main one."""
    data_timeout: Annotated[float, Field(gt=0, le=1e9)] = 300.0
    """Seconds to wait for a sample before the run ends."""
    tolerate_bad_samples: NonNegativeInt = 0
    """Samples that may turn out unreadable; each is recorded, and others take its place."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What to do when a loss or a gradient is not finite: end the run, or count it and leave that step out."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1234
    """Seed of the order, the augmentation and the initial weights."""
    snapshot_dir: Path = Path("snapshots")
    """Folder of everything the run writes."""
    save_every: PositiveInt = 2000
    """Iterations between snapshots."""
    keep_last: PositiveInt = 2
    """States to resume from that are kept."""
    save_images: NonNegativeInt = 2
    """Colour masks of target images saved with each snapshot."""
    validate_every: NonNegativeInt = 0
    """Iterations between validations on labels of the target; the best snapshot is kept. 0: none."""
    validation_split: str = "val"
    """Split of the target to validate on."""
    validation_images: NonNegativeInt = 0
    """Images to validate on, evenly spread over the split; 0: all."""
    loggers: tuple[LoggerName, ...] = ("tensorboard",)
    """Programs to log to, beside the run's own records."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to compute; auto: the GPU if this Paddle has one."""
    gpu: NonNegativeInt = 0
    """Index of the GPU among the visible ones; under Paddle's launcher each process has its own."""
    precision: Precision = "fp32"
    """What convolutions and matrix products compute in on a GPU; fp16 scales its losses."""
    sync_batch_norm: bool = False
    """Normalise by the statistics of all processes' batches together, on GPUs; otherwise each by its own."""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, values: Any) -> Any:
        return move_options(values)

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.stop > self.num_steps:
            raise ValueError(f"num_steps_stop {self.stop} lies beyond num_steps {self.num_steps}")
        if self.warmup > self.num_steps:
            raise ValueError(f"warmup_steps {self.warmup} lies beyond num_steps {self.num_steps}")
        if self.sync_batch_norm and self.network.batch_norm == "frozen":
            raise ValueError("sync_batch_norm has nothing to do while network.batch_norm is frozen: drop one of them")
        self._check_pixels()
        self._check_crop()
        try:
            self.classes.require_count(self.network.num_classes)
        except ConfigError as error:
            raise ValueError(f"network.num_classes: {error}") from None
        return self

    @property
    def is_official_network(self) -> bool:
        """Whether the official code says how often a step updates each parameter: of its ResNets, with SGD."""
        return self.network.backbone.startswith("resnet") and self.optimizer.algorithm == "sgd"

    @property
    def repeated_updates(self) -> bool:
        """Whether updates repeat, as chosen or as suits the network."""
        chosen = self.optimizer.repeated_updates
        return self.is_official_network if chosen is None else chosen

    def options(self) -> dict[str, Any]:
        """Every option by its whole name, such as "loss.gamma", as `config.yaml` has it; none is left open."""
        return dict(flat_options(self.model_dump(mode="json"))) | {"optimizer.repeated_updates": self.repeated_updates}

    def _check_pixels(self) -> None:
        """Refuses iterations that no machine holds, before anything of their size is made."""
        scales = self.augmentation.scales if self.augmentation.random_scale else ()
        scale = max((ratio for ratio, _ in scales), default=1)
        for name, domain in (("source", self.source), ("target", self.target)):
            width, height = domain.size
            pixels = self.batch_size * self.iter_size * width * height * scale * scale
            if pixels > MOST_PIXELS:
                raise ValueError(
                    f"an iteration would take {pixels:.3g} pixels of the {name}, over the limit of {MOST_PIXELS:.3g}: "
                    "lower batch_size, iter_size, the size or the largest of the scales"
                )

    def _check_crop(self) -> None:
        """Refuses crops that some image is too small for, or whose image and label would not be of one place."""
        augmentation = self.augmentation
        crop = augmentation.crop_size
        if crop is None:
            if augmentation.crop_class_share < 1:
                raise ValueError("augmentation.crop_class_share has nothing to do without augmentation.crop_size")
            return
        if augmentation.random_scale and not augmentation.scale_labels:
            raise ValueError(
                "augmentation.crop_size cuts image and label at one place, and random_scale resizes images alone: turn "
                "augmentation.scale_labels on or augmentation.random_scale off"
            )
        scale = min(ratio for ratio, _ in augmentation.scales) if augmentation.random_scale else 1.0
        for name, domain in (("source", self.source), ("target", self.target)):
            smallest = tuple(int(side * scale) for side in domain.size)
            if any(part > whole for part, whole in zip(crop, smallest, strict=True)):
                raise ValueError(
                    f"augmentation.crop_size {crop[0]}×{crop[1]} is larger than {name} images can be, "
                    f"{smallest[0]}×{smallest[1]}: make it smaller, or {name}.size larger"
                )

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
    from clan.core.yaml_file import to_yaml_text  # here: --help writes no file

    return to_yaml_text(config.model_dump(mode="json"))


def load(path: Path) -> Config:
    """Reads a `config.yaml`.

    Raises:
        ConfigError: the file is missing, is not YAML, or a value does not fit; the message names the line.
    """
    return load_section(Config, path)


def flat_options(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every option with its whole name, such as "loss.gamma"."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat_options(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
