"""Stochastic depth; attention and linear layers are tested with the networks that have them."""

import numpy as np
import paddle
import pytest

from clan.models.attention import StochasticDepth

pytestmark = pytest.mark.plain


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
