"""The configuration of a run: an immutable, validated value, saved as `config.yaml` beside the results.

Defaults are those of the `official` preset (docs/method.md); `clan.run.presets` has the other presets. Every field is a
flag of `clan train` and a key of `config.yaml`.
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
"""Optimizer classes by name."""

SAMPLINGS = {"uniform": "clan.data.sampling:uniform", "rare-class": "clan.data.rare_class:RareClass"}
"""Sampling strategies by name: functions of a data set, two seeds and the configuration."""

LOGGERS = {
    "tensorboard": "clan.training.loggers:TensorBoard",
    "visualdl": "clan.training.loggers:VisualDL",
    "wandb": "clan.training.loggers:WandB",
}
"""Loggers by name; each writes into a folder of that name in the run's folder."""

Schedule = Annotated[str, OneOf(SCHEDULES)]
Algorithm = Annotated[str, OneOf(OPTIMIZERS)]
SamplingName = Annotated[str, OneOf(SAMPLINGS)]
LoggerName = Annotated[str, OneOf(LOGGERS)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]

MOST_PIXELS = 2**28
"""Limit per domain and iteration: 3 GB as float32, and ten times that in the network."""


def _described(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in PACKAGED:
        refuse(f"expected {', '.join(PACKAGED)} or a description, got {value!r}")
    return packaged(value)


def _shortened(description: Description) -> str | dict[str, Any]:
    """Serialises a packaged description as its name, others in full, so that `config.yaml` needs no other file."""
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


class RareClassConfig(Section):
    """Options of sampling rare-class."""

    temperature: Annotated[float, Field(ge=1e-6)] = 0.01
    """Temperature T of the softmax that classes are drawn by; the smaller, the more often the rarest."""
    pixels: NonNegativeFloat = 3000.0
    """Pixels of its class, at the training size, that a drawn image must exceed; for crops of 512×512, in proportion to
    the area for others."""
    crop_share: NonNegativeFloat = 0.5
    """Share of these pixels that a crop must exceed, or is drawn again, at most ten times; 0: any pixel will do."""


class DomainConfig(Section):
    """A data set: its folder, and the size of the network's input."""

    dataset: Annotated[Description, BeforeValidator(_described), PlainSerializer(_shortened)]
    """Layout and labels of the data set: synthia, gta5, cityscapes or a description file."""
    root: Path
    """Folder of the data set."""
    list_file: Path | None = None
    """Text file with one image name per line; none: all images of the folder, sorted."""
    split: str = "train"
    """Split to use, if the data set has splits."""
    size: Size
    """Width and height in pixels that images and labels are resized to."""
    sampling: SamplingName = "uniform"
    """Sampling strategy of images.

    uniform: every image once per epoch.
    rare-class: draws a class, rare ones more often, then an image with enough of it; needs labels.
    """
    rare_class: RareClassConfig = RareClassConfig()


class AugmentationConfig(Section):
    """Random changes to training samples."""

    random_scale: bool = True
    """Resize images by a ratio drawn from `scales`; labels too with `scale_labels`."""
    scales: tuple[tuple[Annotated[float, Field(gt=0)], Fraction], ...] = ((0.8, 0.3), (1.0, 0.4), (1.1, 0.3))
    """Pairs of ratio and probability; the probabilities sum to 1."""
    scale_labels: bool = False
    """Resize labels with their images; otherwise labels keep the base size, and logits are resized to them."""
    crop_size: Size | None = None
    """Width and height in pixels of random crops of image and label; none: no cropping."""
    crop_class_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Redraw source crops, at most ten times, in which one class has at least this share of pixels; 1: never."""
    random_mirror: bool = True
    """Mirror image and label together with probability 0.5."""
    color_jitter: Fraction = 0.0
    """Scale brightness, contrast and saturation of both domains' images by factors drawn from 1 ± this; 0 disables."""
    style: Literal["none", "statistics", "amplitude"] = "none"
    """Transfer the style of the paired target image to each source image.

    statistics: mean and standard deviation per channel.
    amplitude: Fourier amplitudes of low frequencies (FDA, CVPR 2020).
    """
    style_extent: Fraction = 0.01
    """For style amplitude: bound of the low frequencies as a share of the shorter side."""

    @model_validator(mode="after")
    def _probabilities_sum_to_one(self) -> "AugmentationConfig":
        total = sum(probability for _, probability in self.scales)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"the probabilities of scales sum to {total:g}, not to 1")
        return self


class LossConfig(Section):
    """The segmentation loss of all methods; formula in docs/method.md."""

    gamma: NonNegativeFloat = 2.0
    """Focusing exponent γ of the segmentation loss; 0 is cross entropy."""
    class_weighting: Literal["none", "median-frequency", "sqrt-inverse"] = "none"
    """Class weights of the segmentation loss: none, median frequency / frequency, or 1 / square root of frequency."""


class OptimizerConfig(Section):
    """The optimizers of segmenter and discriminator."""

    algorithm: Algorithm = "sgd"
    """Optimizer of the segmenter; adamw decouples weight decay from the gradient."""
    learning_rate: NonNegativeFloat = 2.5e-4
    """Base learning rate of the segmenter."""
    head_multiplier: NonNegativeFloat = 10.0
    """Factor on the heads' learning rate."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """β₁ and β₂ of Adam and AdamW for the segmenter."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 decay of the segmenter."""
    no_decay: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """No weight decay for backbone parameters whose name contains one of these, such as norm."""
    repeated_updates: bool | None = None
    """Update each backbone tensor once per enclosing module, as the official code does; none: for ResNets with sgd."""
    schedule: Schedule = "warmup-poly"
    """Learning rate schedule of the segmenter."""
    warmup_ratio: Fraction = 1e-6
    """For schedules warmup-linear and warmup-then-linear: initial rate as a share of the base rate."""
    discriminator_algorithm: Algorithm = "adam"
    """Optimizer of the discriminator."""
    discriminator_betas: tuple[Beta, Beta] = (0.9, 0.99)
    """β₁ and β₂ of Adam and AdamW for the discriminator."""
    discriminator_learning_rate: NonNegativeFloat = 1e-4
    """Base learning rate of the discriminator."""
    discriminator_weight_decay: NonNegativeFloat = 0.0
    """L2 decay of the discriminator."""
    discriminator_schedule: Schedule = "warmup-poly"
    """Learning rate schedule of the discriminator."""
    power: NonNegativeFloat = 0.9
    """Exponent of the polynomial decay."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """EMA decay of the saved segmenter weights; 0 disables."""


class Config(Section):
    """A whole training run."""

    method: Annotated[MethodOptions, BeforeValidator(read_method), PlainSerializer(write_method)] = ClanOptions()
    """The adaptation method and its options."""
    source: DomainConfig
    """The labelled domain."""
    target: DomainConfig
    """The unlabelled domain."""
    classes: Annotated[Classes, BeforeValidator(_merged), PlainSerializer(_shortened_classes)] = CITYSCAPES_CLASSES
    """Classes to train: cityscapes, synthia-16, synthia-13, or a file of named merges."""
    target_labels: Path | None = None
    """Text file of target images, one per line, whose labels are learnt beside the method; none: no target labels."""
    target_labels_every: PositiveInt = 1
    """With `target_labels`: iterations from one batch of these images to the next."""
    target_labels_weight: NonNegativeFloat = 1.0
    """With `target_labels`: weight of their segmentation loss."""
    augmentation: AugmentationConfig = AugmentationConfig()
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    num_steps: PositiveInt = 100_000
    """Number of iterations N of schedules and damping."""
    num_steps_stop: PositiveInt | None = None
    """Iteration to stop at; none: `num_steps`."""
    warmup_steps: NonNegativeInt | None = None
    """Warm-up iterations of learning rates and of the adaptive weight; none: `num_steps` / 20."""
    batch_size: PositiveInt = 1
    """Images of each domain per forward pass."""
    iter_size: PositiveInt = 1
    """Forward passes whose gradients are averaged into one step."""
    ignore_label: Annotated[int, Field(ge=0, le=255)] = 255
    """The trainId that all losses ignore."""
    shuffle: bool = True
    """For sampling uniform: draw samples in random order; otherwise in the order of the list."""
    num_workers: Annotated[int, Field(ge=0, le=256)] = 4
    """Threads that prepare samples; 0: the main thread."""
    data_timeout: Annotated[float, Field(gt=0, le=1e9)] = 300.0
    """Seconds to wait for a sample before the run ends."""
    tolerate_bad_samples: NonNegativeInt = 0
    """Number of unreadable samples to skip before the run ends; each is recorded and replaced."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """If a loss or gradient is not finite: stop the run, or count and skip that step."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1234
    """Random seed of sample order, augmentation and initial weights."""
    snapshot_dir: Path = Path("snapshots")
    """Output folder of the run."""
    save_every: PositiveInt = 2000
    """Iterations between snapshots."""
    keep_last: PositiveInt = 2
    """Number of states to keep."""
    save_images: NonNegativeInt = 2
    """Number of target images whose colour masks are saved with each snapshot."""
    validate_every: NonNegativeInt = 0
    """Iterations between validations on target labels; the best snapshot is kept. 0 disables."""
    validation_split: str = "val"
    """Split of the target to validate on."""
    validation_images: NonNegativeInt = 0
    """Number of validation images, evenly spread over the split; 0: all."""
    select_without_labels: bool = False
    """Compute at each snapshot, on target images without labels, the criteria of `clan select`."""
    loggers: tuple[LoggerName, ...] = ("tensorboard",)
    """Loggers besides the run's own records."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Device; auto: the GPU if Paddle finds one."""
    gpu: NonNegativeInt = 0
    """Index among the visible GPUs; Paddle's launcher gives each process its own."""
    precision: Precision = "fp32"
    """Precision of convolutions and matrix products on a GPU; fp16 uses loss scaling."""
    autotune: bool = False
    """On a GPU, let Paddle try kernels and layouts in the first iterations; runs may then differ by rounding."""
    sync_batch_norm: bool = False
    """On GPUs, compute batch-norm statistics over the batches of all processes."""

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
        if complaint := self.method.complaint(self):
            raise ValueError(complaint)
        try:
            self.classes.require_count(self.network.num_classes)
        except ConfigError as error:
            raise ValueError(f"network.num_classes: {error}") from None
        return self

    @property
    def is_official_network(self) -> bool:
        """Whether the official code defines how often a step updates each parameter: ResNets with SGD."""
        return self.network.backbone.startswith("resnet") and self.optimizer.algorithm == "sgd"

    @property
    def repeated_updates(self) -> bool:
        """`optimizer.repeated_updates`, by default `is_official_network`."""
        chosen = self.optimizer.repeated_updates
        return self.is_official_network if chosen is None else chosen

    def options(self) -> dict[str, Any]:
        """Returns every option by its full name, such as "loss.gamma", as in `config.yaml`, defaults resolved."""
        resolved = {"optimizer.repeated_updates": self.repeated_updates, "network.output_stride": self.network.stride}
        return dict(flat_options(self.model_dump(mode="json"))) | resolved

    def _check_pixels(self) -> None:
        """Refuses iterations of more than `MOST_PIXELS`, before memory is allocated."""
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
        """Refuses crops larger than an image, and crops whose image and label are scaled differently."""
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
        """The iteration before which the run ends."""
        return self.num_steps if self.num_steps_stop is None else self.num_steps_stop

    @property
    def warmup(self) -> int:
        """Number of warm-up iterations."""
        return self.num_steps // 20 if self.warmup_steps is None else self.warmup_steps


def to_yaml(config: Config) -> str:
    """Formats the complete configuration as YAML, readable by `load`."""
    from clan.core.yaml_file import to_yaml_text  # slow import; --help needs none

    return to_yaml_text(config.model_dump(mode="json"))


def load(path: Path) -> Config:
    """Reads a `config.yaml`.

    Raises:
        ConfigError: the file is missing or not YAML, or a value is invalid; the message names the line.
    """
    return load_section(Config, path)


def flat_options(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every option with its full name, such as "loss.gamma"."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat_options(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
