"""Learning rate schedules as pure functions of the iteration."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ScheduleOptions:
    """Options of all schedules of a run.

    Args:
        total: number of iterations N.
        warmup: number of warm-up iterations w.
        power: exponent of the polynomial decay.
        warmup_ratio: initial rate of "warmup-linear" and "warmup-then-linear" as a share r of the base rate.
    """

    total: int
    warmup: int
    power: float = 0.9
    warmup_ratio: float = 1e-6


def constant(base: float, iteration: int, options: ScheduleOptions) -> float:
    """The base rate."""
    return base


def poly(base: float, iteration: int, options: ScheduleOptions) -> float:
    """base·(1 − i/N)^power."""
    return base * (1.0 - iteration / options.total) ** options.power


def warmup_poly(base: float, iteration: int, options: ScheduleOptions) -> float:
    """base·i/w during warm-up, then `poly`."""
    return base * iteration / options.warmup if iteration < options.warmup else poly(base, iteration, options)


def warmup_linear(base: float, iteration: int, options: ScheduleOptions) -> float:
    """base·(1 − i/N), during warm-up times 1 − (1 − i/w)·(1 − r)."""
    rate = base * (1.0 - iteration / options.total)
    if iteration < options.warmup:
        rate *= 1.0 - (1.0 - iteration / options.warmup) * (1.0 - options.warmup_ratio)
    return rate


def warmup_then_linear(base: float, iteration: int, options: ScheduleOptions) -> float:
    """base·(r + (1 − r)·i/(w − 1)) during warm-up, which ends at the base rate, then base·(1 − i/N).

    Source: the code of VFM-UDA (Englert et al., CVPR workshops 2024).
    """
    if iteration < options.warmup:
        rise = iteration / max(options.warmup - 1, 1)
        return base * (options.warmup_ratio + (1.0 - options.warmup_ratio) * rise)
    return base * (1.0 - iteration / options.total)


SCHEDULES: dict[str, Callable[[float, int, ScheduleOptions], float]] = {
    "warmup-poly": warmup_poly,
    "poly": poly,
    "constant": constant,
    "warmup-linear": warmup_linear,
    "warmup-then-linear": warmup_then_linear,
}
"""Schedules by name: functions of base rate, iteration i = 0…N−1 and options."""
