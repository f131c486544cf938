"""`scores.json`: the scores of a folder of label maps, stored there for reports."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from clan.evaluation.views import Views
from clan.run.folder import BEST, LAST_ITERATION, Snapshot, iteration_of, snapshot_iteration
from clan.run.records import began, moment

_LARGEST_FILE = 64 << 20  # some 100 bytes an image

NAME = "scores.json"
CLASSES = "classes.json"
VIEWS = "views.json"
VERSION = 1

_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""Exceptions raised by reading content that `write_evaluation` did not write."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a folder of label maps, and their origin.

    Args:
        folder: the label maps.
        scores: the scores over all images.
        label_space: the classes.
        images: path of a label map without suffix → mIoU of the image, 0…1, or NaN without a pixel of a class.
        dataset: name, root and split of the data set, and the other values of `describe`; "views", if images were not
            seen once, as a whole.
        date: time of the evaluation, ISO 8601.
        weights: the snapshot, if known.
        iteration: the snapshot's iteration, if known.
    """

    folder: Path
    scores: Scores
    label_space: LabelSpace
    images: Mapping[str, float]
    dataset: Mapping[str, Any]
    date: str
    weights: Path | None = None
    iteration: int | None = None

    @property
    def views(self) -> str:
        """The windows, scales and mirrorings in which images were seen, in words; empty: each once, as a whole."""
        return self.dataset.get("views", "")

    @property
    def scored(self) -> tuple[str, str, frozenset[str]]:
        """Name and split of the data set, and the scored images: scores are comparable where these are equal."""
        return str(self.dataset.get("name")), str(self.dataset.get("split")), frozenset(self.images)

    @property
    def scored_on(self) -> str:
        """`scored` in words."""
        return f"{len(self.images)} images of {self.dataset.get('name')}, {self.dataset.get('split')}"


def describe(dataset: Dataset) -> dict[str, Any]:
    """The JSON values from which `open_dataset` opens a data set again."""
    return {
        "name": dataset.name,
        "root": str(dataset.root.resolve()),
        "split": dataset.split,
        "description": dataset.description.model_dump(mode="json", exclude_defaults=True),
        "classes": dataset.classes.model_dump(mode="json"),
        "images": dict(zip(dataset.stems, dataset.names, strict=True)),
    }


def open_dataset(evaluation: Evaluation) -> tuple[Dataset, dict[str, int]]:
    """Opens the evaluated data set.

    Returns:
        The data set; stem of a label map → index of its image.

    Raises:
        DataError: the data set is missing, or `scores.json` is damaged.
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
    """Writes `classes.json` into a folder of label maps; deletes the file for the 19 classes of Cityscapes.

    Raises:
        DataError: the file cannot be written.
    """
    path, remedy = folder / CLASSES, "make the folder writable"
    if classes == CITYSCAPES_CLASSES:
        with writing(path, remedy):
            path.unlink(missing_ok=True)
    else:
        write_file(path, as_json(classes.model_dump(mode="json")), remedy)


def write_views(folder: Path, views: Views) -> None:
    """Prepares a folder for label maps: `views.json` is written, or deleted, and scores of earlier ones are deleted.

    Raises:
        DataError: the file cannot be written.
    """
    path, remedy = folder / VIEWS, "make the folder writable"
    with writing(path, remedy):
        (folder / NAME).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    if not views.plain:
        write_file(path, as_json({"description": str(views), **views.record()}), remedy)


def read_views(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's `views.json`; None: each image was seen once, as a whole.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / VIEWS
    try:
        content = json.loads(read_whole(path, _LARGEST_FILE))
        if not isinstance(content["description"], str):
            raise ValueError("a description that is no text")
        return content
    except FileNotFoundError:
        return None
    except (UnfitFile, *_DAMAGE) as error:
        raise DataError(f"{path} is damaged ({quoted(str(error))}): evaluate again with clan evaluate") from None


def read_classes(folder: Path, given: Path | None = None, usual: Classes = CITYSCAPES_CLASSES) -> Classes:
    """The classes of a folder of label maps: those of its `classes.json`, else the given ones, else the usual ones.

    Args:
        folder: the label maps.
        given: file or name of classes; None: not given.
        usual: the classes of the ground truth.

    Raises:
        ConfigError: the given classes differ from `classes.json`, or a file is invalid.
    """
    path = folder / CLASSES
    named = load_classes(given) if given else None
    known = load_classes(path) if path.is_file() else named
    if known and named and not named.agrees(known):
        raise ConfigError(
            f"the label maps in {folder} hold the {known.title} according to {path}: omit --classes {given}"
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
        confusion: int64 [C, C]; rows are the ground truth.
        label_space: the classes.
        images: see `Evaluation`.
        dataset: see `Evaluation`.
        weights: see `Evaluation`.

    Raises:
        DataError: the file cannot be written, or `views.json` is damaged.
    """
    content = {
        "version": VERSION,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "weights": str(weights.resolve()) if weights else None,
        "iteration": snapshot_iteration(weights) if weights else iteration_of(folder.name),
        "views": read_views(folder),
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
        DataError: the file is missing or damaged.
    """
    path = folder / NAME
    try:
        content: dict[str, Any] = json.loads(read_whole(path, _LARGEST_FILE))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']!r}")
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in content["colors"])
        subsets = {str(name): tuple(map(int, subset)) for name, subset in content["subsets"].items()}
        if not all(0 <= channel <= 255 for color in colors for channel in color):
            raise ValueError("a colour outside 0…255")
        space = LabelSpace(tuple(map(str, content["classes"])), colors, subsets)
        confusion = np.array(content["confusion"], np.int64)
        if confusion.shape != (space.num_classes, space.num_classes):
            raise ValueError(f"a confusion matrix of shape {confusion.shape}")
        if space.num_classes > IGNORE or confusion.min(initial=0) < 0 or confusion.sum(dtype=np.float64) > 1 << 53:
            raise ValueError("an impossible confusion matrix")
        weights = Path(content["weights"]) if content["weights"] else None
        iteration = content.get("iteration", iteration_of(weights.stem if weights else folder.name))
        if iteration is not None and not (type(iteration) is int and 0 <= iteration < LAST_ITERATION):
            raise ValueError(f"iteration {iteration!r}")
        return Evaluation(
            folder,
            score(confusion, space),
            space,
            {str(stem): math.nan if miou is None else float(miou) for stem, miou in content["images"].items()},
            {**content["dataset"], **_views_of(content)},
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


def _views_of(content: Mapping[str, Any]) -> dict[str, str]:
    return {"views": str(content["views"]["description"])} if content.get("views") else {}


def find_evaluations(
    run: Path,
    snapshots: Sequence[Snapshot],
    results: Sequence[Path],
    *,
    on_damaged: Callable[[DataError], None] = lambda error: None,
) -> list[Evaluation]:
    """The evaluations of a run's snapshots, by iteration; of several of a snapshot on the same images, the last.

    Args:
        run: the run's folder.
        snapshots: the run's snapshots.
        results: parents of the folders of label maps; those of other runs are skipped.
        on_damaged: called with an error for each `scores.json` that cannot be read or is older than the run.
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
        # The IoU commands do not know the weights: these evaluations are matched by the folder's name.
        named = evaluation.weights is None and path.parent.name.rpartition("_")[0] == run.resolve().name
        if not named and evaluation.weights not in saved:
            continue
        if start and (scored := moment(evaluation.date)) and scored < start:
            on_damaged(DataError(f"{path.parent} was scored before the run in {run} began: it is of an earlier run"))
        else:
            found[path.parent.resolve()] = evaluation
    newest = sorted(found.values(), key=lambda one: one.date, reverse=True)
    kept = list(_each_once(newest))
    return sorted(kept, key=lambda one: (one.iteration is None, one.iteration or 0, _is_best(one), one.date))


def _each_once(newest: Sequence[Evaluation]) -> Iterator[Evaluation]:
    """Yields the evaluations, newest first, without further ones of a snapshot that is seen alike on the same images.

    Weights that are the best, or unknown, are those of their iteration, where that was evaluated too.
    """
    known: set[tuple[Any, ...]] = set()
    for one in sorted(newest, key=lambda one: (_is_best(one), one.weights is None)):
        named = one.weights is not None and not _is_best(one)
        snapshot = one.weights or one.folder if named or one.iteration is None else one.iteration
        if (snapshot, one.scored, one.views) not in known:
            known |= {(name, one.scored, one.views) for name in (snapshot, one.iteration)}
            yield one


def _is_best(evaluation: Evaluation) -> bool:
    return evaluation.weights is not None and evaluation.weights.stem.endswith(BEST)
