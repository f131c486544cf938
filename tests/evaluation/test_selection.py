"""What is chosen of measurements, the warnings beside it, and the files that hold both."""

import json
from pathlib import Path

import numpy as np
import pytest

from clan.core.errors import ConfigError, DataError
from clan.evaluation.selection import (
    RESULT,
    Measured,
    choose,
    keep,
    kept,
    read_selection,
    write_selection,
)
from clan.run.folder import SELECTION, Snapshot

CLASSES = 4
BY_ALL = {"criterion": "ensemble"}


def measured(iteration, *, noise=0.0, classes=CLASSES, heads=1.0, seed=0):
    """Statistics of a snapshot whose predictions have so much noise and use so many classes."""
    labels = np.random.default_rng(9).integers(0, CLASSES, 400) % classes
    wrong = np.random.default_rng(seed).random(400) < noise
    labels = np.where(wrong, (labels + 1) % classes, labels)
    points = (np.eye(CLASSES)[labels] * 255).astype(np.uint8)
    agreeing = np.diag([int(100 * heads)] * CLASSES) + int(100 * (1 - heads)) * np.roll(np.eye(CLASSES, dtype=int), 1)
    statistics = {
        "points": points,
        "mean_probability": points.mean(axis=0) / 255,
        "entropy": np.array([1 - heads]),
        "heads": agreeing,
    }
    return Measured(Snapshot(Path(f"SYS_{iteration}.pdparams"), iteration), statistics)


def test_what_agrees_most_with_all_is_chosen():
    found = choose(
        [measured(k, noise=noise, seed=k) for k, noise in ((1, 0.4), (2, 0.05), (3, 0.2))], "images", **BY_ALL
    )
    assert found.snapshots[found.chosen].iteration == 2
    assert found.choice_of("ensemble") == 1
    assert found.choice_of("heads") == 2  # all equal: the later one


def test_a_single_snapshot_is_chosen_whatever_the_criteria():
    found = choose([measured(5)], "images")
    assert found.chosen == 0
    assert not found.warnings


def test_a_criterion_that_is_missing_somewhere_cannot_choose():
    lacking = measured(2)
    del lacking.statistics["heads"]
    with pytest.raises(ConfigError, match="heads is not known of every snapshot"):
        choose([measured(1), lacking], "images", criterion="heads")


def test_criteria_that_disagree_give_a_warning():
    agreeing = [(1, 0.4, 0.5), (2, 0.3, 0.7), (3, 0.02, 0.9)]
    opposed = [(1, 0.4, 0.9), (2, 0.3, 0.7), (3, 0.02, 0.5)]
    quiet, loud = (
        choose([measured(k, noise=noise, heads=heads, seed=k) for k, noise, heads in rows], "images", **BY_ALL)
        for rows in (agreeing, opposed)
    )
    assert quiet.chosen == loud.chosen == 2
    assert not any("criteria disagree" in one for one in quiet.warnings)
    assert any("criteria disagree" in one for one in loud.warnings)


def test_lost_classes_give_a_warning():
    found = choose([measured(k, classes=classes) for k, classes in ((1, 4), (2, 4), (3, 2))], "i", criterion="heads")
    assert found.chosen == 2
    assert any(one.startswith("2 of 4 classes are hardly predicted") for one in found.warnings)


def test_a_selection_is_read_as_it_was_written(tmp_path):
    found = choose([measured(1, noise=0.2), measured(2)], "3 images", **BY_ALL)
    path = write_selection(tmp_path, found)
    assert path == tmp_path / SELECTION / RESULT
    assert read_selection(tmp_path) == found
    assert read_selection(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("change", [{"chosen": 7}, {"criterion": "luck"}, {"snapshots": 3}, {"snapshots": [{}]}])
def test_a_damaged_selection_is_an_error(tmp_path, change):
    path = write_selection(tmp_path, choose([measured(1), measured(2)], "images", **BY_ALL))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=r"is damaged .*: run clan select again"):
        read_selection(tmp_path)


def test_measurements_are_kept_under_their_key(tmp_path):
    statistics = measured(1).statistics
    keep(tmp_path, "SYS_1", "key", statistics)
    found = kept(tmp_path, "SYS_1", "key", CLASSES)
    assert found is not None
    assert found.keys() == statistics.keys()
    assert all(np.array_equal(found[name], statistics[name]) for name in statistics)
    assert kept(tmp_path, "SYS_1", "another", CLASSES) is None
    assert kept(tmp_path, "SYS_1", "key", CLASSES + 1) is None
    assert kept(tmp_path, "SYS_2", "key", CLASSES) is None


def test_a_measurement_is_replaced_neither_by_one_of_other_images_nor_by_a_smaller_one(tmp_path):
    statistics = measured(1).statistics
    for key in ("1" * 64, "2" * 64):
        keep(tmp_path, "SYS_1", key, {**statistics, "teacher": statistics["heads"]})
    keep(tmp_path, "SYS_1", "1" * 64, statistics)
    for key in ("1" * 64, "2" * 64):
        assert kept(tmp_path, "SYS_1", key, CLASSES).keys() == {*statistics, "teacher"}
