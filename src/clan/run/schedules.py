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
        warmup_ratio: initial rate of "warmup-linear" as a share r of the base rate.
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


SCHEDULES: dict[str, Callable[[float, int, ScheduleOptions], float]] = {
    "warmup-poly": warmup_poly,
    "poly": poly,
    "constant": constant,
    "warmup-linear": warmup_linear,
}
"""Schedules by name: functions of base rate, iteration i = 0…N−1 and options."""
