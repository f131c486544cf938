"""What the CPU's own arithmetic computes is what Paddle's operators compute, forward and backward."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import Tensor, nn
from paddle.nn import functional as F

from clan import kernels
from clan.kernels import winograd
from clan.kernels.bridge import ALIGNMENT, as_tensor
from clan.losses.segmentation import class_probabilities
from clan.models.discriminator import Discriminator
from clan.models.heads import Head
from clan.models.mobilenet import Depthwise
from clan.models.resnet import ResNet
from tests.needs import needed

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def on_both_paths(compute: Callable[[], Any]) -> tuple[Any, Any]:
    """What the kernels and what Paddle's operators compute."""
    fast = compute()
    kernels.uninstall()
    try:
        return fast, compute()
    finally:
        kernels.install()


def results(network: Callable[[Tensor], list[Tensor]], parameters: list[Tensor], x: Tensor) -> list[np.ndarray]:
    """Outputs, and the gradients that fixed output gradients give the input and the parameters."""
    x = x.clone()
    x.stop_gradient = False
    for parameter in parameters:
        parameter.clear_gradient(set_to_zero=False)
    outputs = network(x)
    rng = np.random.default_rng(1)
    gradients = [paddle.to_tensor(rng.standard_normal(output.shape, np.float32)) for output in outputs]
    paddle.autograd.backward(outputs, gradients)
    return [tensor.numpy() for tensor in [*outputs, x.grad, *(parameter.grad for parameter in parameters)]]


@given(
    batch=st.integers(1, 2),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    dilation=st.integers(1, 4),
    normed=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_winograd_is_a_convolution_and_its_gradients(batch, height, width, dilation, normed):
    x, weight, gradient = normal(batch, height, width, 5), normal(3, 5, 3, 3), normal(batch, height, width, 3)
    before = (normal(5), normal(5)) if normed else None

    def nchw(array: np.ndarray) -> Tensor:
        return paddle.to_tensor(np.ascontiguousarray(array.transpose(0, 3, 1, 2)), stop_gradient=False)

    read = nchw(np.maximum(x * before[0] + before[1], 0.0) if before else x)
    kernel = paddle.to_tensor(weight, stop_gradient=False)
    expected = F.conv2d(read, kernel, padding=dilation, dilation=dilation)
    expected.backward(nchw(gradient))

    out, to_x, to_weight = np.empty_like(gradient), np.empty_like(x), np.empty_like(weight)
    winograd.convolve(x, weight, dilation, out, before)
    winograd.input_gradient(gradient, weight, dilation, to_x)
    winograd.weight_gradient(x, gradient, dilation, to_weight, before)
    np.testing.assert_allclose(out, expected.numpy().transpose(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(to_x, read.grad.numpy().transpose(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(to_weight, kernel.grad.numpy(), atol=1e-3)


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference of any array, over its largest magnitude."""
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.abs(a - b).max() / (np.abs(b).max() + 1e-9)) for a, b in pairs)


def trunk(*, projection_bias: bool) -> ResNet:
    """A small ResNet whose parameters are of a trained one's size, so that rounding is too."""
    network = ResNet((1, 2, 1, 1), width=8, projection_bias=projection_bias)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            parameter.set_value(paddle.randn(parameter.shape) * (2 / np.prod(parameter.shape[1:])) ** 0.5)
        elif not name.rpartition(".")[2].startswith("_"):
            parameter.set_value(paddle.rand(parameter.shape) + 0.5)
    return network


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("projection_bias", [True, False])
def test_a_trunk_computes_what_its_layers_do(training, projection_bias):
    paddle.seed(0)
    network = trunk(projection_bias=projection_bias)
    network.train() if training else network.eval()
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    # In training, a bias before a batch norm changes nothing: its gradient is rounding alone.
    parameters = {
        name: parameter
        for name, parameter in network.named_parameters()
        if "._" not in name and not name.startswith("bn1._") and not (training and "downsample.0.bias" in name)
    }
    x = paddle.randn([2, 3, 43, 70])

    def compute() -> list[np.ndarray]:
        network.set_state_dict(start)
        return [
            *results(lambda image: [network(image)], [*parameters.values()], x),
            *(tensor.numpy() for name, tensor in network.state_dict().items() if "._" in name),
        ]

    fast, plain = on_both_paths(compute)
    assert difference(fast, plain) < 1e-3
    assert difference(fast[:2], plain[:2]) < 1e-5  # output and the input's gradient
    with paddle.no_grad():
        network.set_state_dict(start)
        np.testing.assert_array_equal(network(x).numpy(), fast[0])


@pytest.mark.parametrize("size", [(5, 7), (20, 31)])
def test_heads_compute_what_their_convolutions_do(size):
    paddle.seed(0)
    pair = Head(12, 7), Head(12, 7)
    parameters = [parameter for head in pair for parameter in head.parameters()]
    for parameter in parameters:
        parameter.set_value(paddle.randn(parameter.shape))
    x = paddle.randn([2, 12, *size])
    assert difference(*on_both_paths(lambda: results(lambda maps: Head.run_together(pair, maps), parameters, x))) < 1e-5


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (51, 78), (32, 47)])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_discriminator_computes_what_its_convolutions_do(size, frozen):
    paddle.seed(0)
    network = Discriminator(7, 8)
    for parameter in network.parameters():
        parameter.stop_gradient = frozen
    parameters = [] if frozen else network.parameters()
    x = paddle.randn([2, 7, *size])
    fast, plain = on_both_paths(lambda: results(lambda prob: [network(prob)], parameters, x))
    assert difference(fast, plain) < 1e-5
    with paddle.no_grad():
        np.testing.assert_array_equal(network(x).numpy(), fast[0])


def test_the_discriminator_s_own_turn_needs_no_gradient_of_its_input():
    network = Discriminator(3, 4)
    network(paddle.ones([1, 3, 32, 32])).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_class_probabilities_are_a_softmax():
    x = paddle.to_tensor(normal(2, 19, 13, 29) * 10)
    for ours, theirs in zip(*on_both_paths(lambda: results(lambda x: [class_probabilities(x)], [], x)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert class_probabilities(paddle.full([1, 3, 1, 1], 1e4)).numpy().sum() == pytest.approx(1.0)


def test_passes_leave_nothing_behind():
    """Neither with the loss still held, as a training step holds its losses, nor afterwards."""
    network: nn.Layer = trunk(projection_bias=False)
    head1, head2 = Head(256, 4), Head(256, 4)

    def step() -> Tensor:
        logits1, logits2 = Head.run_together([head1, head2], network(paddle.ones([1, 3, 256, 512])))
        loss = (logits1 * logits2).mean()
        loss.backward()
        return loss

    def resident() -> int:
        """Bytes of memory in use."""
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    needed("proc", Path("/proc/self/statm").exists())
    held = [step() for _ in range(5)]
    before = resident()
    held += [step() for _ in range(20)]
    # A pass keeps 40 MB of maps for its gradients; what may stay is the allocators' slack.
    assert resident() - before < 100e6


@pytest.mark.parametrize("offset", range(0, 64, 12))
def test_memory_of_a_tensor_is_aligned_wherever_its_array_lies(offset):
    array = np.zeros(4 * 30 + 64, np.uint8)[offset : offset + 4 * 30].view(np.float32)
    array[:] = np.arange(30)
    tensor = as_tensor(array)
    assert tensor.data_ptr() % ALIGNMENT == 0
    np.testing.assert_array_equal(tensor.numpy(), np.arange(30))


def test_results_do_not_depend_on_where_memory_lies():
    """Paddle's sums depend on the address of what they add up, and two processes have different ones."""
    layers = nn.Sequential(Depthwise(8, dilation=1), nn.BatchNorm2D(8), Depthwise(8, dilation=2), nn.BatchNorm2D(8))
    x = normal(1, 8, 19, 38)
    results, others = [], []
    for number in range(12):
        others.append(np.empty(4 * 8 * 19 * 38 - 16 * number, np.uint8))
        variable = paddle.to_tensor(x, stop_gradient=False)
        out = layers(variable)
        (out * out * out).mean().backward()
        results.append((out.numpy(), variable.grad.numpy()))
    for result in results[1:]:
        for array, first in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(array, first)
