"""Updates in one pass are Paddle's, bit for bit, and write where the tensors are."""

import numpy as np
import paddle
import pytest

from clan.core import fused
from clan.core.runtime import plain_operators

SHAPES = [(), (1,), (5,), (70, 3), (64, 32, 3, 3)]


def drawn(shape):
    rng = np.random.default_rng(len(shape))
    return [paddle.to_tensor(rng.normal(size=shape).astype(np.float32)) for _ in range(3)]


UPDATES = {
    "mix": lambda p, v, g: fused.mix(p, v, 0.999, 0.001),
    "follow": lambda p, v, g: fused.follow(p, v, g, (-1.25e-7, -2.25e-4, -2.5e-4), (0.9, 5e-4, 1.0)),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_update_is_paddle_s_bit_for_bit(name, shape):
    assert hasattr(getattr(fused, name), "kernel")
    ours, plain = drawn(shape), drawn(shape)
    places = [one.data_ptr() for one in ours]
    UPDATES[name](*ours)
    with plain_operators():
        UPDATES[name](*plain)
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert [one.data_ptr() for one in ours] == places
    assert not bool((ours[0] == drawn(shape)[0]).all())


def test_what_does_not_lie_in_one_piece_is_left_to_paddle():
    whole = paddle.arange(12, dtype="float32").reshape([3, 4])
    part = whole.T
    assert not part.is_contiguous()
    fused.mix(part, paddle.ones([4, 3]), 2.0, 1.0)
    np.testing.assert_array_equal(part.numpy(), 2 * np.arange(12).reshape(3, 4).T + 1)
