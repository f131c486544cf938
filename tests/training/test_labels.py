"""Laws of entropy, pseudo-labels and class weights."""

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle.nn import functional as F

from clan.losses.entropy import mean_entropy, self_information
from clan.losses.segmentation import segmentation_loss
from clan.losses.self_training import IGNORED, pseudo_labels
from clan.training.labels import class_weights, count_classes
from clan.training.trainer import Trainer, build_samplers


def probabilities(seed, classes, spread=3.0):
    random = np.random.default_rng(seed)
    return F.softmax(paddle.to_tensor(random.normal(0, spread, (2, classes, 5, 7)).astype(np.float32)), axis=1)


@settings(deadline=None)
@given(st.integers(2, 19))
def test_entropy_is_one_where_nothing_is_known_and_zero_where_all_is(classes):
    assert float(mean_entropy(paddle.full([1, classes, 2, 2], 1 / classes))) == pytest.approx(1, abs=1e-5)
    sure = F.one_hot(paddle.zeros([1, 2, 2], "int64"), classes).transpose([0, 3, 1, 2])
    sure.stop_gradient = False
    loss = mean_entropy(sure)
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(sure.grad.numpy()).all()


def test_self_information_stays_below_its_largest_value():
    largest = 1 / (math.e * math.log(6))
    information = self_information(probabilities(0, 6)).numpy()
    assert information.min() >= 0
    assert information.max() <= largest + 1e-6
    at_peak = self_information(paddle.full([1, 6, 1, 1], 1 / math.e)).numpy()
    np.testing.assert_allclose(at_peak, largest, rtol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_pseudo_labels_are_the_surest_predictions_of_each_class(seed, share):
    prob = probabilities(seed, 4)
    labels, predicted = pseudo_labels(prob, share=share).numpy(), prob.numpy().argmax(axis=1)
    confidence = prob.numpy().max(axis=1)
    kept = labels != IGNORED
    np.testing.assert_array_equal(labels[kept], predicted[kept])
    for train_id in np.unique(predicted):
        own, chosen = predicted == train_id, kept & (predicted == train_id)
        assert chosen.sum() == max(1, round(share * own.sum()))
        if (own & ~kept).any():
            assert confidence[chosen].min() >= confidence[own & ~kept].max()


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_equal_class_weights_change_nothing_and_unequal_ones_count_pixels_so_often(seed):
    random = np.random.default_rng(seed)
    logits = paddle.to_tensor(random.normal(size=(1, 3, 2, 4)).astype(np.float32))
    label = paddle.to_tensor(random.choice([0, 1, 2, 255], (1, 2, 4)).astype(np.uint8))
    options = {"gamma": 2.0, "ignore_label": 255}
    plain = float(segmentation_loss(logits, label, **options))
    equal = float(segmentation_loss(logits, label, class_weights=paddle.full([3], 0.3), **options))
    assert equal == pytest.approx(plain, rel=1e-5)
    doubled = float(segmentation_loss(logits, label, class_weights=paddle.to_tensor([1.0, 2.0, 1.0]), **options))
    twice = label.numpy() == 1
    rest = paddle.to_tensor(np.where(twice, label.numpy(), 255).astype(np.uint8))
    # A weight of two is the pixel seen twice: append the images' pixels of that class again.
    both = segmentation_loss(paddle.concat([logits, logits]), paddle.concat([label, rest]), **options)
    assert doubled == pytest.approx(float(both), rel=1e-4, abs=1e-7)


def test_class_weights_follow_the_frequencies():
    counts = np.array([100, 400, 25, 0])
    np.testing.assert_allclose(class_weights(counts, "median-frequency"), [1, 0.25, 4, 1])
    np.testing.assert_allclose(class_weights(counts, "sqrt-inverse"), [1, 0.5, 2, 1])


@pytest.mark.parametrize(("method", "domain"), [("clan", 0), ("oracle", 1)])
def test_classes_are_counted_where_the_labels_come_from(tiny, method, domain):
    config = tiny(method=method, loss__class_weighting="sqrt-inverse", target__split="val")
    dataset = build_samplers(config)[domain].dataset
    counts = count_classes(dataset)
    whole = np.concatenate([dataset.read_label(index).ravel() for index in range(len(dataset))])
    np.testing.assert_array_equal(counts, [(whole == train_id).sum() for train_id in range(19)])
    method = Trainer(config, notify=lambda sentence: None).method
    used = method.segmentation_loss.keywords["class_weights"].numpy()
    np.testing.assert_array_equal(used, class_weights(counts, "sqrt-inverse"))
