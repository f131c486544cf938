"""Self-training in the report: pseudo-labels, the teacher beside the student, and what the run learnt from."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clan.datasets.labels import LabelSpace
from clan.reporting.curves import Panel, Series, thin
from clan.reporting.html import InspectedClass, Layer, Teaching, figure_uri
from clan.run.observer import NetworkScores
from clan.run.records import RunRecords

Course = tuple[np.ndarray, np.ndarray]
"""Iterations and values."""
MOST_SHEETS = 4
"""Largest number of sheets of a run: the first, the last, and some evenly between them."""
SHARE = "pseudo_share"
"""Name of q in `metrics.jsonl`."""


def teachings(names: Sequence[str], runs: Sequence[RunRecords]) -> list[Teaching | None]:
    """Returns tables and sheets of every run; None for a run without a teacher.

    Args:
        names: of the runs.
        runs: the runs.
    """
    return [teaching(name, run) for name, run in zip(names, runs, strict=True)]


def teaching(name: str, run: RunRecords) -> Teaching | None:
    """Returns the last scores of pseudo-labels, student and teacher by class, and the sheets; None without any."""
    if SHARE not in run.metrics:
        return None
    columns: dict[str, Mapping[str, float]] = {}
    remarks = []
    if run.pseudo_labels:
        last = run.pseudo_labels[-1]
        columns |= {"labels that are right": last.precision, "of the class found": last.recall}
        remarks.append(
            f"Pseudo-labels of {last.images} images after {last.iteration:,} iterations: {100 * last.right:.1f} % of "
            "the pixels are right. The run did not use these labels of the target."
        )
    means: dict[str, tuple[float | None, ...]] = {}
    scored = [one for one in run.validations if one.others]
    if scored:
        networks = both(scored[-1].means, scored[-1].iou, scored[-1].others, run)
        blank = (None,) * len(columns)
        for mean in scored[-1].means:
            means[mean] = (*blank, *(known(100 * network.means[mean]) for network in networks.values()))
        columns |= {f"{role}, IoU": network.iou for role, network in networks.items()}
        remarks.append(f"Scores in validation after {scored[-1].iteration:,} iterations.")
    space = run.config.classes.label_space
    return Teaching(name, " ".join(remarks), list(columns), rows(columns, space), means, list(sheets(name, run)))


def rows(columns: Mapping[str, Mapping[str, float]], space: LabelSpace) -> list[InspectedClass]:
    """Returns a row of percentages for every class; none without columns."""
    return [
        InspectedClass(name, color, tuple(known(100 * column.get(name, math.nan)) for column in columns.values()))
        for name, color in zip(space.names, space.colors, strict=True)
        if columns
    ]


def known(value: float) -> float | None:
    """Returns None for NaN."""
    return None if math.isnan(value) else value


def both(
    means: Mapping[str, float], iou: Mapping[str, float], others: Mapping[str, NetworkScores], run: RunRecords
) -> dict[str, NetworkScores]:
    """Returns the scores of the saved network and of the others, the student first."""
    saved = getattr(run.config.method, "export", "student")
    found = {saved: NetworkScores(means, iou), **others}
    return {role: found[role] for role in sorted(found)}  # "student" is before "teacher"


def sheets(name: str, run: RunRecords) -> Iterator[Layer]:
    """Yields up to `MOST_SHEETS` sheets, evenly spaced over the run."""
    found = run.sheets
    iterations = list(found)
    places = np.linspace(0, len(iterations) - 1, min(MOST_SHEETS, len(iterations))).round().astype(int)
    for iteration in (iterations[place] for place in places):
        title = f"after {iteration:,} iterations"
        path = found[iteration]
        yield Layer(path.name, title, figure_uri(path), f"what {name} learnt from {title}")


def panels(runs: Sequence[RunRecords]) -> list[Panel]:
    """Returns charts of q, of the share of right pseudo-labels, and of student and teacher in validation."""
    total = max(run.config.num_steps for run in runs)
    sure = {
        index: (run.metrics["iteration"], run.metrics[SHARE]) for index, run in enumerate(runs) if SHARE in run.metrics
    }
    right = {
        index: _course([(one.iteration, one.right) for one in run.pseudo_labels])
        for index, run in enumerate(runs)
        if run.pseudo_labels
    }
    made = [
        *_charts("pixels of which the teacher is sure, %", sure, total, note="q", noisy=True),
        *_charts("pseudo-labels that are right, %", right, total, markers=True),
    ]
    return made + list(validated(runs, total))


def _course(points: Sequence[tuple[float, float]]) -> Course:
    x, y = np.array(points, np.float64).T
    return x, y


def _charts(title: str, shares: Mapping[int, Course], total: int, **options: Any) -> Iterator[Panel]:
    """Yields a chart of shares 0…1 of runs, in percent, if any of them is known."""
    thinned = {index: thin(x, 100 * y) for index, (x, y) in shares.items()}
    if drawn := [Series(index, x, y) for index, (x, y) in thinned.items() if len(x)]:
        yield Panel(title, drawn, total=total, **options)


def validated(runs: Sequence[RunRecords], total: int) -> Iterator[Panel]:
    """Yields a chart of every mean of the runs that validate student and teacher."""
    names = dict.fromkeys(name for run in runs for one in run.validations if one.others for name in one.means)
    for name in names:
        drawn = []
        for index, run in enumerate(runs):
            points: dict[str, list[tuple[int, float]]] = {}
            for one in run.validations:
                networks = both(one.means, one.iou, one.others, run) if one.others else {}
                for role, network in networks.items():
                    if name in network.means:
                        points.setdefault(role, []).append((one.iteration, 100 * network.means[name]))
            for role, course in points.items():
                x, y = thin(*_course(course))
                if len(x):
                    drawn.append(Series(index, x, y, name=role, dashed=role == "teacher"))
        if drawn:
            yield Panel(f"{name} of student and teacher, %", drawn, total=total, markers=True, note="teacher dashed")
