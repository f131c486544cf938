"""Stochastic depth; attention and linear layers are tested with the networks that have them."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from clan.models import attention
from clan.models.attention import StochasticDepth, attend, has_fused

pytestmark = pytest.mark.plain


def test_products_are_what_the_fused_function_computes(monkeypatch):
    query, key, value = (paddle.randn([2, count, 4, 8]) for count in (5, 7, 7))
    expected = attend(query, key, value).numpy()
    monkeypatch.setattr(attention, "has_fused", lambda query: False)
    np.testing.assert_allclose(attend(query, key, value).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("chooses", "half", "capability", "expected"),
    [
        (True, False, (6, 1), True),  # Paddle 3.3
        (True, True, (7, 5), True),
        (False, True, (8, 0), True),
        (False, True, (7, 5), False),  # it would be NotImplementedError
        (False, False, (8, 0), False),
    ],
)
def test_a_gpu_has_the_fused_function_from_paddle_3_3_or_in_half_precision_on_ampere(
    monkeypatch, chooses, half, capability, expected
):
    monkeypatch.setattr(attention, "CHOOSES", chooses)
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: capability)
    dtype = paddle.float16 if half else paddle.float32
    gpu, cpu = (SimpleNamespace(is_cpu_place=lambda on_cpu=on_cpu: on_cpu) for on_cpu in (False, True))
    found = [has_fused(SimpleNamespace(place=place, dtype=dtype)) for place in (gpu, None, cpu)]
    assert found == [expected, expected, True]


def test_stochastic_depth_leaves_whole_images_out_and_keeps_the_mean():
    paddle.seed(0)
    layer, branch = StochasticDepth(0.25), paddle.ones([4000, 3, 2])
    left = layer(branch).numpy().reshape(4000, 6)
    assert set(np.unique(left)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (left == left[:, :1]).all()
    assert left.mean() == pytest.approx(1.0, abs=0.03)


def test_draws_follow_paddle_s_generator_which_the_learner_seeds():
    layer, branch = StochasticDepth(0.5), paddle.ones([64, 1])
    found = []
    for seed in (1, 1, 2):
        paddle.seed(seed)
        found.append(layer(branch).numpy())
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_left_out_or_drawn_in_evaluation_or_at_rate_0(rate, training):
    layer, branch = StochasticDepth(rate), paddle.randn([8, 3])
    layer.train() if training else layer.eval()
    paddle.seed(3)
    assert np.array_equal(layer(branch).numpy(), branch.numpy())
    drawn = paddle.rand([4]).numpy()
    paddle.seed(3)
    assert np.array_equal(drawn, paddle.rand([4]).numpy())


def test_numbers_stay_of_their_type():
    assert StochasticDepth(0.5)(paddle.ones([4, 2], dtype="bfloat16")).dtype == paddle.bfloat16
