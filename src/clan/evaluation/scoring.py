"""Scores predicted label maps against ground truth."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from clan.core.errors import ConfigError, DataError
from clan.core.output import progress
from clan.core.runtime import available_cores
from clan.data.dataset import Dataset
from clan.data.image_files import read_id_label
from clan.data.lists import plain_path, read_lines
from clan.data.pairing import list_files
from clan.datasets import CITYSCAPES_CLASSES, Classes, packaged
from clan.datasets.labels import CITYSCAPES, IGNORE, LabelSpace, lookup_table
from clan.evaluation.confusion import confusion_matrix
from clan.evaluation.iou import Scores, score

TRUTH_SUFFIX = "_gtFine_labelIds.png"
IMAGE_SUFFIX = "_leftImg8bit.png"

DEVKIT = "a devkit folder holds val.txt, label.txt and info.json"

PredictionIds = Literal["trainId", "labelId"]


class LabelPair(NamedTuple):
    """The files of the ground truth and the prediction of one image."""

    truth: Path
    prediction: Path


OnPair = Callable[[LabelPair, np.ndarray], object]


def count_folders(
    truth_dir: str | Path,
    prediction_dir: str | Path,
    *,
    devkit_dir: str | Path | None = None,
    images: Sequence[str] | None = None,
    classes: Classes = CITYSCAPES_CLASSES,
    prediction_ids: PredictionIds = "trainId",
    workers: int | None = None,
    on_pair: OnPair = lambda pair, confusion: None,
) -> tuple[np.ndarray, LabelSpace]:
    """Computes the confusion matrix of a folder of predictions, with a progress bar; see `find_pairs`.

    Args:
        truth_dir: ground truth, 8-bit PNGs of Cityscapes labelIds (or the ids of the devkit's info.json).
        prediction_dir: predictions, 8-bit PNGs, all in this one folder.
        devkit_dir: a folder with val.txt, label.txt and info.json; None: the built-in lists.
        images: score only these images, named relative to their split's folder (CITY/X_leftImg8bit.png).
        classes: the classes that trainIds stand for. A devkit with the same number of classes renames those of
            Cityscapes; one with another number replaces them, and only the mean over all its classes is computed.
        prediction_ids: whether predictions hold trainIds or the ids of the ground truth.
        workers: number of threads, at least 1; None: one per available core.
        on_pair: called in this thread with each pair and its confusion matrix, int64 [C, C].

    Returns:
        The confusion matrix over all pairs, int64 [C, C], and the label space of its rows and columns.

    Raises:
        DataError: a folder, list or PNG is missing, damaged or of another format.
        ConfigError: the devkit's classes differ from `classes`.
    """
    label_space, truth_table = classes.label_space, classes.table(packaged("cityscapes"))[:256]
    if devkit_dir is not None:
        label_space, truth_table = _read_info(Path(devkit_dir) / "info.json")
        if classes != CITYSCAPES_CLASSES and label_space.names != classes.label_space.names:
            raise ConfigError(
                f"{devkit_dir}/info.json has {label_space.num_classes} classes, but the label maps hold the "
                f"{classes.title}: leave the devkit out, or list these classes in its info.json"
            )
    pairs = find_pairs(truth_dir, prediction_dir, devkit_dir=devkit_dir, images=images)
    tables = {"truth_table": truth_table}
    if prediction_ids == "labelId":
        tables["prediction_table"] = truth_table

    def compare(pair: LabelPair) -> np.ndarray:
        return _compare(pair, read_id_label(pair.truth), label_space.num_classes, prediction_ids, tables)

    title = f"scoring {Path(prediction_dir).name}"
    return _count(pairs, compare, label_space.num_classes, title, workers, on_pair), label_space


def score_folders(truth_dir: str | Path, prediction_dir: str | Path, **options: Any) -> Scores:
    """Scores a folder of predictions; the arguments are those of `count_folders`."""
    return score(*count_folders(truth_dir, prediction_dir, **options))


def count_dataset(
    dataset: Dataset,
    prediction_dir: Path,
    *,
    prediction_ids: PredictionIds = "trainId",
    workers: int | None = None,
    on_pair: OnPair = lambda pair, confusion: None,
) -> np.ndarray:
    """Computes the confusion matrix of the predictions for a data set, in its classes, with a progress bar.

    Args:
        dataset: the images and their ground truth.
        prediction_dir: predictions, 8-bit PNGs, named as `clan.evaluation.label_maps.evaluate` names them.
        prediction_ids: whether predictions hold trainIds or the ids of the ground truth.
        workers: number of threads, at least 1; None: one per available core.
        on_pair: called in this thread with each pair and its confusion matrix, int64 [C, C].

    Returns:
        int64 [C, C].

    Raises:
        DataError: a ground truth or a prediction is missing, damaged or of another format.
    """
    require_truths(dataset)
    pairs = [
        LabelPair(dataset.label_path(index), prediction_dir / f"{stem}.png") for index, stem in enumerate(dataset.stems)
    ]
    _require_all("predictions", [pair.prediction for pair in pairs], "evaluate the whole set before scoring it")
    tables = {} if prediction_ids == "trainId" else {"prediction_table": dataset.table[:256]}
    num_classes = dataset.classes.label_space.num_classes
    indices = {pair: index for index, pair in enumerate(pairs)}

    def compare(pair: LabelPair) -> np.ndarray:
        return _compare(pair, dataset.read_label(indices[pair]), num_classes, prediction_ids, tables)

    return _count(pairs, compare, num_classes, f"scoring {prediction_dir.name}", workers, on_pair)


def require_truths(dataset: Dataset) -> None:
    """Raises DataError unless every image of a data set has a ground truth."""
    truths = [dataset.label_path(index) for index in range(len(dataset))]
    _require_all("ground truths", truths, "check the description and the folder, or list the images that have one")


def score_dataset(dataset: Dataset, prediction_dir: Path, **options: Any) -> Scores:
    """Scores the predictions for a data set; the arguments are those of `count_dataset`."""
    return score(count_dataset(dataset, prediction_dir, **options), dataset.classes.label_space)


def _count(
    pairs: Sequence[LabelPair],
    compare: Callable[[LabelPair], np.ndarray],
    num_classes: int,
    title: str,
    workers: int | None,
    on_pair: OnPair,
) -> np.ndarray:
    """The sum of the confusion matrices of all pairs, int64 [C, C]; shows a progress bar."""
    total = np.zeros((num_classes, num_classes), np.int64)
    # Threads are as fast as processes here and start at once: Pillow decodes without holding Python's lock.
    with progress(title, len(pairs)) as advance, ThreadPoolExecutor(workers or available_cores()) as pool:
        for pair, confusion in zip(pairs, pool.map(compare, pairs), strict=True):
            total += confusion
            on_pair(pair, confusion)
            advance()
    return total


def _compare(
    pair: LabelPair, truth: np.ndarray, num_classes: int, ids: PredictionIds, tables: dict[str, np.ndarray]
) -> np.ndarray:
    """The confusion matrix, int64 [C, C], of one prediction and its ground truth."""
    prediction = read_id_label(pair.prediction)
    if truth.shape != prediction.shape:
        raise DataError(
            f"Prediction {pair.prediction} is {_size(prediction)} but {pair.truth} is {_size(truth)}: "
            "save predictions at the size of the ground truth"
        )
    try:
        return confusion_matrix(truth, prediction, num_classes, **tables)
    except DataError as error:
        raise DataError(
            f"{pair.prediction}: {error}; its values are read as {ids}s: write {ids}s, or set prediction_ids"
        ) from None


def find_pairs(
    truth_dir: str | Path,
    prediction_dir: str | Path,
    *,
    devkit_dir: str | Path | None = None,
    images: Sequence[str] | None = None,
) -> list[LabelPair]:
    """Finds the prediction of every ground truth.

    With a devkit, line k of label.txt is the truth below `truth_dir` of the image in line k of val.txt.
    Without one, the truths are all `X_gtFine_labelIds.png` below `truth_dir`, sorted, and their images
    `X_leftImg8bit.png`; `images` selects some of them. A prediction has its image's file name and lies directly in
    `prediction_dir`.

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
    """All ground truths below a folder, sorted, and the file names of their images; see `list_files`."""
    truths = [truth_dir / path for path in list_files(truth_dir) if path.endswith(TRUTH_SUFFIX)]
    if not truths:
        raise DataError(f"No *{TRUTH_SUFFIX} below {truth_dir}: is this the gtFine/val folder?")
    return truths, [truth.name.removesuffix(TRUTH_SUFFIX) + IMAGE_SUFFIX for truth in truths]


def _read_lists(truth_dir: Path, devkit_dir: Path) -> tuple[list[Path], list[str]]:
    """The ground truths listed by a devkit, in its order, and the file names of their images."""
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


def _size(ids: np.ndarray) -> str:
    height, width = ids.shape
    return f"{width}×{height}"


def _read_info(path: Path) -> tuple[LabelSpace, np.ndarray]:
    """The label space and the table id → trainId (uint8 [256]) of a devkit's info.json."""
    try:
        info = json.loads(_read_text(path))
        names = tuple(str(name) for name in info["label"])
        to_train_id = {int(label): int(train_id) for label, train_id in info["label2train"]}
        if not 0 < len(names) <= IGNORE:
            raise ValueError(f"{len(names)} classes, not 1 to {IGNORE}")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f'{path} is no devkit description ({error!r}): it needs "label", the class names, '
            'and "label2train", pairs of id and trainId'
        ) from error
    to_train_id.pop(-1, None)  # the licence plates of Cityscapes: no 8-bit image can hold this id
    for label, train_id in to_train_id.items():
        if not 0 <= label <= 255 or not (0 <= train_id < len(names) or train_id == IGNORE):
            raise DataError(
                f"{path} maps id {label} to trainId {train_id}: ids are 0…255, trainIds 0…{len(names) - 1} or {IGNORE}"
            )
    if len(names) == CITYSCAPES.num_classes:
        return replace(CITYSCAPES, names=names), lookup_table(to_train_id)
    return LabelSpace(names, colors=((0, 0, 0),) * len(names)), lookup_table(to_train_id)


def _read_lines(path: Path) -> list[str]:
    """The paths of a list file, without comments."""
    try:
        return [plain_path(line) for _, line in read_lines(path) if not line.startswith("#")]
    except DataError as error:
        raise DataError(f"{error}; {DEVKIT}") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): {DEVKIT}") from error
