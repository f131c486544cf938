"""`scores.json`: what a folder of label maps is worth, kept beside them, so that reports need not count again."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from clan.core.errors import ConfigError, DataError
from clan.core.files import UnfitFile, as_json, quoted, read_whole, write_file, writing
from clan.data.dataset import Dataset
from clan.datasets import CITYSCAPES_CLASSES, Classes, Description, load_classes
from clan.datasets.labels import IGNORE, LabelSpace
from clan.evaluation.iou import Scores, score
from clan.run.folder import BEST, LAST_ITERATION, Snapshot, iteration_of, snapshot_iteration
from clan.run.records import began, moment

_LARGEST_FILE = 64 << 20  # some 100 bytes an image

NAME = "scores.json"
CLASSES = "classes.json"
VERSION = 1

_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What content that `write_evaluation` does not write makes its readers raise."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a folder of label maps, and what they were made of.

    Args:
        folder: the label maps.
        scores: over all images.
        label_space: the classes.
        images: mIoU of every image by its label map's path without suffix, 0…1, or NaN where no pixel counts.
        dataset: name, root and split of the data set, and what else `describe` tells of it.
        date: when, in ISO 8601.
        weights: the snapshot, if known.
        iteration: after how many iterations it was taken, if known.
    """

    folder: Path
    scores: Scores
    label_space: LabelSpace
    images: Mapping[str, float]
    dataset: Mapping[str, Any]
    date: str
    weights: Path | None = None
    iteration: int | None = None


def describe(dataset: Dataset) -> dict[str, Any]:
    """What `open_dataset` needs to open a data set again, as JSON has it."""
    return {
        "name": dataset.name,
        "root": str(dataset.root.resolve()),
        "split": dataset.split,
        "description": dataset.description.model_dump(mode="json", exclude_defaults=True),
        "classes": dataset.classes.model_dump(mode="json"),
        "images": dict(zip(dataset.stems, dataset.names, strict=True)),
    }


def open_dataset(evaluation: Evaluation) -> tuple[Dataset, dict[str, int]]:
    """What was evaluated, and the indices of its images by the stems of their label maps.

    Raises:
        DataError: it is gone, or not described as `describe` does.
    """
    about = evaluation.dataset
    try:
        description, classes = about.get("description", about["name"]), CITYSCAPES_CLASSES
        if isinstance(description, dict):
            description = Description.model_validate(description)
        if "classes" in about:
            classes = Classes.model_validate(about["classes"])
        dataset = Dataset(description, Path(about["root"]), split=str(about["split"]), classes=classes)
        stem_of = {name: stem for stem, name in about.get("images", {}).items()}
    except _DAMAGE as error:
        raise DataError(
            f"{evaluation.folder / NAME} is damaged ({quoted(str(error))}): evaluate again with clan evaluate"
        ) from None
    stems = [stem_of.get(name, stem) for name, stem in zip(dataset.names, dataset.stems, strict=True)]
    return dataset, {stem: index for index, stem in enumerate(stems)}


def write_classes(folder: Path, classes: Classes) -> None:
    """Says in a folder of label maps which classes they hold, if these are not the 19 of Cityscapes.

    Raises:
        DataError: the file cannot be written.
    """
    path, remedy = folder / CLASSES, "make the folder writable"
    if classes == CITYSCAPES_CLASSES:
        with writing(path, remedy):
            path.unlink(missing_ok=True)
    else:
        write_file(path, as_json(classes.model_dump(mode="json")), remedy)


def read_classes(folder: Path, given: Path | None = None, usual: Classes = CITYSCAPES_CLASSES) -> Classes:
    """The classes that a folder of label maps holds: those that it says, else those given, else the usual ones.

    Args:
        folder: the label maps.
        given: a file or a name of classes.
        usual: those of the ground truth.

    Raises:
        ConfigError: both are there and differ, or a file does not fit.
    """
    path = folder / CLASSES
    named = load_classes(given) if given else None
    known = load_classes(path) if path.is_file() else named
    if known and named and not named.agrees(known):
        raise ConfigError(
            f"the label maps in {folder} hold the {known.title}, as {path} says: leave --classes {given} out"
        )
    return known or usual


def write_evaluation(
    folder: Path,
    confusion: np.ndarray,
    label_space: LabelSpace,
    *,
    images: Mapping[str, float],
    dataset: Mapping[str, Any],
    weights: Path | None = None,
) -> None:
    """Writes `scores.json` into a folder of label maps.

    Args:
        folder: the label maps.
        confusion: int64 [C, C]; rows are the truth.
        label_space: the classes.
        images: see `Evaluation`.
        dataset: likewise.
        weights: likewise.

    Raises:
        DataError: the file cannot be written.
    """
    content = {
        "version": VERSION,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "weights": str(weights.resolve()) if weights else None,
        "iteration": snapshot_iteration(weights) if weights else iteration_of(folder.name),
        "dataset": dataset,
        "classes": label_space.names,
        "colors": label_space.colors,
        "subsets": label_space.subsets,
        "means": score(confusion, label_space).means,
        "confusion": confusion.tolist(),
        "images": images,
    }
    write_file(folder / NAME, as_json(content), "make the folder writable")


def read_evaluation(folder: Path) -> Evaluation:
    """Reads the `scores.json` of a folder of label maps.

    Raises:
        DataError: it is missing or is not what `write_evaluation` writes.
    """
    path = folder / NAME
    try:
        content: dict[str, Any] = json.loads(read_whole(path, _LARGEST_FILE))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']!r}")
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in content["colors"])
        subsets = {str(name): tuple(map(int, subset)) for name, subset in content["subsets"].items()}
        if not all(0 <= channel <= 255 for color in colors for channel in color):
            raise ValueError("a colour beyond 0…255")
        space = LabelSpace(tuple(map(str, content["classes"])), colors, subsets)
        confusion = np.array(content["confusion"], np.int64)
        if confusion.shape != (space.num_classes, space.num_classes):
            raise ValueError(f"a confusion matrix of shape {confusion.shape}")
        if space.num_classes > IGNORE or confusion.min(initial=0) < 0 or confusion.sum(dtype=np.float64) > 1 << 53:
            raise ValueError("a confusion matrix that no label maps have")
        weights = Path(content["weights"]) if content["weights"] else None
        iteration = content.get("iteration", iteration_of(weights.stem if weights else folder.name))
        if iteration is not None and not (type(iteration) is int and 0 <= iteration < LAST_ITERATION):
            raise ValueError(f"iteration {iteration!r}")
        return Evaluation(
            folder,
            score(confusion, space),
            space,
            {str(stem): math.nan if miou is None else float(miou) for stem, miou in content["images"].items()},
            dict(content["dataset"]),
            str(content["date"]),
            weights,
            iteration,
        )
    except FileNotFoundError:
        raise DataError(f"{folder} holds no {NAME}: evaluate a snapshot with clan evaluate") from None
    except UnfitFile as error:
        raise DataError(f"{path} {error}") from None
    except _DAMAGE as error:
        raise DataError(
            f"{path} is damaged ({quoted(str(error))}): evaluate the snapshot again with clan evaluate"
        ) from None


def find_evaluations(
    run: Path,
    snapshots: Sequence[Snapshot],
    results: Sequence[Path],
    *,
    on_damaged: Callable[[DataError], None] = lambda error: None,
) -> list[Evaluation]:
    """The evaluations of a run's snapshots, by iteration.

    Args:
        run: the run's folder.
        snapshots: what it saved.
        results: folders whose folders are looked at; other runs' label maps may lie there too.
        on_damaged: called with why each `scores.json` is left out that cannot be read or is older than the run.
    """
    saved = {path.resolve() for path in [*(snapshot.path for snapshot in snapshots), *run.glob(f"*{BEST}.pdparams")]}
    found: dict[Path, Evaluation] = {}
    start = began(run)
    for path in sorted(path for folder in results for path in folder.glob(f"*/{NAME}")):
        try:
            evaluation = read_evaluation(path.parent)
        except DataError as error:
            on_damaged(error)
            continue
        # What was scored by the commands that know no weights is recognised by the folder's name.
        named = evaluation.weights is None and path.parent.name.rpartition("_")[0] == run.resolve().name
        if not named and evaluation.weights not in saved:
            continue
        if start and (scored := moment(evaluation.date)) and scored < start:
            on_damaged(DataError(f"{path.parent} was scored before the run in {run} began: it is of an earlier one"))
        else:
            found[path.parent.resolve()] = evaluation
    ordered = sorted(
        found.values(), key=lambda one: (one.iteration is None, one.iteration or 0, _is_best(one), one.date)
    )
    # The best one in validation may have been evaluated under its number too, or twice.
    return [
        one
        for one, before in zip(ordered, [None, *ordered], strict=False)
        if not (_is_best(one) and before is not None and before.iteration == one.iteration)
    ]


def _is_best(evaluation: Evaluation) -> bool:
    return evaluation.weights is not None and evaluation.weights.stem.endswith(BEST)
