"""What makes a run fit into a memory or a time: changed configurations, each of them predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clan.core.errors import ClanError, ConfigError
from clan.run.config import Config
from clan.training.plan import Estimate
from clan.training.probe import image_scales, pixels

MARGIN = 0.95
"""Share of a limit that a crop is chosen for, since the model is not exact."""

SMALLEST_CROP = 64

Change = dict[str, Any]
"""New values by full name, such as "augmentation.crop_size"."""


@dataclass(frozen=True)
class Limits:
    """What a run has to fit into.

    Args:
        memory: bytes of the device; None: any.
        hours: of the run; None: any.
    """

    memory: float | None = None
    hours: float | None = None

    def hold(self, estimate: Estimate, share: float = 1.0) -> bool:
        """Returns whether a run is known to fit, with a share of its pixels."""

        def within(value: float | None, limit: float | None) -> bool:
            return limit is None or (value is not None and value <= limit)

        return within(estimate.memory(share=share), self.memory) and within(estimate.hours(share), self.hours)


@dataclass(frozen=True)
class Changed:
    """A changed configuration.

    Args:
        flags: what to give to `clan train` besides.
        estimate: what it takes; None: it could not be measured.
        trouble: why not.
    """

    flags: str
    estimate: Estimate | None
    trouble: str = ""

    def fits(self, limits: Limits) -> bool:
        """Returns whether it fits."""
        return self.estimate is not None and limits.hold(self.estimate)


def proposals(first: Estimate, limits: Limits, predict: Callable[[Config], Estimate]) -> Iterator[Changed]:
    """Yields changes of a run that does not fit: each by itself, then, where none fits, all together and a crop.

    Args:
        first: the run as it is.
        limits: what it has to fit into.
        predict: measures a configuration.
    """
    config, together, fitted = first.config, Change(), False
    for change in single_changes(config, first.facts):
        made = _proposal(config, change, predict)
        if made is None:
            continue
        together |= change
        fitted |= made.fits(limits)
        yield made
    if (made := _cropped(first, {}, limits, predict)) is not None:
        fitted |= made.fits(limits)
        yield made
    if fitted or len(together) < 2:
        return
    combined = _proposal(config, together, predict)
    if combined is None:
        return
    yield combined
    if not combined.fits(limits) and combined.estimate is not None:
        last = _cropped(combined.estimate, together, limits, predict)
        if last is not None:
            yield last


def single_changes(config: Config, facts: Mapping[str, Any]) -> Iterator[Change]:
    """Yields accumulation, precision and output stride, where they change something."""
    if config.batch_size > 1:
        yield {"batch_size": 1, "iter_size": config.batch_size * config.iter_size}
    if config.precision in ("fp32", "tf32") and facts["bf16"]:
        yield {"precision": "bf16"}
    if config.network.stride == 8:
        yield {"network.output_stride": 16}


def changed(config: Config, change: Change) -> Config | None:
    """Returns the configuration with new values; None: they do not suit the others."""
    try:
        return config.changed(**change)
    except ConfigError:
        return None


def flags_of(change: Change) -> str:
    """Formats new values as flags of `clan train`."""
    words = []
    for name, value in change.items():
        section, dot, field = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            words.append(f"--{section}{dot}{'' if value else 'no-'}{field}")
        else:
            words.append(
                f"--{section}{dot}{field} " + " ".join(map(str, value if isinstance(value, tuple) else [value]))
            )
    return " ".join(words)


def _proposal(
    config: Config,
    change: Change,
    predict: Callable[[Config], Estimate],
    before: Change | None = None,
) -> Changed | None:
    """Predicts a change, which its flags tell with those `before`; None: it does not suit the configuration."""
    if (other := changed(config, change)) is None:
        return None
    flags = flags_of({**(before or {}), **change})
    try:
        return Changed(flags, predict(other))
    except ClanError as error:
        return Changed(flags, None, str(error))


def _cropped(
    estimate: Estimate, change: Change, limits: Limits, predict: Callable[[Config], Estimate]
) -> Changed | None:
    """Predicts the largest crop that fits by the model of an estimate, with a change before; None: there is none."""
    config = estimate.config
    if (wanted := _pixels_that_fit(estimate, limits)) is None:
        return None
    augmentation = config.augmentation
    smallest = min(ratio for ratio, _ in augmentation.scales) if augmentation.random_scale else 1.0
    most = augmentation.crop_size or tuple(
        int(min(sides) * smallest) for sides in zip(config.source.size, config.target.size, strict=True)
    )
    side = (wanted / (2 * config.batch_size * most[0] * most[1])) ** 0.5
    crop = tuple(int(length * min(side, 1.0)) // 8 * 8 for length in most)
    if min(crop) < SMALLEST_CROP or crop == augmentation.crop_size:
        return None
    more: Change = {"augmentation.crop_size": crop}
    if augmentation.random_scale and not augmentation.scale_labels:
        more["augmentation.scale_labels"] = True
    return _proposal(config, more, predict, change)


def _pixels_that_fit(estimate: Estimate, limits: Limits) -> float | None:
    """Returns the pixels of a pass at which an estimate would be within limits; None: none is."""
    fitting = []
    # Memory is that of the largest scale, time that of the usual one; a crop has but one size.
    for limit, scale in zip(
        (Limits(memory=limits.memory), Limits(hours=limits.hours)), image_scales(estimate.config), strict=True
    ):
        tighter = Limits(limit.memory and MARGIN * limit.memory, limit.hours and MARGIN * limit.hours)
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if tighter.hold(estimate, middle) else (low, middle)
        fitting.append(low * pixels(estimate.config, scale))
    return min(fitting) if min(fitting) > 1 else None
