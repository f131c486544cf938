"""`inspect.json`: every number that `clan inspect` found, for the report and for others' scripts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from clan.atomic import write_atomically
from clan.errors import DataError

FOLDER, NAME = "inspect", "inspect.json"

Labels = Literal["ground truth", "prediction"]
"""What says which class a pixel is of."""


class Part(BaseModel):
    """A group of findings: immutable; numbers that do not exist are null."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Accuracy(Part):
    """Shares of pixels, 0…1, that a discriminator assigns to the domain that they are of; 0.5: it cannot tell."""

    source: float
    target: float


class SnapshotFindings(Part):
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


class Course(Part):
    """The heads' cosine while training, from the loss that holds it; means of equal stretches of a long run."""

    iteration: list[float]
    head_cosine: list[float]


class Features(Part):
    """Features of source and target cells in one network."""

    network: str
    target_labels: Labels
    source_cells: list[int]
    target_cells: list[int]
    centre_distance: list[float | None]
    """By class; see `clan.inspection.alignment.centre_distances`."""
    centre_distance_relative: list[float | None]
    point_class: list[int]
    """The trainId of every sampled cell."""
    point_is_source: list[bool]
    pca: list[tuple[float, float]]
    pca_variance: tuple[float, float]
    """The share of the variance along both axes."""
    tsne: list[tuple[float, float]] | None


class Findings(Part):
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
    return [None if np.isnan(value) else float(value) for value in values]


def write_findings(findings: Findings, folder: Path) -> None:
    """Writes `inspect.json`.

    Raises:
        DataError: it cannot be written.
    """
    text = findings.model_dump_json(indent=1).encode()
    try:
        write_atomically(folder / NAME, lambda file: file.write(text), sync=False)
    except OSError as error:
        raise DataError(f"cannot write {folder / NAME} ({error.strerror}): choose another --output") from None


def read_findings(folder: Path) -> Findings | None:
    """What `write_findings` wrote; None if it never did.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / NAME
    try:
        return Findings.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error.error_count()} values do not fit"
        raise DataError(f"{path} is damaged ({reason}): run clan inspect again, or remove it") from None
