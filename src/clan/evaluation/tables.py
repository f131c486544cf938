"""Tables of scores: their contents, and their text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from clan.evaluation.iou import Scores

ABSENT = "–"
"""Displayed instead of the score of a class that never occurs."""


def percent(fraction: float) -> str:
    """Formats a score, 0…1, as percent with two decimals; `ABSENT` for NaN."""
    return ABSENT if math.isnan(fraction) else f"{100 * fraction:.2f}"


def format_scores(scores: Scores) -> str:
    """Formats scores like the official script: one line per class, then one per mean."""
    classes = [f"===>{name}:\t{percent(iou)}" for name, iou in zip(scores.names, scores.iou, strict=True)]
    means = [f"===> {name}:\t{percent(mean)}" for name, mean in scores.means.items()]
    nothing = [] if scores.confusion.any() else ["no pixel of the ground truth is of a class: nothing was scored"]
    return "\n".join(classes + means + nothing)


BEST = "★ best"


@dataclass(frozen=True)
class SnapshotScore:
    """The scores of one snapshot.

    Args:
        name: the snapshot's name, such as "SYS_2000".
        iteration: the snapshot's iteration, if its name has one.
        scores: scores in the label space of the table.
    """

    name: str
    iteration: int | None
    scores: Scores


class Option(NamedTuple):
    """An option of a run by its full name, and its value in a preset; `ABSENT` if the preset lacks the option."""

    name: str
    value: Any
    usual: Any


@dataclass(frozen=True)
class About:
    """The facts about a run in its workbook.

    Args:
        facts: name of a fact → text.
        options: all options of the run; empty without the run's configuration.
        preset: name of the preset they are compared with.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[Option] = ()
    preset: str = ""


class Row(NamedTuple):
    """A snapshot's row in workbook and CSV; means and IoUs are 0…1 or NaN."""

    name: str
    iteration: int | None
    best: bool
    means: Sequence[float]
    iou: Sequence[float]


@dataclass(frozen=True)
class Table:
    """The contents of workbook and CSV.

    Args:
        means: names of the means.
        classes: names of the classes.
        rows: the snapshots by iteration; those without iteration come last.
        headline: the mean that decides the best snapshot.
    """

    means: tuple[str, ...]
    classes: tuple[str, ...]
    rows: Sequence[Row]
    headline: str

    @property
    def placed(self) -> Sequence[Row]:
        """The rows with an iteration."""
        return [row for row in self.rows if row.iteration is not None]

    @property
    def best(self) -> int | None:
        """The index of the best row; None if no row has a score."""
        return next((number for number, row in enumerate(self.rows) if row.best), None)
