"""Options of the adaptation methods: one section per method.

The method's class in `clan.methods` refers to its section. Sections are separate so that reading a configuration does
not import Paddle.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, SerializationInfo

from clan.core.errors import ConfigError
from clan.core.schema import Fraction, NonNegativeInt, PositiveInt, Section, refuse, validate_within


class MethodOptions(Section):
    """Base of a method's options."""

    name: ClassVar[str]
    """Name of the method for `--method` and `method.name`."""

    def complaint(self, config: Any) -> str | None:
        """Returns what of a `Config` does not suit the method, in a sentence with the remedy, if anything."""

    def remarks(self, config: Any) -> list[str]:
        """Returns what of a `Config` acts, but hardly as one may expect of the method, a sentence each."""
        return []


class SourceOnlyOptions(MethodOptions):
    """No adaptation: training on the source alone."""

    name = "source-only"


class OracleOptions(MethodOptions):
    """Supervised training on the target's own labels."""

    name = "oracle"


class FadingOptions(MethodOptions):
    """Options of methods with damped target losses."""

    damping: bool = True
    """Reduce the weight of all losses but the segmentation loss linearly to 0 over the run."""


class AdaptSegNetOptions(FadingOptions):
    """AdaptSegNet, single level: adversarial alignment of class probabilities."""

    name = "adaptsegnet-single"

    lambda_adv: NonNegativeFloat = 0.001
    """Weight of the adversarial loss."""


class AdaptSegNetMultiOptions(AdaptSegNetOptions):
    """AdaptSegNet, multi-level: a second discriminator for an auxiliary head."""

    name = "adaptsegnet-multi"

    lambda_adv_aux: NonNegativeFloat = 0.0002
    """Weight of the auxiliary head's adversarial loss."""
    lambda_seg_aux: NonNegativeFloat = 0.1
    """Weight of the auxiliary head's segmentation loss."""


class AdvEntOptions(AdaptSegNetOptions):
    """AdvEnt: adversarial alignment of prediction entropy."""

    name = "advent"


class MinEntOptions(FadingOptions):
    """MinEnt: direct minimisation of the target's prediction entropy."""

    name = "minent"

    lambda_entropy: NonNegativeFloat = 0.001
    """Weight of the target's entropy."""


class ClanOptions(FadingOptions):
    """CLAN: category-level adversarial alignment; formulas in docs/method.md."""

    name = "clan"

    lambda_adv: NonNegativeFloat = 0.001
    """Weight of the adversarial loss."""
    lambda_weight: NonNegativeFloat = 0.01
    """Weight of the heads' weight divergence."""
    weight_multiplier: NonNegativeFloat = 2.0
    """Additional factor on the weight divergence: 2 in the official code, 1 in the paper."""
    epsilon: NonNegativeFloat = 0.4
    """Floor ε of the adaptive adversarial weight."""
    lambda_local: NonNegativeFloat = 10.0
    """Weight of the discrepancy map in the adaptive adversarial weight."""
    lambda_self: NonNegativeFloat = 0.0
    """Weight of the segmentation loss on the target with pseudo-labels; 0 disables."""
    self_training_start: Fraction = 0.5
    """Share of the run after which self-training starts."""
    self_training_share: Fraction = 0.5
    """Share of the pixels of each predicted class, by confidence, that get a pseudo-label."""

    def remarks(self, config: Any) -> list[str]:
        """Warns of a focal loss of pseudo-labels."""
        return focal_remarks(config) if self.lambda_self else []


class SelfTrainingOptions(MethodOptions):
    """Options of methods with a teacher whose predictions label the target."""

    export: Literal["student", "teacher"] = "student"
    """Network that is validated and saved as weights."""
    validate_both: bool = True
    """Validate the other network too, which takes as long again; it decides nothing."""
    teacher_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Largest decay α of the teacher, an average of the student's weights."""
    confidence: Fraction = 0.968
    """Threshold τ: pseudo-labels weigh as much as the share of pixels with at least this probability."""
    ignore_top: NonNegativeInt = 0
    """Uppermost rows of target images whose pseudo-labels have no weight."""
    ignore_bottom: NonNegativeInt = 0
    """Lowest rows of target images whose pseudo-labels have no weight, such as those of the car's bonnet."""
    color_jitter: Annotated[float, Field(ge=0.0, le=0.5)] = 0.2
    """Largest change of brightness, contrast, saturation and hue of mixed images; 0 disables."""
    blur: bool = True
    """Blur the mixed images of half of all iterations, drawn at random."""

    def remarks(self, config: Any) -> list[str]:
        """Warns of a focal loss of pseudo-labels, and of rows that are left out as in Cityscapes."""
        return [*focal_remarks(config), *self._row_remarks(config)]

    def _row_remarks(self, config: Any) -> list[str]:
        if not self.ignore_top + self.ignore_bottom or config.target.dataset.name == "cityscapes":
            return []
        return [
            f"pseudo-labels of the {self.ignore_top} uppermost and {self.ignore_bottom} lowest rows have no weight, as "
            f"the presets have it for Cityscapes' rectification and bonnet: unless {config.target.dataset.name} shows "
            "the like, use all rows (--method.ignore-top 0 --method.ignore-bottom 0)"
        ]

    def complaint(self, config: Any) -> str | None:
        """Refuses domains whose images cannot be mixed, and images of which no row is left."""
        if config.augmentation.crop_size is None and config.source.size != config.target.size:
            sizes = " and ".join(f"{width}×{height}" for width, height in (config.source.size, config.target.size))
            return (
                f"method {self.name} mixes images of source and target, which are {sizes}: make source.size and "
                "target.size equal, or cut both to augmentation.crop_size"
            )
        height = (config.augmentation.crop_size or config.target.size)[1]
        if self.ignore_top + self.ignore_bottom >= height:
            return (
                f"method.ignore_top {self.ignore_top} and method.ignore_bottom {self.ignore_bottom} leave none of the "
                f"{height} rows of the target's images: lower them"
            )
        return None


class DacsOptions(SelfTrainingOptions):
    """DACS: pseudo-labels of a teacher, on mixtures of both domains."""

    name = "dacs"

    teacher_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    """Largest decay α of the teacher, an average of the student's weights."""
    color_jitter: Annotated[float, Field(ge=0.0, le=0.5)] = 0.25
    """Largest change of brightness, contrast, saturation and hue of mixed images; 0 disables."""


class DaformerOptions(SelfTrainingOptions):
    """DAFormer: DACS, with features held to those of the initial weights."""

    name = "daformer"

    lambda_fd: NonNegativeFloat = 0.005
    """Weight of the distance of features from those of the initial weights; 0 disables."""
    things: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Classes on which features are compared; none: those named light, sign, person, rider or as a vehicle."""
    thing_share: Annotated[float, Field(gt=0.5, le=1.0)] = 0.75
    """Share of a feature's pixels that must be of one of these classes."""

    def complaint(self, config: Any) -> str | None:
        """Refuses names of things that are no classes, and to compare features where no class is a thing."""
        known = config.classes.owners
        for name in self.things:
            if name not in known:
                return f"method.things has {name!r}, which is none of the classes: {', '.join(config.classes.classes)}"
        if self.lambda_fd and not self.thing_ids(known):
            return (
                f"method {self.name} compares features on things, and none of the classes has the name of one: list "
                "those with method.things, or turn the comparison off (--method.lambda-fd 0)"
            )
        return super().complaint(config)

    def thing_ids(self, owners: Mapping[str, int]) -> list[int]:
        """Returns the trainIds of `things`, given those of all names; of several names of a class, once."""
        return sorted({owners[name] for name in (self.things or THINGS) if name in owners})


class MicOptions(DaformerOptions):
    """MIC: DAFormer, and the target's pseudo-labels for images with masked blocks."""

    name = "mic"

    lambda_mask: NonNegativeFloat = 1.0
    """Weight λ_k of the loss on masked images."""
    mask_ratio: Fraction = 0.7
    """Share of blocks that are masked."""
    mask_block: PositiveInt = 32
    """Side b of a block in pixels."""

    def complaint(self, config: Any) -> str | None:
        """Refuses blocks of which not even half fits into an image."""
        size = config.augmentation.crop_size or config.target.size
        if round(min(size) / self.mask_block) < 1:
            return (
                f"method.mask_block {self.mask_block} is too large for images of {size[0]}×{size[1]}: make it at most "
                f"{min(size)}"
            )
        return super().complaint(config)


class VfmOptions(SelfTrainingOptions):
    """VFM-UDA: pseudo-labels of a teacher, for mixtures and for images of which most patches are masked."""

    name = "vfm"

    domain_jitter: bool = True
    """Change the colours of source images, and of target images before they are mixed."""
    mask_ratio: Fraction = 0.7
    """Share of patches that are masked; 0 leaves the loss on masked images out."""
    mask_block: PositiveInt = 64
    """Side in pixels of masked blocks, for backbones that have no mask token."""


THINGS = (
    *("light", "traffic light", "sign", "traffic sign", "person", "pedestrian", "rider", "bicyclist", "car", "truck"),
    *("bus", "train", "motorcycle", "motorbike", "bicycle"),
)
"""Names of the classes that DAFormer compares features on, as data sets call them."""

METHOD_OPTIONS: dict[str, type[MethodOptions]] = {
    options.name: options
    for options in (
        ClanOptions,
        SourceOnlyOptions,
        AdaptSegNetOptions,
        AdaptSegNetMultiOptions,
        MinEntOptions,
        AdvEntOptions,
        OracleOptions,
        DacsOptions,
        DaformerOptions,
        MicOptions,
        VfmOptions,
    )
}
"""Options class of every method, by name."""


def focal_remarks(config: Any) -> list[str]:
    """Returns a sentence about the focal loss of pseudo-labels; none for cross entropy."""
    if not config.loss.gamma:
        return []
    return [
        f"loss.gamma {config.loss.gamma:g} makes the losses of pseudo-labels focal too, which nearly vanish where "
        f"predictions are sure; {config.method.name} is meant with cross entropy (--loss.gamma 0)"
    ]


MOVED = frozenset(
    {"lambda_adv", "lambda_adv_aux", "lambda_seg_aux", "lambda_entropy", "lambda_weight", "weight_multiplier"}
    | {"epsilon", "lambda_local", "damping", "lambda_self", "self_training_start", "self_training_share"}
)
"""Options that older versions had in the section `loss`."""


def read_method(value: Any) -> Any:
    """Validates a method's name, or a mapping of `name` and options, as that method's options."""
    if isinstance(value, MethodOptions):
        return value
    values = {"name": value} if isinstance(value, str) else value
    if not isinstance(values, Mapping):
        refuse(f"expected a method's name, or its name and options, got {value!r}")
    options = dict(values)
    name = options.pop("name", ClanOptions.name)
    if name not in METHOD_OPTIONS:
        refuse(f"expected {', '.join(METHOD_OPTIONS)}, got {name!r}")
    return validate_within(METHOD_OPTIONS[name], options)


def write_method(options: MethodOptions, info: SerializationInfo) -> dict[str, Any]:
    """Serialises a method's options for `read_method`."""
    return {"name": options.name, **options.model_dump(mode=info.mode)}


def switched(options: MethodOptions, name: str) -> MethodOptions:
    """Returns the options of method `name`; options that both methods have keep their values."""
    other = METHOD_OPTIONS[name]
    return other(**{field: value for field, value in options if field in other.model_fields})


def move_options(values: Any) -> Any:
    """Moves method options of older configurations from `loss` to `method`.

    Options of other methods had no effect and are dropped.
    """
    loss = values.get("loss") if isinstance(values, Mapping) else None
    if not isinstance(loss, Mapping) or not (moved := [name for name in loss if name in MOVED]):
        return values
    method = values.get("method", ClanOptions.name)
    if not isinstance(method, str):
        refuse(f"it is an option of the method: write method.{moved[0]}", "loss", moved[0])
    known = METHOD_OPTIONS[method].model_fields if method in METHOD_OPTIONS else ()
    return {
        **values,
        "method": {"name": method, **{name: loss[name] for name in moved if name in known}},
        "loss": {name: value for name, value in loss.items() if name not in MOVED},
    }


def known_flags(arguments: Sequence[str], method: MethodOptions) -> list[str]:
    """Rewrites former flags `--loss.OPTION` of a method's options to `--method.OPTION`.

    Raises:
        ConfigError: an option belongs to another method.
    """
    words = []
    for word in arguments:
        found = re.fullmatch(r"--(loss|method)\.((?:no-)?)([\w-]+)(.*)", word, re.DOTALL)
        option = found[3].replace("-", "_") if found else ""
        if found and option in type(method).model_fields:
            word = f"--method.{found[2]}{found[3]}{found[4]}"
        elif found and (found[1] == "method" or option in MOVED):
            owners = [name for name, options in METHOD_OPTIONS.items() if option in options.model_fields]
            if owners:
                raise ConfigError(
                    f"--{found[1]}.{found[3]} is an option of {', '.join(owners)}, not of {method.name}: leave it out"
                )
        words.append(word)
    return words
