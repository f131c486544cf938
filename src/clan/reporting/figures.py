"""Figures of `clan inspect` for papers and slides, as PNG on white."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clan.core.errors import ConfigError
from clan.core.fonts import fonts_for, writable
from clan.datasets.labels import LabelSpace
from clan.evaluation.images import save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#16202c", "#8a96a3", "#e3e7ec"
BLUE, ORANGE = "#0b62c4", "#d1570c"
STYLE: dict[Any, object] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.dpi": 160,
    "text.parse_math": False,  # names may hold dollars
}
LARGEST_SHARE = 99.5
"""Percentile of the values at the end of the colour scale, so that outliers do not darken the rest."""


def require_matplotlib() -> None:
    """Raises ConfigError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError(
            "clan inspect draws with matplotlib, which is not installed: pip install matplotlib"
        ) from None


@contextmanager
def drawing(path: Path, width: float, height: float, names: Sequence[str] = ()) -> Iterator[Figure]:
    """Context with an empty figure, which is written at its end.

    Args:
        path: PNG file.
        width: inches.
        height: inches.
        names: texts by users, which may need other fonts; pass them through `_written`.

    Raises:
        DataError: the file cannot be written.
    """
    # Imported here, since it takes half a second. Not pyplot, which looks for a display.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "font.family": ["DejaVu Sans", *_families(names)]}):
        figure = Figure((width, height), layout="constrained", facecolor="white")
        yield figure
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    save_png(Image.fromarray(np.ascontiguousarray(pixels)), path)


def _own_font() -> Path:
    """Returns the path of matplotlib's own font."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


def _families(names: Sequence[str]) -> list[str]:
    """Registers fonts with the characters that matplotlib's own lacks; returns their families."""
    return [_family(path) for path in fonts_for(names, _own_font())]


@cache
def _family(path: Path) -> str:
    from matplotlib.font_manager import FontProperties, fontManager

    fontManager.addfont(path)
    return FontProperties(fname=path).get_name()


def _written(text: str) -> str:
    """Escapes characters that no font has."""
    return "\n".join(writable(line, _own_font()) for line in text.split("\n"))


def draw_maps(
    path: Path, images: Sequence[np.ndarray], maps: Sequence[Sequence[np.ndarray]], iterations: Sequence[int]
) -> None:
    """Draws discrepancy maps, one row per image, one column per iteration, with one colour scale.

    Args:
        path: PNG file.
        images: uint8 RGB [H, W, 3], one per row.
        maps: for each iteration the maps of all images, float32 [H, W], 0…1.
        iterations: of the columns.
    """
    from matplotlib.colors import PowerNorm

    columns, proportion = 1 + len(iterations), images[0].shape[0] / images[0].shape[1]
    largest = max(1e-6, float(np.percentile(np.array(maps), LARGEST_SHARE)))
    norm = PowerNorm(0.5, vmin=0, vmax=largest)  # square root: most values are small
    cell = min(3.0, max(1.5, 9 / columns))
    with drawing(path, columns * cell + 0.2, len(images) * (cell * proportion + 0.04) + 0.9) as figure:
        axes = figure.subplots(len(images), columns, squeeze=False)
        heat = None
        for row, image in enumerate(images):
            axes[row, 0].imshow(image)
            for column, of_iteration in enumerate(maps, start=1):
                heat = axes[row, column].imshow(of_iteration[row], cmap="viridis", norm=norm)
        for one in axes.flat:
            one.set_axis_off()
        axes[0, 0].set_title("target image")
        for column, iteration in enumerate(iterations, start=1):
            axes[0, column].set_title(f"iteration {iteration:,}" if column == 1 else f"{iteration:,}")
        assert heat is not None
        ticks = np.linspace(0, np.sqrt(largest), 5) ** 2
        bar = figure.colorbar(
            heat, ax=axes, location="bottom", aspect=60, shrink=0.6, pad=0.02, extend="max", ticks=ticks
        )
        bar.set_label("discrepancy 1 − cos(p₁, p₂) of the heads, square-root colour scale")
        bar.ax.set_xticklabels([f"{tick:.2g}" for tick in ticks])


def draw_courses(
    path: Path, title: str, iterations: Sequence[int], courses: Mapping[str, Sequence[float]], *,
    background: Sequence[tuple[Sequence[float], Sequence[float]]] = (), background_name: str = "",
    level: tuple[float, str] | None = None, percent: bool = False,
) -> None:  # fmt: skip
    """Draws values of the snapshots over the iterations.

    Args:
        path: PNG file.
        title: heading.
        iterations: of the snapshots.
        courses: values by name; no legend for a single one.
        background: further series (iterations, values), drawn faintly.
        background_name: their name in the legend.
        level: a reference value and its name.
        percent: whether values are shares, 0…1, drawn as 0 to 100 %.
    """
    with drawing(path, 5.6, 3.2, [title, *courses]) as figure:
        axes = figure.add_subplot()
        for number, (x, y) in enumerate(background):
            axes.plot(x, y, color=SOFT, linewidth=0.8, alpha=0.55, label=background_name if number == 0 else None)
        for (name, y), color in zip(courses.items(), (BLUE, ORANGE, INK, SOFT) * 2, strict=False):
            axes.plot(iterations, y, color=color, marker="o", markersize=4, label=_written(name))
        if level:
            axes.axhline(level[0], color=SOFT, linestyle=(0, (4, 3)), linewidth=1, label=level[1])
        if percent:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter("{x:.0%}")
        axes.set_title(_written(title), loc="left")
        last = max([*iterations, *(x[-1] for x, _ in background if len(x))])
        axes.set_xlim(0, 1.03 * last)
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y")
        if len(courses) > 1 or background or level:
            figure.legend(loc="outside lower center", ncols=4)


def draw_table(path: Path, title: str, values: np.ndarray, rows: LabelSpace, columns: Sequence[int]) -> None:
    """Draws a table of a value by class and iteration, coloured by value.

    Args:
        path: PNG file.
        title: heading.
        values: float [C, S], ≥ 0 or NaN.
        rows: the classes.
        columns: iterations.
    """
    classes, count = values.shape
    with drawing(path, max(4.0, 1.9 + 0.62 * count), 0.95 + 0.24 * classes, [title, *rows.names]) as figure:
        axes = figure.add_subplot()
        largest = np.fmax.reduce(values, axis=None, initial=1e-6)
        axes.imshow(values, cmap="viridis", vmin=0, vmax=largest, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.3f}"
            color = INK if np.isnan(value) or value > 0.6 * largest else "white"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
        axes.set_xticks(range(count), [f"{iteration:,}" for iteration in columns])
        axes.set_yticks(range(classes), [_written(name) for name in rows.names])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("iteration")
        axes.set_title(_written(title), loc="left")


@dataclass(frozen=True)
class FeatureMap:
    """Features in two dimensions."""

    title: str  # network and method of projection
    places: np.ndarray  # float [n, 2]
    classes: np.ndarray  # trainIds, int [n]
    is_source: np.ndarray  # bool [n]
    cut: float = 0.0  # percent of the points outside each side of the axes


def draw_features(path: Path, rows: Sequence[Sequence[FeatureMap]], label_space: LabelSpace, note: str) -> None:
    """Draws feature maps, one column per network: classes by colour, source as dots, target as crosses.

    Args:
        path: PNG file.
        rows: the maps.
        label_space: class names and colours.
        note: caption of the legend.
    """
    from matplotlib.lines import Line2D

    present = {int(train_id) for row in rows for one in row for train_id in one.classes}
    colors = np.array(label_space.colors) / 255
    height = 3.9 * len(rows) + 0.6 + 0.16 * len(present) / 3
    note = _written(note)
    names = [note, *(one.title for row in rows for one in row), *label_space.names]
    with drawing(path, 4.3 * len(rows[0]) + 0.4, height, names) as figure:
        every = figure.subplots(len(rows), len(rows[0]), squeeze=False)
        for axes, one in zip(every.flat, itertools.chain(*rows), strict=True):
            _draw_feature_map(axes, one, colors)
        handles = [
            Line2D([], [], linestyle="", marker=marker, color=INK, markersize=5, label=name)
            for marker, name in (("o", "source"), ("x", "target"))
        ]
        handles += [
            Line2D([], [], linestyle="", marker="s", color=colors[train_id], markeredgecolor=SOFT, label=_written(name))
            for train_id, name in enumerate(label_space.names)
            if train_id in present
        ]
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=6, title=_written(note), title_fontsize=8
        )
        legend.get_title().set_color(SOFT)


def _draw_feature_map(axes: Axes, one: FeatureMap, colors: np.ndarray) -> None:
    own = colors[one.classes]
    source, target = one.is_source, ~one.is_source
    axes.scatter(*one.places[source].T, s=11, c=own[source], alpha=0.75, linewidths=0)
    axes.scatter(*one.places[target].T, s=15, c=own[target], alpha=0.9, marker="x", linewidths=0.9)
    axes.set_title(_written(one.title), loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    low, high = np.percentile(one.places, (one.cut, 100 - one.cut), axis=0)
    margin = 0.04 * (high - low) + 1e-9
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])


def draw_centres(path: Path, title: str, courses: Mapping[str, np.ndarray], label_space: LabelSpace) -> None:
    """Draws a value of every class in one or two networks as connected dots.

    Args:
        path: PNG file.
        title: heading.
        courses: values by network, float64 [C] each, NaN where undefined.
        label_space: the classes.
    """
    places = np.arange(label_space.num_classes)
    values = np.stack(list(courses.values()))
    with drawing(path, 5.6, 1.6 + 0.24 * len(places), [*courses, *label_space.names]) as figure:
        axes = figure.add_subplot()
        axes.hlines(places, np.fmin.reduce(values), np.fmax.reduce(values), color=SOFT, linewidth=1.2)
        for place in places[np.isnan(values).all(axis=0)]:
            axes.text(0.01, place, "too few cells", transform=axes.get_yaxis_transform(), va="center", color=SOFT)
        for (name, numbers), color in zip(courses.items(), (SOFT, BLUE)[-len(courses) :], strict=True):
            axes.plot(numbers, places, "o", color=color, markersize=6, label=_written(name))
        axes.set_yticks(places, [_written(name) for name in label_space.names])
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.set_title(_written(title), loc="left")
        figure.legend(loc="outside lower left")
