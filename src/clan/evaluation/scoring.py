"""Score a folder of predicted label maps against a folder of ground truth."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from clan.core.errors import ConfigError, DataError
from clan.core.progress import progress
from clan.core.runtime import available_cores
from clan.data.dataset import Dataset
from clan.data.image_files import read_id_label
from clan.data.lists import plain_path, read_lines
from clan.datasets import CITYSCAPES_CLASSES, Classes, packaged
from clan.datasets.labels import CITYSCAPES, IGNORE, LabelSpace, lookup_table
from clan.evaluation.confusion import confusion_matrix
from clan.evaluation.iou import Scores, score

TRUTH_SUFFIX = "_gtFine_labelIds.png"
IMAGE_SUFFIX = "_leftImg8bit.png"

PredictionIds = Literal["trainId", "labelId"]


class LabelPair(NamedTuple):
    """The ground truth of an image and what was predicted for it."""

    truth: Path
    prediction: Path


def count_folders(
    truth_dir: str | Path,
    prediction_dir: str | Path,
    *,
    devkit_dir: str | Path | None = None,
    images: Sequence[str] | None = None,
    classes: Classes = CITYSCAPES_CLASSES,
    prediction_ids: PredictionIds = "trainId",
    workers: int | None = None,
    on_pair: Callable[[LabelPair, np.ndarray, int], None] | None = None,
) -> tuple[np.ndarray, LabelSpace]:
    """Compare every prediction with its ground truth; see `find_pairs` for which belong together.

    Args:
        truth_dir: ground truth, 8-bit PNGs of Cityscapes ids (or those of the devkit's info.json).
        prediction_dir: predictions, 8-bit PNGs, all in this one folder.
        devkit_dir: a folder with val.txt, label.txt and info.json, instead of the built-in lists.
        images: score these alone, by name relative to their split's folder (CITY/X_leftImg8bit.png).
        classes: the classes that trainIds stand for. A devkit with as many classes renames those of Cityscapes; one
            with another number replaces them, and only their plain mean is taken.
        prediction_ids: whether predictions hold trainIds or the ids that the ground truth holds.
        workers: number of threads, at least 1; by default one per core at hand.
        on_pair: called with each pair, its own confusion matrix and the number of pairs, in this thread.

    Returns:
        The confusion matrix over all pairs, int64 [C, C], and the classes that it counts.

    Raises:
        DataError: a folder, list or PNG is missing, damaged or not what it should be.
        ConfigError: the devkit has other classes than those given.
    """
    label_space, truth_table = classes.label_space, classes.table(packaged("cityscapes"))[:256]
    if devkit_dir is not None:
        label_space, truth_table = _read_info(Path(devkit_dir) / "info.json")
        if classes != CITYSCAPES_CLASSES and label_space.names != classes.label_space.names:
            raise ConfigError(
                f"{devkit_dir}/info.json has {label_space.num_classes} classes, but the label maps hold the "
                f"{classes.title}: leave the devkit out, or describe these classes in it"
            )
    pairs = find_pairs(truth_dir, prediction_dir, devkit_dir=devkit_dir, images=images)
    compare = partial(
        _compare, num_classes=label_space.num_classes, truth_table=truth_table, prediction_ids=prediction_ids
    )
    total = np.zeros((label_space.num_classes, label_space.num_classes), np.int64)
    # Threads do as well as processes and start at once: Pillow decodes without holding Python's lock.
    with ThreadPoolExecutor(workers or available_cores()) as pool:
        for pair, confusion in zip(pairs, pool.map(compare, pairs), strict=True):
            total += confusion
            if on_pair is not None:
                on_pair(pair, confusion, len(pairs))
    return total, label_space


def score_folders(truth_dir: str | Path, prediction_dir: str | Path, **options: Any) -> Scores:
    """The scores of what `count_folders`, which takes the same arguments, counts."""
    return score(*count_folders(truth_dir, prediction_dir, **options))


def count_with_progress(
    truth_dir: Path,
    prediction_dir: Path,
    *,
    on_pair: Callable[[LabelPair, np.ndarray], None] = lambda pair, confusion: None,
    **options: Any,
) -> tuple[np.ndarray, LabelSpace]:
    """`count_folders`, showing how far it has come; `on_pair` is called with each pair and its confusion matrix."""
    with progress(f"scoring {prediction_dir.name}") as advance:

        def note(pair: LabelPair, confusion: np.ndarray, total: int) -> None:
            on_pair(pair, confusion)
            advance(total=total)

        return count_folders(truth_dir, prediction_dir, on_pair=note, **options)


def count_dataset(
    dataset: Dataset,
    prediction_dir: Path,
    *,
    prediction_ids: PredictionIds = "trainId",
    workers: int | None = None,
    on_pair: Callable[[LabelPair, np.ndarray], None] = lambda pair, confusion: None,
) -> np.ndarray:
    """Compare the predictions for a data set with its ground truth, in its classes, showing how far it has come.

    Args:
        dataset: the images and their ground truth.
        prediction_dir: predictions, 8-bit PNGs, named as `clan.evaluation.label_maps.evaluate` names them.
        prediction_ids: whether predictions hold trainIds or the ids that the ground truth holds.
        workers: number of threads, at least 1; by default one per core at hand.
        on_pair: called with each pair and its own confusion matrix, in this thread.

    Returns:
        The confusion matrix, int64 [C, C].

    Raises:
        DataError: a ground truth or a prediction is missing, damaged or not what it should be.
    """
    pairs = [
        LabelPair(dataset.label_path(index), prediction_dir / f"{stem}.png") for index, stem in enumerate(dataset.stems)
    ]
    _require_all("ground truths", [pair.truth for pair in pairs], "check the description and the folder")
    _require_all("predictions", [pair.prediction for pair in pairs], "evaluate the whole set before scoring it")
    tables = {} if prediction_ids == "trainId" else {"prediction_table": dataset.table[:256]}
    num_classes = dataset.classes.label_space.num_classes

    def compare(index: int) -> np.ndarray:
        truth, prediction = dataset.read_label(index), read_id_label(pairs[index].prediction)
        _require_same_size(pairs[index], truth, prediction)
        with _naming(pairs[index].prediction, prediction_ids):
            return confusion_matrix(truth, prediction, num_classes, **tables)

    total = np.zeros((num_classes, num_classes), np.int64)
    with (
        progress(f"scoring {prediction_dir.name}", len(pairs)) as advance,
        ThreadPoolExecutor(workers or available_cores()) as pool,
    ):
        for pair, confusion in zip(pairs, pool.map(compare, range(len(pairs))), strict=True):
            total += confusion
            on_pair(pair, confusion)
            advance()
    return total


def score_dataset(dataset: Dataset, prediction_dir: Path, **options: Any) -> Scores:
    """The scores of what `count_dataset`, which takes the same arguments, counts."""
    return score(count_dataset(dataset, prediction_dir, **options), dataset.classes.label_space)


def score_with_progress(truth_dir: Path, prediction_dir: Path, **options: Any) -> Scores:
    """`score_folders`, showing how far it has come."""
    return score(*count_with_progress(truth_dir, prediction_dir, **options))


def find_pairs(
    truth_dir: str | Path,
    prediction_dir: str | Path,
    *,
    devkit_dir: str | Path | None = None,
    images: Sequence[str] | None = None,
) -> list[LabelPair]:
    """Pairs ground truths with predictions.

    With a devkit, line k of label.txt is the truth below `truth_dir` of the image in line k of val.txt.
    Without one, the truths are all `X_gtFine_labelIds.png` below `truth_dir`, sorted, and their images
    `X_leftImg8bit.png`; `images` names some of them. Predictions bear the image's file name and lie directly
    in `prediction_dir`.

    Raises:
        DataError: a folder, a list or one of the files is missing, or the lists do not match.
    """
    truth_dir, prediction_dir = Path(truth_dir), Path(prediction_dir)
    for role, folder in (("Ground-truth", truth_dir), ("Prediction", prediction_dir)):
        if not folder.is_dir():
            raise DataError(f"{role} folder {folder} does not exist: check the path")
    if images is not None:
        truths = [truth_dir / image.replace(IMAGE_SUFFIX, TRUTH_SUFFIX) for image in images]
    elif devkit_dir is not None:
        truths, images = _read_lists(truth_dir, Path(devkit_dir))
    else:
        truths, images = _search(truth_dir)
    predictions = [prediction_dir / Path(image).name for image in images]
    _require_all("ground truths", truths, "check the list and the folder")
    _require_all("predictions", predictions, "evaluate the whole set before scoring it")
    return [LabelPair(*pair) for pair in zip(truths, predictions, strict=True)]


def _search(truth_dir: Path) -> tuple[list[Path], list[str]]:
    """All ground truths below a folder, sorted, and the names of their images."""
    truths = sorted(truth_dir.rglob(f"*{TRUTH_SUFFIX}"))
    if not truths:
        raise DataError(f"No *{TRUTH_SUFFIX} below {truth_dir}: is this the gtFine/val folder?")
    return truths, [truth.name.removesuffix(TRUTH_SUFFIX) + IMAGE_SUFFIX for truth in truths]


def _read_lists(truth_dir: Path, devkit_dir: Path) -> tuple[list[Path], list[str]]:
    """The ground truths that a devkit lists, in its order, and the names of their images."""
    truths = [truth_dir / line for line in _read_lines(devkit_dir / "label.txt")]
    images = _read_lines(devkit_dir / "val.txt")
    if len(images) != len(truths):
        raise DataError(
            f"{devkit_dir / 'val.txt'} names {len(images)} images but label.txt names {len(truths)} "
            "ground truths: line k of one must belong to line k of the other"
        )
    if not truths:
        raise DataError(f"{devkit_dir / 'label.txt'} is empty: list one ground truth per line")
    return truths, images


def _require_all(role: str, files: Sequence[Path], remedy: str) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(files)} {role} are missing, first {missing[0]}: {remedy}")


def _compare(pair: LabelPair, num_classes: int, truth_table: np.ndarray, prediction_ids: PredictionIds) -> np.ndarray:
    """The confusion matrix, int64 [C, C], of one pair of files."""
    truth, prediction = read_id_label(pair.truth), read_id_label(pair.prediction)
    _require_same_size(pair, truth, prediction)
    tables = {} if prediction_ids == "trainId" else {"prediction_table": truth_table}
    with _naming(pair.prediction, prediction_ids):
        return confusion_matrix(truth, prediction, num_classes, truth_table=truth_table, **tables)


def _require_same_size(pair: LabelPair, truth: np.ndarray, prediction: np.ndarray) -> None:
    if truth.shape != prediction.shape:
        raise DataError(
            f"Prediction {pair.prediction} is {_size(prediction)} but {pair.truth} is {_size(truth)}: "
            "save predictions at the size of the ground truth"
        )


@contextmanager
def _naming(prediction: Path, ids: PredictionIds) -> Iterator[None]:
    """Within the block, what is wrong with the values of a prediction is said with its name."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{prediction}: {error}; it is read as {ids}s: save those, or set prediction_ids") from None


def _size(ids: np.ndarray) -> str:
    height, width = ids.shape
    return f"{width}×{height}"


def _read_info(path: Path) -> tuple[LabelSpace, np.ndarray]:
    """The classes and the table id → trainId (uint8 [256]) of a devkit's info.json."""
    try:
        info = json.loads(_read_text(path))
        names = tuple(str(name) for name in info["label"])
        to_train_id = {int(label): int(train_id) for label, train_id in info["label2train"]}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path} is no devkit description ({error!r}): it needs "label", the class names, '
            'and "label2train", pairs of id and trainId'
        ) from error
    to_train_id.pop(-1, None)  # Cityscapes' licence plates, an id that no 8-bit image can hold
    for label, train_id in to_train_id.items():
        if not 0 <= label <= 255 or not (0 <= train_id < len(names) or train_id == IGNORE):
            raise DataError(
                f"{path} maps id {label} to trainId {train_id}: ids are 0…255, trainIds 0…{len(names) - 1} or {IGNORE}"
            )
    if len(names) == CITYSCAPES.num_classes:
        return replace(CITYSCAPES, names=names), lookup_table(to_train_id)
    return LabelSpace(names, colors=((0, 0, 0),) * len(names)), lookup_table(to_train_id)


def _read_lines(path: Path) -> list[str]:
    """The paths in a list, without comments."""
    try:
        return [plain_path(line) for _, line in read_lines(path) if not line.startswith("#")]
    except DataError as error:
        raise DataError(f"{error}; a devkit folder holds val.txt, label.txt and info.json") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): a devkit folder holds val.txt, label.txt and info.json"
        ) from error
