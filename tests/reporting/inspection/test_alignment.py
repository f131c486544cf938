import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clan.reporting.inspection.alignment import FEWEST, FeatureSample, centre_distances, principal_components, tsne
from tests.needs import module

CLASSES, CHANNELS = 3, 6


def cloud(seed=0, cells=90):
    random = np.random.default_rng(seed)
    train_ids = np.arange(cells) % CLASSES
    centres = random.normal(0, 5, (CLASSES, CHANNELS))
    return (centres[train_ids] + random.normal(0, 1, (cells, CHANNELS))).astype(np.float32), train_ids.astype(np.uint8)


def sampled(features, train_ids, points=7, seed=0):
    sample = FeatureSample(CLASSES, points, (seed,))
    sample.add(features, train_ids)
    return sample


def test_the_same_features_have_the_same_centres():
    features, train_ids = cloud()
    order = np.random.default_rng(1).permutation(len(train_ids))
    distance, relative = centre_distances(sampled(features, train_ids), sampled(features[order], train_ids[order]))
    np.testing.assert_allclose(distance, 0, atol=1e-6)
    np.testing.assert_allclose(relative, 0, atol=1e-6)


def test_a_shift_is_the_distance_of_every_class():
    features, train_ids = cloud()
    shift = np.array([3, 4, 0, 0, 0, 0], np.float32)
    distance, relative = centre_distances(sampled(features, train_ids), sampled(features + shift, train_ids))
    np.testing.assert_allclose(distance, 5, rtol=1e-5)
    centres = np.stack([features[train_ids == k].mean(axis=0) for k in range(CLASSES)])
    apart = np.linalg.norm(centres[:, None] - centres, axis=-1).sum(axis=1) / (CLASSES - 1)
    np.testing.assert_allclose(relative, 5 / apart, rtol=1e-5)


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_scaling_turning_and_shifting_all_features_changes_no_relative_distance(scale, seed):
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(CHANNELS, CHANNELS)))
    (source, source_ids), (target, target_ids) = cloud(), cloud(1)

    def moved(features):
        return (scale * features @ turn + seed).astype(np.float32)

    before = centre_distances(sampled(source, source_ids), sampled(target, target_ids))
    after = centre_distances(sampled(moved(source), source_ids), sampled(moved(target), target_ids))
    np.testing.assert_allclose(after[1], before[1], rtol=1e-2)
    np.testing.assert_allclose(after[0], scale * before[0], rtol=1e-2)


def test_a_handful_of_cells_has_no_centre():
    features, train_ids = cloud()
    few = np.concatenate([np.flatnonzero(train_ids == 2)[: FEWEST - 1], np.flatnonzero(train_ids < 2)])
    distance, relative = centre_distances(sampled(features, train_ids), sampled(features[few], train_ids[few]))
    assert np.isnan(distance).tolist() == np.isnan(relative).tolist() == [False, False, True]


def test_a_sample_is_balanced_and_does_not_depend_on_how_cells_arrive():
    features, train_ids = cloud()
    train_ids[:5] = 255
    whole, parts = sampled(features, train_ids), FeatureSample(CLASSES, 7, (0,))
    for part in (slice(0, 40), slice(40, None)):
        parts.add(features[part], train_ids[part])
    rows, classes = whole.sample()
    assert np.bincount(classes).tolist() == [7] * CLASSES
    assert {row.tobytes() for row in rows} <= {row.tobytes() for row in features[5:]}
    assert len({row.tobytes() for row in rows}) == len(rows)
    np.testing.assert_array_equal(parts.sample()[0], rows)
    np.testing.assert_allclose(parts.centre(0), features[train_ids == 0].mean(axis=0), rtol=1e-5)
    assert not np.array_equal(sampled(features, train_ids, seed=1).sample()[0], rows)


def test_principal_components_are_those_of_the_covariance():
    points, _ = cloud()
    flat, variance = principal_components(points, 2)
    values = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    np.testing.assert_allclose(flat.var(axis=0, ddof=1), values[:2], rtol=1e-4)
    np.testing.assert_allclose(variance, values[:2] / values.sum(), rtol=1e-4)
    whole, _ = principal_components(points, CHANNELS)
    distances = [np.linalg.norm(one[0] - one[1:], axis=1) for one in (points, whole)]
    np.testing.assert_allclose(*distances, rtol=1e-4)


def test_tsne_depends_on_the_seed_alone_and_may_be_missing(monkeypatch):
    module("sklearn", "extras")
    points, _ = cloud(cells=30)
    first = tsne(points, seed=0)
    assert first is not None and first.shape == (30, 2) and np.isfinite(first).all()
    np.testing.assert_array_equal(tsne(points, seed=0), first)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    assert tsne(points, seed=0) is None
