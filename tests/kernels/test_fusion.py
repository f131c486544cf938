"""DAFormer's bottleneck as one step of autograd against Paddle's layers."""

import numpy as np
import paddle
import pytest
from paddle import nn

from clan import kernels
from clan.kernels import winograd
from clan.models.daformer_head import Unit
from tests.kernels.test_layers import difference, normal, on_both_paths, results


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_unit_computes_what_its_layers_do(training, dilation):
    paddle.seed(0)
    unit = Unit(nn.Conv2D(6, 5, 3, padding=dilation, dilation=dilation, bias_attr=False))
    unit.conv.weight.set_value(0.2 * paddle.randn(unit.conv.weight.shape))
    unit.bn.weight.set_value(paddle.rand([5]) + 0.5)
    unit.bn.bias.set_value(paddle.randn([5]))
    unit.train() if training else unit.eval()
    start = {name: tensor.clone() for name, tensor in unit.state_dict().items()}
    x = paddle.randn([2, 6, 9, 14])
    assert kernels.fusion.fits(unit, x)

    def compute():
        unit.set_state_dict(start)
        parameters = [unit.conv.weight, unit.bn.weight, unit.bn.bias]
        found = results(lambda maps: [unit(maps)], parameters, x)
        with paddle.no_grad():
            return [*found, unit.bn._mean.numpy(), unit.bn._variance.numpy(), unit(x).numpy()]

    ours, theirs = on_both_paths(compute)
    assert difference(ours, theirs) < 1e-5


@pytest.mark.parametrize("convolution", [nn.Conv2D(6, 5, 1, bias_attr=False), nn.Conv2D(6, 5, 3, padding=2)])
def test_other_convolutions_are_left_to_paddle(convolution):
    assert not kernels.fusion.fits(Unit(convolution), paddle.randn([1, 6, 4, 4]))


def test_the_gradient_of_a_weight_does_not_depend_on_how_many_tiles_are_taken_at_once(monkeypatch):
    x, gradient = normal(2, 9, 14, 6), normal(2, 9, 14, 5)
    found = []
    for most in (winograd.LARGEST_WHOLE, 2000):
        monkeypatch.setattr(winograd, "LARGEST_WHOLE", most)
        found.append(np.empty((5, 6, 3, 3), np.float32))
        winograd.weight_gradient(x, gradient, 1, found[-1])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-4)
