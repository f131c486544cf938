"""How many pixels of each class every label of a data set has: counted in parallel, and kept in a file."""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clan.core.errors import DataError
from clan.core.files import UnfitFile, as_json, read_whole, write_file
from clan.core.runtime import available_cores
from clan.data.dataset import Dataset

_LARGEST_FILE = 1 << 30


@dataclass(frozen=True)
class ClassPixels:
    """Pixels of each class in the labels of a data set, as stored.

    Args:
        counts: int64 [N, C], pixels of each class in each label; zeros for an unreadable label.
        areas: int64 [N], pixels of each label, including those that are ignored; 1 for an unreadable label.
        unreadable: number of unreadable labels.
    """

    counts: np.ndarray
    areas: np.ndarray
    unreadable: int = 0

    @property
    def total(self) -> np.ndarray:
        """Pixels of each class in all labels, int64 [C]."""
        return self.counts.sum(0)


def count_pixels(
    dataset: Dataset,
    indices: Sequence[int] | None = None,
    *,
    on_label: Callable[[], None] = lambda: None,
    on_unreadable: Callable[[DataError], None],
) -> ClassPixels:
    """Counts the pixels of each class in labels, on all cores.

    Args:
        dataset: labelled data set.
        indices: the labels to count; None: all.
        on_label: called in this thread after each label.
        on_unreadable: called in this thread with the error of each unreadable label; what it raises ends the counting.
    """
    indices = range(len(dataset)) if indices is None else indices
    num_classes = dataset.classes.label_space.num_classes
    counts, areas, unreadable = np.zeros((len(indices), num_classes), np.int64), np.ones(len(indices), np.int64), 0

    def count(index: int) -> tuple[np.ndarray, int] | DataError:
        try:
            label = dataset.read_label(index)
        except DataError as error:
            return error
        return np.bincount(label.ravel(), minlength=256)[:num_classes], label.size

    with ThreadPoolExecutor(available_cores()) as pool:  # decoding and counting release Python's lock
        try:
            for row, found in enumerate(pool.map(count, indices)):
                if isinstance(found, DataError):
                    unreadable += 1
                    on_unreadable(found)
                else:
                    counts[row], areas[row] = found
                on_label()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # otherwise an interrupt would wait for all labels
            raise
    return ClassPixels(counts, areas, unreadable)


def fingerprint(dataset: Dataset) -> str:
    """Returns a digest of what the counts depend on.

    It covers the list of images, the mapping of ids or colours to classes, and of every label file path, size in bytes
    and times of change: of its content, which copying and unpacking may set back, and that of the system, which they
    cannot.
    """
    digest = hashlib.sha256()
    description = dataset.description.model_dump(mode="json", include={"encoding", "bits", "ignore", "labels"})
    digest.update(as_json([description, dataset.classes.label_space.num_classes]))
    digest.update(np.ascontiguousarray(dataset.table).tobytes())
    for index, name in enumerate(dataset.names):
        path = dataset.label_path(index)
        try:
            status = path.stat()
            times = [status.st_mtime_ns, status.st_ctime_ns]
            facts = [name, str(path.relative_to(dataset.root)), status.st_size, *times]
        except OSError:
            facts = [name, None]
        digest.update(as_json(facts))
    return digest.hexdigest()


def save_pixels(pixels: ClassPixels, dataset: Dataset, mark: str, path: Path) -> None:
    """Writes counts as JSON: classes, and a line per image with the pixels of its label and of each class.

    Args:
        pixels: the counts of all labels.
        dataset: the counted data set.
        mark: its `fingerprint`.
        path: the file.

    Raises:
        DataError: it cannot be written.
    """
    names = list(dataset.classes.label_space.names)
    rows = np.column_stack([pixels.areas, pixels.counts]).tolist()
    lines = [as_json({name: row}).decode()[1:-1] for name, row in zip(dataset.stems, rows, strict=True)]
    head = as_json({"fingerprint": mark, "columns": ["all", *names]}).decode()[1:-1]
    text = "{" + head + ', "images": [\n' + ",\n".join("{" + line + "}" for line in lines) + "\n]}\n"
    write_file(path, text.encode(), "free disk space, or choose another --snapshot-dir")


def load_pixels(dataset: Dataset, mark: str, path: Path) -> ClassPixels | None:
    """Reads what `save_pixels` wrote; None if there is no such file, or it is damaged or of other labels.

    Args:
        dataset: the data set.
        mark: its present `fingerprint`.
        path: the file.
    """
    try:
        content = json.loads(read_whole(path, _LARGEST_FILE))
        if content["fingerprint"] != mark:
            return None
        rows = np.array([next(iter(image.values()), []) for image in content["images"]], np.int64)
    except (OSError, UnfitFile, LookupError, ArithmeticError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    if rows.shape != (len(dataset), 1 + dataset.classes.label_space.num_classes) or (rows < 0).any():
        return None
    return ClassPixels(rows[:, 1:], rows[:, 0]) if rows[:, 0].all() else None
