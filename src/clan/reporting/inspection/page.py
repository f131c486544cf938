"""Inspections in the report."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clan.reporting.curves import Panel, Series, thin
from clan.reporting.html import InspectedClass, Inspection, Layer, figure_uri
from clan.reporting.inspection.findings import FOLDER, InspectionFindings, read_findings

PICTURES = {
    "discrepancy_maps.png": "Where the heads disagree",
    "features.png": "Features of both domains",
}
"""Figures that the page shows; the others have a chart or table."""


def inspections(names: Sequence[str], folders: Sequence[Path]) -> list[Inspection | None]:
    """Returns the inspection of every run; None for a run that was not inspected.

    Raises:
        DataError: an `inspect.json` is damaged.
    """
    found = [read_findings(folder / FOLDER) for folder in folders]
    return [
        None if findings is None else inspection(name, findings, folder / FOLDER)
        for name, folder, findings in zip(names, folders, found, strict=True)
    ]


def inspection(name: str, findings: InspectionFindings, folder: Path) -> Inspection:
    """Returns the inspection of one run with the figures that exist."""
    snapshots = findings.snapshots[:1] + findings.snapshots[1:][-1:]
    compared = [one for one in snapshots if one.discrepancy is not None]
    columns = {f"discrepancy, {one.iteration:,}": one.discrepancy_of_class for one in compared}
    columns |= {f"centres, {one.network}": one.centre_distance_relative for one in findings.features}
    return Inspection(
        name=name,
        remark=" ".join([
            f"{len(findings.images)} images of {findings.split}, seed {findings.seed}; "
            f"classes of target pixels by {findings.labels}; {findings.date[:10]}.",
            *findings.remarks,
        ]),
        columns=list(columns),
        rows=[
            InspectedClass(class_name, color, tuple(numbers))
            for class_name, color, *numbers in zip(findings.classes, findings.colors, *columns.values(), strict=True)
        ],
        pictures=[
            Layer(file, title, figure_uri(folder / file), f"{title}, {name}")
            for file, title in PICTURES.items()
            if (folder / file).is_file()
        ],
        courses=courses(findings),
    )  # fmt: skip


def courses(findings: InspectionFindings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns iterations and values by chart title."""
    iterations = np.array([one.iteration for one in findings.snapshots], np.float64)
    made = {}
    if all(one.discrepancy is not None for one in findings.snapshots):
        made["mean discrepancy of the heads"] = iterations, np.array([one.discrepancy for one in findings.snapshots])
        made["cosine of the heads' weights"] = iterations, np.array([one.head_cosine for one in findings.snapshots])
    for name in dict.fromkeys(name for one in findings.snapshots for name in one.discriminators):
        shares = {
            role: np.array([getattr(one.discriminators.get(name), role, np.nan) for one in findings.snapshots])
            for role in ("source", "target")
        }
        shares["all"] = (shares["source"] + shares["target"]) / 2
        for role, of_role in shares.items():
            made[f"{role} pixels that the {name.replace('_', ' ')} classifies correctly, %"] = iterations, 100 * of_role
    return made


def panels(found: Sequence[Inspection | None], total: int) -> Iterator[Panel]:
    """Yields a chart of every value, over all runs that have it.

    Args:
        found: the inspection of every run.
        total: iterations on the horizontal axis.
    """
    for title in dict.fromkeys(title for one in found if one for title in one.courses):
        drawn = [
            Series(index, *thin(*one.courses[title])) for index, one in enumerate(found) if one and title in one.courses
        ]
        yield Panel(title, drawn, total=total, markers=True)
