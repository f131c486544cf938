import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clan.core.errors import DataError
from clan.datasets.labels import IGNORE, lookup_table
from clan.evaluation.confusion import confusion_matrix

NUM_CLASSES = 5
TRUTHS = st.sampled_from([*range(NUM_CLASSES), NUM_CLASSES, IGNORE])
PREDICTIONS = st.integers(0, NUM_CLASSES - 1)


@st.composite
def label_maps(draw, truths=TRUTHS):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=8))
    truth = draw(hnp.arrays(np.uint8, shape, elements=truths))
    return truth, draw(hnp.arrays(np.uint8, shape, elements=PREDICTIONS))


@given(label_maps())
def test_counts_like_a_double_loop(maps):
    truth, prediction = maps
    expected = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for t, p in zip(truth.flat, prediction.flat, strict=True):
        if t < NUM_CLASSES:
            expected[t, p] += 1
    confusion = confusion_matrix(truth, prediction, NUM_CLASSES)
    assert confusion.dtype == np.int64
    np.testing.assert_array_equal(confusion, expected)


@given(label_maps(), label_maps())
def test_confusion_of_a_concatenation_is_the_sum(one, other):
    joined = [np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(one, other, strict=True)]
    np.testing.assert_array_equal(
        confusion_matrix(*joined, NUM_CLASSES),
        confusion_matrix(*one, NUM_CLASSES) + confusion_matrix(*other, NUM_CLASSES),
    )


@given(label_maps(), st.permutations(range(NUM_CLASSES)))
def test_permuting_classes_permutes_rows_and_columns(maps, order):
    truth, prediction = maps
    renamed = lookup_table(dict(enumerate(order)))
    permuted = confusion_matrix(renamed[truth], renamed[prediction], NUM_CLASSES)
    np.testing.assert_array_equal(permuted[np.ix_(order, order)], confusion_matrix(truth, prediction, NUM_CLASSES))


@given(label_maps(truths=st.integers(NUM_CLASSES, 255)))
def test_ignored_truth_never_counts(maps):
    truth, prediction = maps
    assert confusion_matrix(truth, prediction, NUM_CLASSES).sum() == 0
    assert confusion_matrix(truth, np.full_like(prediction, 255), NUM_CLASSES).sum() == 0


@given(label_maps())
def test_inputs_are_left_alone_and_their_integer_type_does_not_matter(maps):
    before = [array.copy() for array in maps]
    narrow = confusion_matrix(*maps, NUM_CLASSES)
    np.testing.assert_array_equal(narrow, confusion_matrix(*(a.astype(np.int64) for a in maps), NUM_CLASSES))
    for array, copy in zip(maps, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_truth_beyond_eight_bits_is_skipped_not_wrapped():
    truth = np.array([-1, 0, 256, 257, -255])
    np.testing.assert_array_equal(confusion_matrix(truth, np.zeros_like(truth), 2), [[1, 0], [0, 0]])


@given(label_maps())
def test_tables_translate_like_translated_maps(maps):
    table = lookup_table({4: 0, 2: 1, 0: 2, 1: 3, 3: 4})
    np.testing.assert_array_equal(
        confusion_matrix(*maps, NUM_CLASSES, truth_table=table, prediction_table=table),
        confusion_matrix(table[maps[0]], table[maps[1]], NUM_CLASSES),
    )


@pytest.mark.parametrize("stray", [NUM_CLASSES, 255])
def test_a_prediction_that_is_no_class_is_refused_on_pixels_of_a_class(stray):
    truth = np.array([0, 1, 1, IGNORE], np.uint8)
    prediction = np.array([0, stray, stray, stray], np.uint8)
    with pytest.raises(DataError, match=rf"values {stray} .* 5 classes.* 2 pixels"):
        confusion_matrix(truth, prediction, NUM_CLASSES)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), NUM_CLASSES)
