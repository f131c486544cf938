"""`inspect.json`: all results of `clan inspect`, for the report and for scripts."""

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
"""Source of the classes of pixels."""


class Record(BaseModel):
    """Base of all records: immutable; undefined values are null."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Accuracy(Record):
    """Accuracy of a discriminator on the pixels of each domain, 0…1."""

    source: float
    target: float


class SnapshotFindings(Record):
    """Measurements of one snapshot."""

    iteration: int
    weights: str
    """File name."""
    discrepancy: float | None
    """Mean over all pixels of all images of 1 − cosine of the heads' class probabilities.

    Null without two heads, like the other values that compare heads.
    """
    discrepancy_of_image: list[float]
    discrepancy_of_class: list[float | None]
    pixels_of_class: list[int]
    head_cosine: float | None
    """Cosine of the heads' weights and biases."""
    discriminators: dict[str, Accuracy]
    """By name; empty without a discriminator."""


class Course(Record):
    """Cosine of the heads' weights during training, from `loss_weight`; averaged for long runs."""

    iteration: list[float]
    head_cosine: list[float]


class Features(Record):
    """Features of source and target cells of one network."""

    network: str
    target_labels: Labels
    source_cells: list[int]
    target_cells: list[int]
    centre_distance: list[float | None]
    """By class; see `clan.reporting.inspection.alignment.centre_distances`."""
    centre_distance_relative: list[float | None]
    point_class: list[int]
    """TrainId of every sampled cell."""
    point_is_source: list[bool]
    pca: list[tuple[float, float]]
    pca_variance: tuple[float, float]
    """Share of the variance of both axes."""
    tsne: list[tuple[float, float]] | None


class InspectionFindings(Record):
    """All results for a run."""

    version: Literal[1] = 1
    date: str
    run: str
    method: str
    classes: list[str]
    colors: list[tuple[int, int, int]]
    split: str
    images: list[str]
    labels: Labels
    """Source of the classes in `discrepancy_of_class`."""
    seed: int
    snapshots: list[SnapshotFindings]
    training: Course | None
    features: list[Features]
    """Of the two compared networks, or of the only one."""
    remarks: list[str]
    """What is missing, and why."""


def known(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Replaces NaN by None, since JSON has no NaN."""
    return finite(np.asarray(values, np.float64).tolist())


def write_findings(findings: InspectionFindings, folder: Path) -> None:
    """Writes `inspect.json`.

    Raises:
        DataError: it cannot be written.
    """
    write_file(folder / NAME, encoded(findings.model_dump_json(indent=1)), "choose another --output")


def read_findings(folder: Path) -> InspectionFindings | None:
    """Reads `inspect.json`; None if there is none.

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
