"""The report: one self-contained HTML page of runs, their scores, curves and pictures."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from clan.core.files import write_file
from clan.core.output import encoded
from clan.evaluation.tables import ABSENT, percent

if TYPE_CHECKING:
    import numpy as np

    from clan.datasets.labels import LabelSpace
    from clan.evaluation.iou import Scores
    from clan.reporting.curves import Panel
    from clan.reporting.published import Published

MINUS = "−"


@dataclass(frozen=True)
class ScoredSnapshot:
    """What one snapshot scored.

    Args:
        name: the snapshot's.
        iteration: after how many it was taken, if known.
        means: 0…1 or NaN, by name.
        best: whether it is the one whose scores the page shows.
    """

    name: str
    iteration: int | None
    means: Mapping[str, float]
    best: bool


@dataclass(frozen=True)
class RunView:
    """One run as the page shows it.

    Args:
        name: what it is called.
        method: its method.
        domains: source and target.
        state: how far it came.
        cost: what and how much, in words.
        environment: likewise.
        config: its `config.yaml`.
        scores: of its best snapshot; None: it was not evaluated.
        evaluated: what was evaluated, in words.
        snapshots: all that were evaluated.
        missing: what is not there, and the command to get it.
    """

    name: str
    method: str
    domains: str
    state: str
    cost: Mapping[str, str]
    environment: Mapping[str, str]
    config: str
    scores: Scores | None = None
    evaluated: str = ""
    snapshots: Sequence[ScoredSnapshot] = ()
    missing: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Layer:
    """One of the pictures that the slider moves between: its key, name, data URI and description."""

    key: str
    name: str
    uri: str
    alt: str


@dataclass(frozen=True)
class Example:
    """One image of the gallery."""

    name: str
    remark: str
    layers: Sequence[Layer]
    size: tuple[int, int]


@dataclass(frozen=True)
class InspectedClass:
    """A class's name, colour and numbers, None where there is none."""

    name: str
    color: tuple[int, int, int]
    numbers: tuple[float | None, ...]


@dataclass(frozen=True)
class Inspection:
    """What `clan inspect` found in a run.

    Args:
        name: the run's.
        remark: what was looked at.
        columns: what the numbers of the classes are.
        rows: the classes.
        pictures: figures.
        courses: iterations and numbers of the charts, by their titles.
    """

    name: str
    remark: str
    columns: Sequence[str]
    rows: Sequence[InspectedClass]
    pictures: Sequence[Layer]
    courses: Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Args:
        title: of the page.
        date: when it was made.
        runs: the runs; differences are to the first.
        notices: sentences that stand before all else.
        label_space: the classes of the scores; None: there are none.
        headline: the mean that decides which snapshot is best.
        losses: charts.
        rates: charts.
        means: charts of the means over the snapshots.
        validations: charts of the means in validation.
        examples: the gallery.
        published: figures that the first run may be compared with.
        published_remark: why there are none.
        options: those that differ between runs, each with every run's value.
        inspections: of every run; None: it was not inspected.
        inspected: their charts.
    """

    title: str
    date: str
    runs: Sequence[RunView]
    notices: Sequence[str] = ()
    label_space: LabelSpace | None = None
    headline: str = ""
    losses: Sequence[Panel] = ()
    rates: Sequence[Panel] = ()
    means: Sequence[Panel] = ()
    validations: Sequence[Panel] = ()
    examples: Sequence[Example] = ()
    published: Sequence[Published] = ()
    published_remark: str = ""
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inspections: Sequence[Inspection | None] = ()
    inspected: Sequence[Panel] = ()

    @property
    def scored(self) -> list[tuple[int, RunView]]:
        """The runs that have scores, with their positions."""
        return [(index, run) for index, run in enumerate(self.runs) if run.scores is not None]


def render(page: Page) -> str:
    """The page as HTML that needs nothing else."""
    # Imported here: most commands write no report.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("clan.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "percent": percent,
        "delta": delta,
        "share": share,
        "json": _json,
        "zip": zip,
        "confusions": confusions,
    }
    return jinja.get_template("report.html.j2").render(page=page, absent=ABSENT).lstrip()


def write_report(page: Page, path: Path) -> None:
    """Writes the page as a whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    write_file(path, encoded(render(page)), "choose another --output", sync=True)


def delta(ours: float, reference: float) -> str:
    """The difference of two scores in percent points with its sign, or `ABSENT`."""
    points = 100 * (ours - reference)
    if math.isnan(points):
        return ABSENT
    text = f"{abs(points):.2f}"
    return f"±{text}" if text == "0.00" else f"{'+' if points > 0 else MINUS}{text}"


def confusions(scores: Scores, most: int) -> list[tuple[str, str, float, float]]:
    """What costs the most pixels: true class, predicted class, share of the true class and share of all, 0…1.

    Args:
        scores: of a run.
        most: how many to name; fewer if there are fewer.
    """
    wrong = scores.confusion.copy()
    wrong[range(len(wrong)), range(len(wrong))] = 0
    pairs = [divmod(int(place), len(wrong)) for place in wrong.ravel().argsort()[::-1][:most] if wrong.flat[place]]
    return [
        (
            scores.names[truth],
            scores.names[predicted],
            share(wrong[truth, predicted], scores.confusion[truth].sum()),
            share(wrong[truth, predicted], scores.confusion.sum()),
        )
        for truth, predicted in pairs
    ]


def share(part: float, whole: float) -> float:
    """Part of a whole, 0…1; NaN of nothing."""
    return float(part) / float(whole) if whole else math.nan


def photograph_uri(rgb: np.ndarray) -> str:
    """A photograph, uint8 RGB [H, W, 3], as a data URI."""
    return _uri(Image.fromarray(rgb), "JPEG", quality=82)


def drawing_uri(indices: np.ndarray, palette: bytes) -> str:
    """A picture of few colours, uint8 [H, W], as a data URI; the palette is 768 bytes, RGB."""
    image = Image.fromarray(indices).copy()
    image.putpalette(palette)
    return _uri(image, "PNG", optimize=True)


def figure_uri(path: Path) -> str:
    """A figure, which has photographs and fine marks, as a data URI of a fifth of its PNG file's size."""
    with Image.open(path) as image:
        return _uri(image, "WEBP", quality=90)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    content = io.BytesIO()
    image.save(content, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def _json(value: object) -> str:
    """JSON that can stand in a script element."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
