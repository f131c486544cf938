"""Counts of classes survive their file, and are never taken for other labels than they were made of."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from clan.core.errors import DataError
from clan.data.class_pixels import ClassPixels, count_pixels, fingerprint, load_pixels, save_pixels
from clan.data.dataset import Dataset
from clan.datasets import NAMED_CLASSES


def refuse(error):
    raise error


@pytest.fixture
def dataset(worlds, tmp_path):
    return Dataset("synthia", Path(shutil.copytree(worlds / "SYNTHIA/RAND_CITYSCAPES", tmp_path / "source")))


def test_counts_are_those_of_the_labels(dataset):
    done = []
    found = count_pixels(dataset, on_label=lambda: done.append(1), on_unreadable=refuse)
    labels = [dataset.read_label(index) for index in range(len(dataset))]
    expected = [[(label == kind).sum() for kind in range(19)] for label in labels]
    np.testing.assert_array_equal(found.counts, expected)
    np.testing.assert_array_equal(found.areas, [label.size for label in labels])
    np.testing.assert_array_equal(found.total, np.sum(expected, axis=0))
    np.testing.assert_array_equal(count_pixels(dataset, [2, 0], on_unreadable=refuse).counts, found.counts[[2, 0]])
    assert len(done) == len(dataset)


def test_an_unreadable_label_has_no_pixels(dataset):
    dataset.label_path(1).write_bytes(b"nothing")
    complaints = []
    found = count_pixels(dataset, on_unreadable=complaints.append)
    assert found.unreadable == len(complaints) == 1 and str(dataset.label_path(1)) in str(complaints[0])
    assert not found.counts[1].any() and found.areas[1] == 1
    with pytest.raises(DataError):
        count_pixels(dataset, on_unreadable=refuse)


def test_counts_survive_their_file(dataset, tmp_path):
    found, mark, path = count_pixels(dataset, on_unreadable=refuse), fingerprint(dataset), tmp_path / "a/counts.json"
    save_pixels(found, dataset, mark, path)
    again = load_pixels(dataset, mark, path)
    assert again is not None
    np.testing.assert_array_equal(again.counts, found.counts)
    np.testing.assert_array_equal(again.areas, found.areas)
    assert json.loads(path.read_text())["columns"][:2] == ["all", "road"]


def replace_unnoticed(path):
    """Another label of the same size in bytes and time of change, as archives without compression unpack it."""
    before = path.stat()
    time.sleep(0.02)  # longer than the steps of a file system's clock
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


CHANGES = {
    "content": lambda data: replace_unnoticed(data.label_path(0)),
    "size": lambda data: data.label_path(0).write_bytes(data.label_path(0).read_bytes() + b" "),
    "time": lambda data: os.utime(data.label_path(0), ns=(0, data.label_path(0).stat().st_mtime_ns + 1)),
    "file": lambda data: data.label_path(2).unlink(),
    "list": lambda data: data.names.reverse(),
    "mapping": lambda data: setattr(data, "table", np.where(data.table == 0, 1, data.table)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_counts_depend_on_changes_the_fingerprint(dataset, change):
    before = fingerprint(dataset)
    assert fingerprint(Dataset("synthia", dataset.root)) == before
    CHANGES[change](dataset)
    assert fingerprint(dataset) != before


def test_other_classes_change_the_fingerprint(dataset):
    merged = Dataset("synthia", dataset.root, classes=NAMED_CLASSES["synthia-13"])
    assert fingerprint(merged) != fingerprint(dataset)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"fingerprint": "', '"fingerprint": "0'),
        lambda text: text.replace("[8192,", "[-1,"),
        lambda text: text.replace("[8192,", "[0,"),
        lambda text: text.replace("[8192,", "[8192, 1,"),
        lambda text: text.replace("[8192,", '["8192x",'),
        lambda text: text.replace("[8192,", f"[{10**30},"),
    ],
)
def test_a_damaged_file_is_counted_again(dataset, tmp_path, damage):
    path, mark = tmp_path / "counts.json", fingerprint(dataset)
    save_pixels(ClassPixels(np.ones((3, 19), int), np.full(3, 8192)), dataset, mark, path)
    text = path.read_text()
    assert load_pixels(dataset, mark, path) and damage(text) != text
    path.write_text(damage(text))
    assert load_pixels(dataset, mark, path) is None
