import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.evaluation.argmax import label_map
from clan.models.segmenter import upsample


def by_paddle(logits, size):
    return upsample(paddle.to_tensor(logits[None]), size)[0].argmax(axis=0).numpy()


def random_logits(shape, seed, levels):
    """Normal, or whole numbers of few values, which tie often."""
    random = np.random.default_rng(seed)
    values = random.integers(0, levels, shape) if levels else random.normal(size=shape)
    return values.astype(np.float32)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    seed=st.integers(0, 2**31),
    levels=st.sampled_from([0, 2, 4]),
)
def test_labels_equal_upsampling_and_argmax_to_the_last_pixel(shape, size, seed, levels):
    logits = random_logits(shape, seed, levels)
    np.testing.assert_array_equal(label_map(logits, size), by_paddle(logits, size))


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("smoothness", [1, 8])
def test_labels_are_equal_at_full_size(levels, smoothness):
    coarse = random_logits((19, 8, 16) if smoothness > 1 else (19, 65, 129), 0, levels)
    logits = upsample(paddle.to_tensor(coarse[None]), (65, 129))[0].numpy()
    np.testing.assert_array_equal(label_map(logits, (1024, 2048)), by_paddle(logits, (1024, 2048)))


def test_the_excluded_class_yields_to_the_next():
    logits = random_logits((5, 6, 7), 0, 0)
    without = np.delete(logits, 2, axis=0)
    expected = np.array([0, 1, 3, 4])[by_paddle(without, (40, 50))]
    np.testing.assert_array_equal(label_map(logits, (40, 50), excluded=2), expected)
    np.testing.assert_array_equal(label_map(logits, (40, 50), excluded=255), by_paddle(logits, (40, 50)))


def test_logits_that_are_no_numbers_give_labels_all_the_same():
    logits = np.full((3, 4, 5), np.nan, np.float32)
    assert set(np.unique(label_map(logits, (16, 20)))) <= {0, 1, 2}
