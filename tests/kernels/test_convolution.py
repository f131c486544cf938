"""DAFormer's 3×3 convolution by Winograd, forward and backward."""

import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from clan.kernels import winograd
from clan.models.daformer_head import Unit
from tests.conftest import relative
from tests.kernels.test_layers import normal, on_both_paths, results


@pytest.mark.parametrize("largest", [winograd.LARGEST_SUM, 100])
@given(batch=st.integers(1, 2), height=st.integers(1, 9), width=st.integers(1, 9), dilation=st.integers(1, 3))
@settings(max_examples=6, deadline=None)
def test_a_unit_is_a_convolution_batch_norm_and_relu(largest, batch, height, width, dilation):
    """Also where the gradient of the weight is summed up in parts."""
    unit = Unit(nn.Conv2D(5, 4, 3, padding=dilation, dilation=dilation, bias_attr=False))
    parameters = [unit.conv.weight, unit.bn.weight, unit.bn.bias]
    unit.bn.eval()  # of a single pixel the batch's variance is 0
    x = normal(batch, 5, height, width)
    usual, winograd.LARGEST_SUM = winograd.LARGEST_SUM, largest
    try:
        fast, plain = on_both_paths(lambda: results(lambda x: [unit(x)], parameters, paddle.to_tensor(x)))
    finally:
        winograd.LARGEST_SUM = usual
    for ours, theirs in zip(fast, plain, strict=True):
        assert relative(ours, theirs) < 1e-4 or abs(ours - theirs).max() < 1e-5


def test_in_evaluation_nothing_is_kept_and_the_result_is_the_same():
    unit, x = Unit(nn.Conv2D(5, 4, 3, padding=1, bias_attr=False)), paddle.to_tensor(normal(2, 5, 6, 7))
    unit.eval()
    with paddle.no_grad():
        fast, plain = on_both_paths(lambda: unit(x).numpy())
    assert relative(fast, plain) < 1e-5
