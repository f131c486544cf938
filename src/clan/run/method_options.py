"""What each adaptation method lets one choose: one section per method, which names the method too.

The class in `clan.methods` that computes a method refers to its section here. The sections lie apart from it because
reading a configuration needs no Paddle.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, SerializationInfo

from clan.core.errors import ConfigError
from clan.core.schema import Fraction, Section, refuse, validate_within


class MethodOptions(Section):
    """Options of the adaptation method; which ones there are depends on the method."""

    name: ClassVar[str]
    """What `--method` and `method.name` call it."""


class SourceOnlyOptions(MethodOptions):
    """No adaptation: training on the source alone."""

    name = "source-only"


class OracleOptions(MethodOptions):
    """Supervised training on the target's own labels."""

    name = "oracle"


class FadingOptions(MethodOptions):
    """What methods share whose losses on the target can fade."""

    damping: bool = True
    """Let all losses but the segmentation loss fade linearly to 0 over the run."""


class AdaptSegNetOptions(FadingOptions):
    """AdaptSegNet at one level: adversarial alignment of class probabilities."""

    name = "adaptsegnet-single"

    lambda_adv: NonNegativeFloat = 0.001
    """Weight of the adversarial loss."""


class AdaptSegNetMultiOptions(AdaptSegNetOptions):
    """AdaptSegNet at two levels: a second discriminator for an auxiliary head."""

    name = "adaptsegnet-multi"

    lambda_adv_aux: NonNegativeFloat = 0.0002
    """Weight of the adversarial loss of the auxiliary output."""
    lambda_seg_aux: NonNegativeFloat = 0.1
    """Weight of the segmentation loss of the auxiliary output."""


class AdvEntOptions(AdaptSegNetOptions):
    """AdvEnt: adversarial alignment of the entropy of predictions."""

    name = "advent"


class MinEntOptions(FadingOptions):
    """MinEnt: the entropy of the target's predictions is minimised directly."""

    name = "minent"

    lambda_entropy: NonNegativeFloat = 0.001
    """Weight of the target's entropy."""


class ClanOptions(FadingOptions):
    """CLAN: category-level adversarial alignment; docs/method.md has the formulas."""

    name = "clan"

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
    lambda_self: NonNegativeFloat = 0.0
    """Weight of the segmentation loss on the target with labels from the network's own surest predictions."""
    self_training_start: Fraction = 0.5
    """Share of the run after which that loss sets in."""
    self_training_share: Fraction = 0.5
    """Share of the pixels of each predicted class that get such a label."""


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
    )
}
"""The options of every method, by its name."""

MOVED = frozenset(
    {"lambda_adv", "lambda_adv_aux", "lambda_seg_aux", "lambda_entropy", "lambda_weight", "weight_multiplier"}
    | {"epsilon", "lambda_local", "damping", "lambda_self", "self_training_start", "self_training_share"}
)
"""Options that the section `loss` had for all methods together, until each method got its own."""


def read_method(value: Any) -> Any:
    """The options that a method's name, or a mapping with `name` and options, stands for."""
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
    """What `read_method` reads."""
    return {"name": options.name, **options.model_dump(mode=info.mode)}


def switched(options: MethodOptions, name: str) -> MethodOptions:
    """The options of another method, with what both have in common kept."""
    other = METHOD_OPTIONS[name]
    return other(**{field: value for field, value in options if field in other.model_fields})


def move_options(values: Any) -> Any:
    """The values of a configuration in which options of the method may still stand under `loss`, each at its place.

    What does not belong to the method acted on nothing and is left out.
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
    """Arguments as the parser knows them: options of the method under its own section, not `loss` as formerly.

    Raises:
        ConfigError: an option is of another method.
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
