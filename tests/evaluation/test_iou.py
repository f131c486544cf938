import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clan.datasets.labels import CITYSCAPES, LabelSpace
from clan.evaluation.iou import iou_per_class, mean_iou, score

NUM_CLASSES = 5
CONFUSIONS = hnp.arrays(np.int64, (NUM_CLASSES, NUM_CLASSES), elements=st.one_of(st.just(0), st.integers(0, 10**12)))


@given(CONFUSIONS)
def test_iou_is_intersection_over_union(confusion):
    for c, iou in enumerate(iou_per_class(confusion)):
        union = sum(int(confusion[i, j]) for i in range(NUM_CLASSES) for j in range(NUM_CLASSES) if c in (i, j))
        if union == 0:
            assert math.isnan(iou)
        else:
            assert iou == pytest.approx(int(confusion[c, c]) / union, rel=1e-12)


@given(CONFUSIONS, st.permutations(range(NUM_CLASSES)))
def test_permuting_classes_permutes_ious_and_keeps_their_mean(confusion, order):
    ious, permuted = iou_per_class(confusion), iou_per_class(confusion[np.ix_(order, order)])
    np.testing.assert_array_equal(permuted, ious[order])
    assert mean_iou(permuted) == pytest.approx(mean_iou(ious), nan_ok=True)


@given(hnp.arrays(np.int64, NUM_CLASSES, elements=st.integers(0, 10**12)))
def test_a_perfect_prediction_scores_one_and_absent_classes_nothing(pixels):
    ious = iou_per_class(np.diag(pixels))
    np.testing.assert_array_equal(ious, np.where(pixels > 0, 1.0, np.nan))
    assert mean_iou(ious) == pytest.approx(1.0 if pixels.any() else math.nan, nan_ok=True)


def test_a_class_that_is_predicted_but_never_true_scores_zero():
    np.testing.assert_array_equal(iou_per_class(np.array([[3, 1], [0, 0]])), [0.75, 0.0])


def test_the_mean_leaves_out_absent_classes_without_a_warning():
    ious = np.array([0.5, np.nan, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean_iou(ious) == 0.75
        assert mean_iou(ious, subset=(1, 2)) == 1.0
        assert math.isnan(mean_iou(ious, subset=(1,)))


def test_scores_hold_the_three_means_of_cityscapes_and_cannot_be_changed():
    confusion = np.diag(np.arange(19))
    confusion[1:, 0] = 1
    scores = score(confusion, CITYSCAPES)
    assert scores.names == CITYSCAPES.names
    assert list(scores.means) == ["mIoU-19", "mIoU-16", "mIoU-13"]
    for name, subset in CITYSCAPES.subsets.items():
        assert scores.means[name] == pytest.approx(scores.iou[list(subset)].mean())
    for array in (scores.confusion, scores.iou):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    confusion[0, 0] = 7
    assert scores.confusion[0, 0] == 0


def test_a_label_space_without_subsets_has_one_mean():
    scores = score(np.array([[3, 1], [0, 0]]), LabelSpace(("a", "b"), ((0, 0, 0), (1, 1, 1))))
    assert scores.means == {"mIoU": 0.375}
