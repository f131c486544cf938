"""What is done to many tensors in one call equals what is done to each, whichever way is taken."""

import numpy as np
import paddle
import pytest

from clan.core import fused

SHAPES = [(3, 2, 3, 3), (5,), (), (70, 3)] * 30
"""More tensors than a launch takes (110)."""


def drawn(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def tensors(arrays):
    return [paddle.to_tensor(array) for array in arrays]


@pytest.mark.core
@pytest.mark.parametrize("one_call", [True, False])
def test_blend_leaves_its_right_side_alone(monkeypatch, one_call):
    monkeypatch.setattr(fused, "in_one_call", lambda: one_call)
    left, right = tensors(drawn(0)), tensors(drawn(1))
    fused.blend(left, right, 0.999, 0.001)
    for y, x, before, other in zip(left, right, drawn(0), drawn(1), strict=True):
        np.testing.assert_allclose(y.numpy(), 0.999 * before + 0.001 * other, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(x.numpy(), other)


@pytest.mark.core
def test_move_is_a_step_of_momentum():
    p, g, v = (tensors(drawn(seed)) for seed in range(3))
    fused.move(p, g, v, 0.1, 0.9)
    for new, speed, *old in zip(p, v, *(drawn(seed) for seed in range(3)), strict=True):
        expected = 0.9 * old[2] + old[1]
        np.testing.assert_allclose(speed.numpy(), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(new.numpy(), old[0] - 0.1 * expected, rtol=1e-6, atol=1e-6)


@pytest.mark.core
def test_unscale_finds_the_one_number_that_is_not_finite():
    some = tensors(drawn(0))
    assert not bool(fused.unscale(some, 4.0))
    for found, expected in zip(some, drawn(0), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected / 4.0)
    for value in (np.inf, np.nan):
        for place in (0, len(some) - 1):
            arrays = drawn(0)
            arrays[place].flat[-1] = value
            assert bool(fused.unscale(tensors(arrays), 1.0))
