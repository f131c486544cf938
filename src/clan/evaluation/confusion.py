"""Confusion matrices of label maps."""

import numpy as np

from clan.core.errors import DataError

_TRAIN_IDS = np.arange(256, dtype=np.uint8)


def confusion_matrix(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    *,
    truth_table: np.ndarray = _TRAIN_IDS,
    prediction_table: np.ndarray = _TRAIN_IDS,
) -> np.ndarray:
    """Counts how often each class was predicted as each class.

    Pixels whose ground truth is no class are skipped. All other pixels must be predicted as a class: skipping them
    would raise the score.

    Args:
        truth: the ground truth, integers of any shape; uint8 is fastest.
        prediction: integers of the same shape.
        num_classes: C, 1…255; the classes are the trainIds 0…C−1.
        truth_table: uint8 [256], the trainId of every value of `truth`; default: the value itself.
        prediction_table: uint8 [256], the trainId of every value of `prediction`; default: the value itself.

    Returns:
        int64 [C, C]; rows are the ground truth, columns the prediction.

    Raises:
        DataError: a pixel of a class is predicted as a value that is no class.
        ValueError: the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, prediction {prediction.shape}")
    # Adjacent pixels are mostly equal: counting runs of equal (truth, prediction) pairs is faster than counting
    # pixels. Only the pairs that occur, of 65,536, are looked up in the tables.
    truths, predictions = _as_bytes(truth).ravel(), _as_bytes(prediction).ravel()
    begins = np.ones(truths.size, bool)
    np.not_equal(truths[1:], truths[:-1], out=begins[1:])
    begins[1:] |= predictions[1:] != predictions[:-1]
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=truths.size)
    pairs = truths[starts].astype(np.uint16) << 8 | predictions[starts]
    counts = np.bincount(pairs, weights=lengths).astype(np.int64)  # sums of integers, exact to 2^53
    seen = np.flatnonzero(counts)
    seen = seen[truth_table[seen >> 8] < num_classes]
    rows, columns = truth_table[seen >> 8], prediction_table[seen & 0xFF]

    strays = seen[columns >= num_classes]
    if strays.size:
        values = ", ".join(map(str, np.unique(strays & 0xFF)))
        raise DataError(
            f"prediction values {values} are none of the {num_classes} classes, but are predicted for "
            f"{counts[strays].sum():,} pixels of a class"
        )
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (rows, columns), counts[seen])
    return confusion


def _as_bytes(ids: np.ndarray) -> np.ndarray:
    """The label map as uint8; values outside 0…254 become 255, which is never a class."""
    if ids.dtype == np.uint8:
        return ids
    return np.where((ids >= 0) & (ids < 255), ids, 255).astype(np.uint8)
