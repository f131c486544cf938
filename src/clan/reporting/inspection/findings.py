"""`inspect.json`: every number that `clan inspect` found, for the report and for others' scripts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from clan.core.errors import DataError
from clan.core.files import finite, write_file
from clan.core.output import encoded

FOLDER, NAME = "inspect", "inspect.json"

Labels = Literal["ground truth", "prediction"]
"""What says which class a pixel is of."""


class Record(BaseModel):
    """A group of findings: immutable; numbers that do not exist are null."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Accuracy(Record):
    """Shares of pixels, 0…1, that a discriminator assigns to the domain that they are of; 0.5: it cannot tell."""

    source: float
    target: float


class SnapshotFindings(Record):
    """One snapshot."""

    iteration: int
    weights: str
    """Its file."""
    discrepancy: float | None
    """Mean over all pixels of all images of 1 − cosine of the heads' class probabilities.

    Null where there are not two heads, as are the numbers below that need two.
    """
    discrepancy_of_image: list[float]
    discrepancy_of_class: list[float | None]
    pixels_of_class: list[int]
    head_cosine: float | None
    """Cosine of the heads' weights and biases."""
    discriminators: dict[str, Accuracy]
    """By name; empty where there is none."""


class Course(Record):
    """The heads' cosine while training, from the loss that holds it; means of equal stretches of a long run."""

    iteration: list[float]
    head_cosine: list[float]


class Features(Record):
    """Features of source and target cells in one network."""

    network: str
    target_labels: Labels
    source_cells: list[int]
    target_cells: list[int]
    centre_distance: list[float | None]
    """By class; see `clan.reporting.inspection.alignment.centre_distances`."""
    centre_distance_relative: list[float | None]
    point_class: list[int]
    """The trainId of every sampled cell."""
    point_is_source: list[bool]
    pca: list[tuple[float, float]]
    pca_variance: tuple[float, float]
    """The share of the variance along both axes."""
    tsne: list[tuple[float, float]] | None


class InspectionFindings(Record):
    """Everything that was found in a run."""

    version: Literal[1] = 1
    date: str
    run: str
    method: str
    classes: list[str]
    colors: list[tuple[int, int, int]]
    split: str
    images: list[str]
    labels: Labels
    """What the classes of `discrepancy_of_class` are by."""
    seed: int
    snapshots: list[SnapshotFindings]
    training: Course | None
    features: list[Features]
    """Before and after, or of the only network."""
    remarks: list[str]
    """What is not there, and why."""


def known(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Numbers as JSON has them, which knows no NaN."""
    return finite(np.asarray(values, np.float64).tolist())


def write_findings(findings: InspectionFindings, folder: Path) -> None:
    """Writes `inspect.json`.

    Raises:
        DataError: it cannot be written.
    """
    write_file(folder / NAME, encoded(findings.model_dump_json(indent=1)), "choose another --output")


def read_findings(folder: Path) -> InspectionFindings | None:
    """What `write_findings` wrote; None if it never did.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / NAME
    try:
        return InspectionFindings.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error.error_count()} values do not fit"
        raise DataError(f"{path} is damaged ({reason}): run clan inspect again, or remove it") from None
