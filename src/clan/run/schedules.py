"""Learning rates as pure functions of the iteration."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """What the schedules of a run share.

    Args:
        total: iterations N.
        warmup: iterations w in which a rate rises.
        power: exponent of the polynomial decay.
        warmup_ratio: share r of the rate that "warmup-linear" begins at.
    """

    total: int
    warmup: int
    power: float = 0.9
    warmup_ratio: float = 1e-6


def constant(base: float, iteration: int, course: Course) -> float:
    """The base rate."""
    return base


def poly(base: float, iteration: int, course: Course) -> float:
    """base·(1 − i/N)^power."""
    return base * (1.0 - iteration / course.total) ** course.power


def warmup_poly(base: float, iteration: int, course: Course) -> float:
    """base·i/w during the warm-up, then `poly`."""
    return base * iteration / course.warmup if iteration < course.warmup else poly(base, iteration, course)


def warmup_linear(base: float, iteration: int, course: Course) -> float:
    """base·(1 − i/N), during the warm-up times 1 − (1 − i/w)·(1 − r)."""
    rate = base * (1.0 - iteration / course.total)
    if iteration < course.warmup:
        rate *= 1.0 - (1.0 - iteration / course.warmup) * (1.0 - course.warmup_ratio)
    return rate


SCHEDULES: dict[str, Callable[[float, int, Course], float]] = {
    "warmup-poly": warmup_poly,
    "poly": poly,
    "constant": constant,
    "warmup-linear": warmup_linear,
}
"""By name: the rate of an iteration i = 0…N−1 from the base rate."""
