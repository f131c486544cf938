"""Tables of scores: what they hold, and how a terminal shows the scores of one snapshot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from clan.evaluation.iou import Scores

ABSENT = "–"
"""Shown instead of the score of a class that never occurs."""


def percent(fraction: float) -> str:
    """A score for people: 0…1 → percent with two decimals, or `ABSENT` for NaN."""
    return ABSENT if math.isnan(fraction) else f"{100 * fraction:.2f}"


def format_scores(scores: Scores) -> str:
    """One line per class, then one per mean, in the format of the official script."""
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
        iteration: after how many iterations it was taken, if its name tells.
        scores: scores in the label space of the whole table.
    """

    name: str
    iteration: int | None
    scores: Scores


class Option(NamedTuple):
    """One option of a run by its whole name, and what a preset says: `ABSENT` if it has no such option."""

    name: str
    value: Any
    usual: Any


@dataclass(frozen=True)
class About:
    """What a workbook tells of its run beside the scores.

    Args:
        facts: what it is called, what it did, what it was scored on, with what.
        options: all of them; none if the run's configuration is not at hand.
        preset: what they are compared with.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[Option] = ()
    preset: str = ""


class Row(NamedTuple):
    """A snapshot as both files show it; means and IoUs are 0…1 or NaN."""

    name: str
    iteration: int | None
    best: bool
    means: Sequence[float]
    iou: Sequence[float]


@dataclass(frozen=True)
class Table:
    """What both files hold: the snapshots by iteration.

    Args:
        means: names of the means.
        classes: names of the classes.
        rows: the snapshots; those without iteration come last.
        headline: the mean that decides which one is best.
    """

    means: tuple[str, ...]
    classes: tuple[str, ...]
    rows: Sequence[Row]
    headline: str

    @property
    def placed(self) -> Sequence[Row]:
        """The snapshots whose iteration is known."""
        return [row for row in self.rows if row.iteration is not None]

    @property
    def best(self) -> int | None:
        """Position of the best snapshot, if any has a score."""
        return next((number for number, row in enumerate(self.rows) if row.best), None)
