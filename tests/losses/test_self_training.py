"""The pieces of self-training against what the authors' code computed, and what follows from their definitions."""

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from clan.losses.features import cells_of, feature_distance
from clan.losses.mixing import block_grid, block_mask, class_mask, mix
from clan.losses.segmentation import class_probabilities, segmentation_loss
from clan.losses.self_training import pseudo_weight, teacher_decay, teacher_labels
from clan.models.segmenter import upsample
from tests.conftest import variable

pytestmark = [pytest.mark.plain, pytest.mark.core]

SHARE = 0.75
"""What a cell must have of one class."""


@pytest.fixture(scope="module")
def pieces(golden):
    return golden.arrays("selftraining/pieces")


@pytest.mark.parametrize("threshold", [0.5, 0.968])
def test_pseudo_labels_and_their_weights_equal_the_authors(pieces, threshold):
    prob = class_probabilities(paddle.to_tensor(pieces["pseudo/logits"]))
    labels, share = teacher_labels(prob, threshold=threshold)
    np.testing.assert_array_equal(labels.numpy(), pieces[f"pseudo/{threshold}/label"])
    for name, rows in (("weight", {}), ("weight_cropped_3_5", {"top": 3, "bottom": 5})):
        weight = pseudo_weight(share, labels.shape, **rows)
        np.testing.assert_allclose(weight.numpy(), pieces[f"pseudo/{threshold}/{name}"], rtol=0, atol=1e-6)


def test_class_mix_equals_the_authors(pieces, monkeypatch):
    take = paddle.take_along_axis

    def on_a_gpu_before_paddle_3_2(table, *given, **named):
        assert table.dtype != paddle.uint8
        return take(table, *given, **named)

    monkeypatch.setattr(paddle, "take_along_axis", on_a_gpu_before_paddle_3_2)
    given = {name.removeprefix("mix/"): array for name, array in pieces.items() if name.startswith("mix/")}
    chosen = [given["chosen_classes_0"], given["chosen_classes_1"]]
    mask = class_mask(paddle.to_tensor(given["source_labels"]), chosen)
    np.testing.assert_array_equal(mask.numpy(), given["mask"])
    weight = paddle.to_tensor(given["pseudo_weight"])
    parts = {
        "image": ("source_image", "target_image"),
        "label": ("source_labels", "pseudo_label"),
    }
    for name, (source, target) in parts.items():
        found = mix(mask, paddle.to_tensor(given[source]), paddle.to_tensor(given[target]))
        np.testing.assert_array_equal(found.numpy(), given[name])
    np.testing.assert_array_equal(mix(mask, paddle.ones_like(weight), weight).numpy(), given["weight"])


def test_the_weighted_cross_entropy_and_its_gradient_equal_the_authors(pieces):
    """At full size: ignored pixels add nothing to the sum and count in the mean."""
    logits, labels = variable(pieces["ce/logits_quarter"]), paddle.to_tensor(pieces["mix/label"])
    loss = segmentation_loss(
        upsample(logits, tuple(labels.shape[1:]), align_corners=False),
        labels,
        gamma=0.0,
        ignore_label=255,
        weight_BHW=paddle.to_tensor(pieces["mix/weight"]),
        mean_over="pixels",
    )
    loss.backward()
    assert float(loss) == pytest.approx(float(pieces["ce/loss"]), rel=1e-6)
    expected = pieces["ce/gradient"]
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["labels", "noisy_labels"])
def test_cells_of_things_are_those_of_the_authors(pieces, kind):
    labels = pieces["mix/source_labels"] if kind == "labels" else pieces["fd/noisy_labels"]
    down = pieces[f"fd/{kind}_down"]
    for things in (pieces["fd/things"], [0], range(19)):
        cells = cells_of(paddle.to_tensor(labels), things, down.shape[1:], smallest_share=SHARE)
        np.testing.assert_array_equal(cells.numpy(), np.isin(down, list(things)))


def test_the_feature_distance_and_its_gradient_equal_the_authors(pieces):
    features = variable(pieces["fd/features"])
    loss = 0.005 * feature_distance(
        features, paddle.to_tensor(pieces["fd/imagenet_features"]), paddle.to_tensor(pieces["fd/mask"])
    )
    loss.backward()
    expected = pieces["fd/gradient"]
    assert float(loss) == pytest.approx(float(pieces["fd/loss"]), rel=1e-6)
    np.testing.assert_allclose(features.grad.numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_without_cells_and_between_equal_features_the_distance_and_its_gradient_are_zero():
    features = variable(np.random.default_rng(0).normal(size=(1, 4, 2, 2)).astype(np.float32))
    for reference, cells in ((features.detach(), True), (features.detach() + 1.0, False)):
        features.clear_gradient()
        loss = feature_distance(features, reference, paddle.full([1, 2, 2], cells, "bool"))
        loss.backward()
        assert float(loss) == 0
        assert not features.grad.numpy().any()


def test_the_block_mask_equals_the_authors(pieces):
    uniform, expected = pieces["mask/uniform"], pieces["mask/mask_28x36_block8"]
    assert block_grid((28, 36), 8) == uniform.shape[2:]
    found = block_mask(paddle.to_tensor(uniform), (28, 36), ratio=0.7)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_the_teachers_pace_equals_the_authors(pieces):
    found = [teacher_decay(iteration, 0.999) for iteration in range(2000)]
    np.testing.assert_array_equal(found, pieces["teacher/alpha_0.999"])


@pytest.mark.parametrize(("size", "cells"), [((40, 56), (2, 2)), ((37, 51), (3, 4))])
def test_cells_of_any_size_are_those_whose_mean_is_a_class(size, cells):
    """Also where the labels' size is no multiple of the features'."""
    labels = np.random.default_rng(3).integers(0, 2, (2, *size)).astype(np.uint8)
    labels[:, : size[0] // 2, : size[1] // 2] = 1
    means = F.adaptive_avg_pool2d(paddle.to_tensor((labels == 1).astype(np.float32))[:, None], cells)[:, 0]
    found = cells_of(paddle.to_tensor(labels), [1], cells, smallest_share=SHARE)
    np.testing.assert_array_equal(found.numpy(), means.numpy() >= SHARE)
    assert found.numpy().any() and not found.numpy().all()
