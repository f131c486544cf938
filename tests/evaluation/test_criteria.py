"""Criteria without labels: each rises and falls with what it is meant to measure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.evaluation.criteria import (
    CRITERIA,
    agreement,
    agreement_of_points,
    alone,
    goodness,
    mutual_information,
    neighbourhood_density,
    pixel_entropy,
    rank_correlation,
    together,
)

CLASSES = 5


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def drawn(seed=0, count=200, scale=2.0):
    return softmax(scale * np.random.default_rng(seed).normal(size=(count, CLASSES)))


def as_points(probabilities):
    return np.rint(probabilities * 255).astype(np.uint8)


def test_entropy_is_zero_for_certainty_and_one_for_equal_probabilities():
    assert pixel_entropy(np.eye(CLASSES)) == pytest.approx(0)
    assert pixel_entropy(np.full((3, CLASSES), 1 / CLASSES)) == pytest.approx(1)
    assert pixel_entropy(drawn(scale=4.0)).mean() < pixel_entropy(drawn(scale=1.0)).mean()


@given(st.integers(0, 10**6), st.floats(0.1, 8))
def test_information_is_within_its_bounds_and_at_most_the_entropy_of_the_mean(seed, scale):
    p = drawn(seed, scale=scale)
    found = mutual_information(p.mean(axis=0), pixel_entropy(p).mean())
    assert -1e-9 <= found <= pixel_entropy(p.mean(axis=0)) + 1e-9  # entropy is concave


def test_information_sees_that_classes_are_lost_where_entropy_does_not():
    diverse, collapsed = np.eye(CLASSES)[np.arange(100) % CLASSES], np.eye(CLASSES)[np.zeros(100, int)]
    assert pixel_entropy(diverse).mean() == pixel_entropy(collapsed).mean() == pytest.approx(0)
    assert mutual_information(diverse.mean(axis=0), 0.0) == pytest.approx(1)
    assert mutual_information(collapsed.mean(axis=0), 0.0) == pytest.approx(0)


@given(st.lists(st.integers(0, 50), min_size=9, max_size=9))
def test_agreement_is_symmetric_and_bounded(counts):
    confusion = np.array(counts).reshape(3, 3)
    assert agreement(confusion) == pytest.approx(agreement(confusion.T))
    assert 0 <= agreement(confusion) <= 1


def test_agreement_is_one_only_if_every_class_is_there_and_agrees():
    assert agreement(np.diag([3, 1, 9])) == 1
    assert agreement(np.diag([3, 0, 9])) == pytest.approx(2 / 3)
    assert agreement(np.array([[3, 1, 0], [0, 1, 0], [0, 0, 9]])) < 1


def test_the_agreement_of_points_falls_with_noise():
    p = drawn()
    values = []
    for noise in (0.0, 0.5, 2.0):
        logits = np.log(p) + noise * np.random.default_rng(1).normal(size=p.shape)
        values.append(agreement_of_points(softmax(logits), p))
    assert values[0] == 1
    assert values == sorted(values, reverse=True)


def test_density_is_high_for_clusters_and_does_not_depend_on_order():
    """Points of two tight clusters have many equal neighbours; spread points have few near ones."""
    rng = np.random.default_rng(0)
    clustered = np.eye(CLASSES)[np.arange(60) % 2] * 0.9 + 0.02
    spread = softmax(6 * rng.normal(size=(60, CLASSES)))
    assert neighbourhood_density(clustered) > neighbourhood_density(spread)
    assert neighbourhood_density(spread[::-1]) == pytest.approx(neighbourhood_density(spread), abs=1e-6)
    assert neighbourhood_density(np.ones((10, CLASSES))) == pytest.approx(1)  # all neighbours are equally near


def test_density_is_what_the_formula_says():
    p = drawn(count=7)
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    entropies = []
    for i in range(7):
        weights = softmax(np.array([unit[i] @ unit[j] for j in range(7) if j != i]) / 0.05)
        entropies.append(-(weights * np.log(weights)).sum() / np.log(6))
    assert neighbourhood_density(p) == pytest.approx(np.mean(entropies), rel=1e-5)


def test_the_ensemble_prefers_what_most_agree_on():
    """Of several noisy copies of one prediction, the least noisy agrees most with the mean of all."""
    p = drawn(count=2000)
    noisy = [
        softmax(np.log(p) + noise * np.random.default_rng(seed).normal(size=p.shape))
        for seed, noise in enumerate((0.5, 1.0, 1.5, 2.0))
    ]
    found = [one["ensemble"] for one in together(list(map(as_points, noisy)), as_points(p))]
    assert found == sorted(found, reverse=True)
    averaged = [one["averaged"] for one in together(list(map(as_points, noisy)), as_points(p))]
    assert averaged == sorted(averaged, reverse=True)
    assert together([as_points(p)]) == [{}]  # alone, it agrees with itself, which says nothing


@given(st.lists(st.integers(-20, 20), min_size=3, max_size=12), st.integers(0, 10**6))
def test_rank_correlation_sees_ranks_alone(values, seed):
    other = np.random.default_rng(seed).permutation(values)
    found = rank_correlation(values, other)
    if len(set(values)) == 1:
        assert np.isnan(found)
        return
    assert -1 - 1e-9 <= found <= 1 + 1e-9
    assert rank_correlation(np.exp(np.array(values) / 10), other) == pytest.approx(found)
    assert rank_correlation(np.negative(values), other) == pytest.approx(-found)
    assert rank_correlation(values, values) == pytest.approx(1)


def test_rank_correlation_is_spearmans():
    assert rank_correlation([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)


def test_every_criterion_has_a_source_and_is_computed_from_what_it_needs():
    confusion = np.diag([4] * CLASSES)
    statistics = {
        "points": as_points(drawn()),
        "mean_probability": drawn().mean(axis=0),
        "entropy": np.array([0.3]),
        **{name: confusion for name in ("heads", "teacher", "flip", "jitter", "scale", "source")},
    }
    assert all(one.source and one.meaning for one in CRITERIA.values())
    assert {*alone(statistics), "ensemble", "averaged"} == CRITERIA.keys()
    for name, one in CRITERIA.items():
        for needed in one.needs:
            assert name not in alone({key: value for key, value in statistics.items() if key != needed})
    assert list(goodness("entropy", [1.0, 2.0])) == [-1, -2]
    assert list(goodness("heads", [1.0, 2.0])) == [1, 2]
