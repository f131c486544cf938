"""Curves of a run as SVG paths: thinned out to what a screen can show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MOST_POINTS = 600
"""A panel is at most as many pixels wide, so further points could not be told apart."""

SMOOTHING = 30
"""A course is smoothed by means over this part of it."""

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 28
"""Margins of a panel, in its own units, as all of these."""


@dataclass(frozen=True)
class Series:
    """One run's course of one number.

    Args:
        run: the run's position in the report.
        x: iterations, ascending.
        y: the numbers; finite.
    """

    run: int
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One chart: a number over the iterations, for every run that has it.

    Args:
        title: what the number is.
        series: the runs' courses, thinned out.
        total: iterations that the schedules are laid out for.
        warmup: iterations of warm-up of the first run; 0: none to mark.
        damped: whether the number carries the factor 1 − i/N.
        markers: whether points are drawn; for a few of them.
        note: the title in words.
        noisy: whether courses are drawn smoothed too.
    """

    title: str
    series: Sequence[Series]
    total: int
    warmup: int = 0
    damped: bool = False
    markers: bool = False
    note: str = ""
    noisy: bool = False
    bounds: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        low = min(float(one.y.min()) for one in self.series)
        high = max(float(one.y.max()) for one in self.series)
        if 0 < low < 0.6 * high:
            low = 0.0
        margin = 0.05 * (high - low) or abs(high) or 1.0
        object.__setattr__(self, "bounds", (low if low == 0 else low - margin, high + margin))

    def x(self, iteration: float) -> float:
        """Horizontal place of an iteration."""
        return LEFT + (WIDTH - LEFT - RIGHT) * iteration / max(self.total, 1)

    def y(self, value: float) -> float:
        """Vertical place of a number."""
        low, high = self.bounds
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    def path(self, series: Series, *, smooth: bool = False) -> str:
        """The SVG path of a course, as it is or smoothed."""
        values = smoothed(series.y) if smooth else series.y
        points = (f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in zip(series.x, values, strict=True))
        return "M" + "L".join(points)

    def x_ticks(self) -> list[tuple[float, str]]:
        """Places and names of a few iterations."""
        return [(self.x(value), short(value)) for value in ticks(0, self.total, 5)]

    def y_ticks(self) -> list[tuple[float, str]]:
        """Places and names of a few numbers."""
        return [(self.y(value), short(value)) for value in ticks(*self.bounds, 5)]

    def data(self) -> dict[str, object]:
        """What a hover read-out needs: places and numbers of every course."""
        return {
            "series": [
                {
                    "run": one.run,
                    "at": [round(self.x(x), 1) for x in one.x],
                    "y": [round(self.y(y), 1) for y in one.y],
                    "x": [round(float(x)) for x in one.x],
                    "v": [float(f"{y:.4g}") for y in one.y],
                }
                for one in self.series
            ]
        }

    def summary(self) -> str:
        """The chart in words, for those who do not see it."""
        parts = [f"run {one.run + 1} from {one.y[0]:.3g} to {one.y[-1]:.3g}" for one in self.series]
        return f"{self.title} over {self.total:,} iterations: " + "; ".join(parts)


def thin(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal stretches where there are more than `most` points; what is not finite is left out.

    Args:
        x: float64 [n], ascending.
        y: float64 [n].
        most: at least 1.
    """
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= most:
        return x, y
    starts = np.linspace(0, len(x), most, endpoint=False).astype(int)
    lengths = np.diff(starts, append=len(x))
    return np.add.reduceat(x, starts) / lengths, np.add.reduceat(y, starts) / lengths


def smoothed(y: np.ndarray) -> np.ndarray:
    """Means over the neighbourhood of every point, as far as it goes: float64 [n] → float64 [n]."""
    at, reach = np.arange(len(y)), len(y) // (2 * SMOOTHING)
    first, behind = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(y))
    sums = np.concatenate([[0.0], np.cumsum(y)])
    return (sums[behind] - sums[first]) / (behind - first)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two, roughly `about` of them: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / max(about, 1)
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(value: float) -> str:
    """A number in few characters, as axes have it: 20000 → 20k, 0.00025 → 2.5e-4."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.4g}k"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"
