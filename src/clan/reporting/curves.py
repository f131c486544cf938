"""Charts of the report as SVG paths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MOST_POINTS = 600
"""Largest number of points of a series: a panel is not wider in pixels."""

SMOOTHING = 30
"""The window of the moving average is 1 / SMOOTHING of the series."""

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 28
"""Size and margins of a panel in SVG units."""


@dataclass(frozen=True)
class Series:
    """One run's series in a chart."""

    run: int  # index of the run in the report
    x: np.ndarray  # iterations, float64 [n], ascending
    y: np.ndarray  # values, float64 [n], finite
    name: str = ""  # what distinguishes it from another of the same run
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart: a value over the iterations, for every run that has it."""

    title: str
    series: Sequence[Series]
    total: int  # iterations on the horizontal axis
    warmup: int = 0  # iterations of warm-up to mark
    damped: bool = False  # whether the value includes the factor 1 − i/N
    markers: bool = False  # whether points are marked
    note: str = ""  # explanation of the title
    noisy: bool = False  # whether a smoothed series is drawn too
    bounds: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        low = min(float(one.y.min()) for one in self.series)
        high = max(float(one.y.max()) for one in self.series)
        if 0 < low < 0.6 * high:
            low = 0.0
        margin = 0.05 * (high - low) or abs(high) or 1.0
        object.__setattr__(self, "bounds", (low if low == 0 else low - margin, high + margin))

    def x(self, iteration: float) -> float:
        """Returns the horizontal position of an iteration."""
        return LEFT + (WIDTH - LEFT - RIGHT) * iteration / max(self.total, 1)

    def y(self, value: float) -> float:
        """Returns the vertical position of a value."""
        low, high = self.bounds
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    def path(self, series: Series, *, smooth: bool = False) -> str:
        """Returns the SVG path of a series."""
        values = smoothed(series.y) if smooth else series.y
        points = (f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in zip(series.x, values, strict=True))
        return "M" + "L".join(points)

    def x_ticks(self) -> list[tuple[float, str]]:
        """Returns positions and labels of the horizontal axis."""
        return [(self.x(value), short(value)) for value in ticks(0, self.total, 5)]

    def y_ticks(self) -> list[tuple[float, str]]:
        """Returns positions and labels of the vertical axis."""
        return [(self.y(value), short(value)) for value in ticks(*self.bounds, 5)]

    def data(self) -> dict[str, object]:
        """Returns positions and values of every series as JSON, for the read-out."""
        return {
            "series": [
                {
                    "run": one.run,
                    "name": one.name,
                    "at": [round(self.x(x), 1) for x in one.x],
                    "y": [round(self.y(y), 1) for y in one.y],
                    "x": [round(float(x)) for x in one.x],
                    "v": [float(f"{y:.4g}") for y in one.y],
                }
                for one in self.series
            ]
        }

    def summary(self) -> str:
        """Describes the chart in text, for screen readers."""
        parts = [
            f"{one.name + ' of ' if one.name else ''}run {one.run + 1} from {one.y[0]:.3g} to {one.y[-1]:.3g}"
            for one in self.series
        ]
        return f"{self.title} over {self.total:,} iterations: " + "; ".join(parts)


def thin(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Removes values that are not finite and averages neighbours until at most `most` points are left.

    Args:
        x: float64 [n], ascending.
        y: float64 [n].
        most: at least 1.

    Returns:
        x and y, float64 [m], m ≤ `most`.
    """
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= most:
        return x, y
    starts = np.linspace(0, len(x), most, endpoint=False).astype(int)
    lengths = np.diff(starts, append=len(x))
    return np.add.reduceat(x, starts) / lengths, np.add.reduceat(y, starts) / lengths


def smoothed(y: np.ndarray) -> np.ndarray:
    """Returns the centred moving average, float64 [n] → [n]; the window is cut at both ends."""
    at, reach = np.arange(len(y)), len(y) // (2 * SMOOTHING)
    first, behind = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(y))
    sums = np.concatenate([[0.0], np.cumsum(y)])
    return (sums[behind] - sums[first]) / (behind - first)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Returns about `about` round numbers in low…high, spaced by 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(about, 1)
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(value: float) -> str:
    """Formats an axis label: 20000 → 20k, 0.00025 → 2.5e-4."""
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
