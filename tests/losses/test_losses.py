import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle.nn import functional as F

from clan.losses.adversarial import (
    SOURCE,
    TARGET,
    adaptive_weight,
    adversarial_loss,
    discrepancy_map,
    weight_divergence,
)
from clan.losses.segmentation import segmentation_loss
from clan.models.segmenter import upsample
from tests.conftest import relative, variable

pytestmark = [pytest.mark.plain, pytest.mark.core]


@pytest.fixture(scope="module")
def expected(golden):
    return golden.arrays("losses_dev")


@pytest.mark.parametrize(("gamma", "name"), [(2.0, "focal"), (0.0, "ce")])
def test_segmentation_loss_and_gradient_equal_the_official(expected, gamma, name):
    logits = variable(expected["logits1"])
    loss = segmentation_loss(logits, paddle.to_tensor(expected["label"]), gamma=gamma, ignore_label=255)
    loss.backward()
    assert float(loss) == pytest.approx(float(expected[name]), rel=1e-5)
    assert relative(logits.grad, expected[f"{name}_grad"]) < 1e-5


@pytest.mark.parametrize(("domain", "name"), [(SOURCE, "adv_source"), (TARGET, "adv_target")])
def test_adversarial_loss_and_gradients_equal_the_official(expected, domain, name):
    logits1, logits2 = variable(expected["logits1"]), variable(expected["logits2"])
    judgement = variable(expected["d_logits"])
    discrepancy = discrepancy_map(F.softmax(logits1, axis=1), F.softmax(logits2, axis=1))
    assert relative(discrepancy, expected["weight_map"]) < 1e-5
    weight = adaptive_weight(
        discrepancy, epsilon=float(expected["epsilon"]), lambda_local=float(expected["lambda_local"])
    )
    loss = adversarial_loss(judgement, domain, weight)
    loss.backward()
    assert float(loss) == pytest.approx(float(expected[name]), rel=1e-5)
    for tensor, part in ((logits1, "logits1"), (logits2, "logits2"), (judgement, "d")):
        assert relative(tensor.grad, expected[f"{name}_grad_{part}"]) < 1e-5


def test_weight_divergence_equals_the_official_but_for_its_rounding(expected, golden):
    """PyTorch's float32 norm of a million weights is off by 1.7e-5 each; ours is computed in float64.

    So the official gradient is ours times one factor, 1 + 3.4e-5: divided by it, they agree.
    """
    state = golden.state("segmenter")
    heads = [
        [variable(state[f"{layer}.conv2d_list.{j}.{part}"]) for j in range(4) for part in ("weight", "bias")]
        for layer in ("layer5", "layer6")
    ]
    loss = weight_divergence(*heads)
    loss.backward()
    assert float(loss) == pytest.approx(float(expected["weight_discrepancy"]), rel=1e-6)
    ours, official = heads[0][0].grad.numpy().ravel()[:2000], expected["weight_discrepancy_grad5_head"]
    factor = float(official @ ours / (ours @ ours))
    assert factor == pytest.approx(1.0, abs=4e-5)
    assert relative(ours * factor, official) < 1e-6


def test_no_valid_pixel_gives_zero_and_no_gradient():
    logits = variable(np.ones((1, 3, 2, 2), np.float32))
    loss = segmentation_loss(logits, paddle.full([1, 2, 2], 255, "uint8"), gamma=2.0, ignore_label=255)
    loss.backward()
    assert float(loss) == 0.0
    assert float(logits.grad.abs().max()) == 0.0


@given(st.integers(0, 2**31), st.sampled_from([0.0, 1.0, 2.0]), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_segmentation_loss_is_blind_to_the_names_of_classes(seed, gamma, classes):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, classes, 3, 4)).astype(np.float32)
    labels = rng.integers(0, classes, (2, 3, 4))
    labels[0, 0, 0] = 255
    order = rng.permutation(classes)
    renamed = np.where(labels == 255, 255, np.argsort(order)[np.minimum(labels, classes - 1)])

    def loss(z, y):
        return float(segmentation_loss(paddle.to_tensor(z), paddle.to_tensor(y), gamma=gamma, ignore_label=255))

    assert loss(logits, labels) == pytest.approx(loss(logits[:, order], renamed), rel=1e-5)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_discrepancy_is_symmetric_bounded_and_zero_for_equals(seed):
    rng = np.random.default_rng(seed)
    p, q = (F.softmax(paddle.to_tensor(rng.normal(size=(1, 5, 3, 3)).astype(np.float32)), axis=1) for _ in range(2))
    there, back = discrepancy_map(p, q).numpy(), discrepancy_map(q, p).numpy()
    np.testing.assert_allclose(there, back, atol=1e-6)
    assert there.min() >= -1e-6
    assert there.max() <= 1.0
    assert np.abs(discrepancy_map(p, p).numpy()).max() < 1e-6


def test_weight_divergence_of_equal_and_opposite_heads():
    w = [paddle.randn([3, 4]), paddle.randn([3])]
    assert float(weight_divergence(w, w)) == pytest.approx(2.0)
    assert float(weight_divergence(w, [-t for t in w])) == pytest.approx(0.0, abs=1e-6)


def test_the_loss_weighted_by_pixels_equals_the_self_training_authors(golden):
    """Logits at a quarter of the size, resized without aligned corners, over all pixels."""
    pieces = golden.arrays("selftraining/pieces")
    logits, label = variable(pieces["ce/logits_quarter"]), paddle.to_tensor(pieces["mix/label"])
    full = upsample(logits, tuple(label.shape[1:]), align_corners=False)
    weight = paddle.to_tensor(pieces["mix/weight"].astype(np.float32))
    options = {"gamma": 0.0, "ignore_label": 255, "mean_over": "pixels", "clamped": False}
    loss = segmentation_loss(full, label, weight_BHW=weight, **options)
    loss.backward()
    assert float(loss) == pytest.approx(float(pieces["ce/loss"]), rel=1e-5)
    assert relative(logits.grad, pieces["ce/gradient"]) < 1e-4


@pytest.mark.parametrize("gap", [1.0, 20.0, 21.0, 40.0, 90.0])
def test_cross_entropy_of_self_training_is_exact_however_wrong_a_pixel_is(gap):
    """That of CLAN is clamped at 1e-9, and has no gradient beyond."""
    logits = variable(np.array([[gap, 0.0, -5.0], [0.0, 0.0, 0.0]], np.float32).T[None, :, None])  # [1, 3, 1, 2]
    labels = paddle.to_tensor(np.array([[[1, 255]]], np.uint8))
    prob = np.exp(logits.numpy()[0, :, 0, 0].astype(np.float64) - gap)
    prob /= prob.sum()
    options = {"gamma": 0.0, "ignore_label": 255, "mean_over": "pixels"}
    loss = segmentation_loss(logits, labels, clamped=False, **options)
    loss.backward()
    assert float(loss) == pytest.approx(-np.log(prob[1]) / 2, rel=1e-6)
    np.testing.assert_allclose(logits.grad.numpy()[0, :, 0, 0], (prob - [0, 1, 0]) / 2, rtol=1e-5, atol=1e-8)
    assert not logits.grad.numpy()[..., 1].any()
    clamped = float(segmentation_loss(logits, labels, **options))
    assert clamped == pytest.approx(min(-np.log(prob[1]), -np.log(1e-9)) / 2, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_weights_of_pixels_count_as_repeated_pixels_do(gamma):
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 4, 3, 5)).astype(np.float32)
    labels = random.integers(0, 5, (2, 3, 5)).astype(np.uint8)
    labels[labels == 4] = 255
    counts = random.integers(0, 4, labels.shape)
    options = {"gamma": gamma, "ignore_label": 255}

    def of(pixels, *, classes=None, **more):
        """The loss of single pixels, given by indices, as a column."""
        columns = paddle.to_tensor(np.stack([logits[b, :, y, x] for b, y, x in pixels])[:, :, None, None])
        chosen = paddle.to_tensor(np.array([labels[place] for place in pixels])[:, None, None])
        return float(segmentation_loss(columns, chosen, class_weights=classes, **options, **more))

    places = list(np.ndindex(labels.shape))
    repeated = [place for place in places for _ in range(counts[place])]
    weight = paddle.to_tensor(counts.astype(np.float32))
    whole, target = paddle.to_tensor(logits), paddle.to_tensor(labels)
    found = float(segmentation_loss(whole, target, weight_BHW=weight, **options))
    assert found == pytest.approx(of(repeated), rel=1e-5)
    over_all = float(segmentation_loss(whole, target, weight_BHW=weight, mean_over="pixels", **options))
    valid = sum(labels[place] != 255 for place in repeated)
    assert over_all == pytest.approx(of(repeated) * valid / labels.size, rel=1e-5)
    ones = paddle.ones_like(weight)
    plain = float(segmentation_loss(whole, target, **options))
    assert float(segmentation_loss(whole, target, weight_BHW=ones, **options)) == plain
    nothing = paddle.zeros_like(weight)
    assert float(segmentation_loss(whole, target, weight_BHW=nothing, **options)) == 0
