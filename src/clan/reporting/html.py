"""The report's data and its rendering as one self-contained HTML page."""

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
    """Scores of one snapshot."""

    name: str
    iteration: int | None  # None: unknown
    means: Mapping[str, float]  # 0…1 or NaN
    best: bool  # whether the page shows its scores
    judged: float = math.nan  # by the criterion that chooses without labels


@dataclass(frozen=True)
class RunView:
    """Texts and scores of one run."""

    name: str
    method: str
    domains: str  # "source → target"
    state: str  # progress in words
    cost: Mapping[str, str]
    environment: Mapping[str, str]
    config: str  # content of config.yaml
    scores: Scores | None = None  # of the best snapshot; None: not evaluated
    evaluated: str = ""  # which snapshot and images, in words
    snapshots: Sequence[ScoredSnapshot] = ()  # all that were evaluated
    selected: str = ""  # what was chosen without labels, in sentences
    missing: Sequence[tuple[str, str]] = ()  # what is missing, and the command that adds it


@dataclass(frozen=True)
class Layer:
    """One picture of a slider, as a data URI."""

    key: str
    name: str
    uri: str
    alt: str


@dataclass(frozen=True)
class Example:
    """One image of the gallery; `size` is (width, height) in pixels."""

    name: str
    remark: str
    layers: Sequence[Layer]
    size: tuple[int, int]


@dataclass(frozen=True)
class InspectedClass:
    """A class with its RGB colour and its numbers, None where undefined."""

    name: str
    color: tuple[int, int, int]
    numbers: tuple[float | None, ...]


@dataclass(frozen=True)
class Inspection:
    """Results of `clan inspect` for one run."""

    name: str
    remark: str
    columns: Sequence[str]  # headings of `InspectedClass.numbers`
    rows: Sequence[InspectedClass]
    pictures: Sequence[Layer]
    courses: Mapping[str, tuple[np.ndarray, np.ndarray]]  # iterations and values by chart title


@dataclass(frozen=True)
class Teaching:
    """What a self-training run learnt from."""

    name: str
    remark: str
    columns: Sequence[str]  # headings of the numbers
    rows: Sequence[InspectedClass]  # percentages
    means: Mapping[str, Sequence[float | None]]  # percentages by name of the mean
    sheets: Sequence[Layer]


@dataclass(frozen=True)
class Page:
    """Content of the page."""

    title: str
    date: str
    runs: Sequence[RunView]  # differences are to the first
    notices: Sequence[str] = ()  # sentences at the top
    label_space: LabelSpace | None = None  # classes of the scores; None: no scores
    headline: str = ""  # name of the mean that selects the best snapshot
    losses: Sequence[Panel] = ()
    rates: Sequence[Panel] = ()
    means: Sequence[Panel] = ()  # means of the snapshots
    validations: Sequence[Panel] = ()  # means in validation
    criteria: Sequence[Panel] = ()  # of choosing without labels, over the snapshots
    examples: Sequence[Example] = ()
    published: Sequence[Published] = ()  # comparable published scores
    published_remark: str = ""  # why there are none
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)  # differing options with every run's value
    teachings: Sequence[Teaching | None] = ()  # of every run; None: no self-training
    taught: Sequence[Panel] = ()  # charts of self-training
    inspections: Sequence[Inspection | None] = ()  # of every run; None: not inspected
    inspected: Sequence[Panel] = ()  # charts of the inspections

    @property
    def scored(self) -> list[tuple[int, RunView]]:
        """The runs with scores and their indices."""
        return [(index, run) for index, run in enumerate(self.runs) if run.scores is not None]


def render(page: Page) -> str:
    """Returns the page as self-contained HTML."""
    # Imported here, since most commands write no report.
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
    """Writes the page atomically.

    Raises:
        DataError: the file cannot be written.
    """
    write_file(path, encoded(render(page)), "choose another --output", sync=True)


def delta(ours: float, reference: float) -> str:
    """Formats the difference of two scores (0…1) in percentage points with sign; `ABSENT` for NaN."""
    points = 100 * (ours - reference)
    if math.isnan(points):
        return ABSENT
    text = f"{abs(points):.2f}"
    return f"±{text}" if text == "0.00" else f"{'+' if points > 0 else MINUS}{text}"


def confusions(scores: Scores, most: int) -> list[tuple[str, str, float, float]]:
    """Returns the confusions with the most pixels.

    Args:
        scores: of a run.
        most: largest number to return.

    Returns:
        True class, predicted class, share of the true class's pixels and share of all pixels, 0…1.
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
    """Returns part / whole, NaN if the whole is 0."""
    return float(part) / float(whole) if whole else math.nan


def photograph_uri(rgb: np.ndarray) -> str:
    """Encodes a photograph, uint8 RGB [H, W, 3], as a JPEG data URI."""
    return _uri(Image.fromarray(rgb), "JPEG", quality=82)


def drawing_uri(indices: np.ndarray, palette: bytes) -> str:
    """Encodes palette indices, uint8 [H, W], as a PNG data URI; the palette is 768 bytes, RGB."""
    image = Image.fromarray(indices).copy()
    image.putpalette(palette)
    return _uri(image, "PNG", optimize=True)


def figure_uri(path: Path) -> str:
    """Encodes a figure as a WebP data URI, a fifth of the size of its PNG file."""
    with Image.open(path) as image:
        return _uri(image, "WEBP", quality=90)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    content = io.BytesIO()
    image.save(content, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def _json(value: object) -> str:
    """Returns JSON that is safe in a script element."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
