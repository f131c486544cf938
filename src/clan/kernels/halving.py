"""The discriminator on the CPU: 4×4 convolutions of stride 2 as four matrix products each, without a copy per tap.

With its pixels gathered into blocks of 2×2, block [i, j] holding padded pixels [2i…2i+1, 2j…2j+1], a map under such a
convolution is one of 2×2 blocks and stride 1: out[y, x] = Σ block[y + a, x + b] · W_ab over a, b ∈ {0, 1}. Blocks
are kept row after row, so a shift by (a, b) is an offset into them, and each of the four products reads one stretch of
memory. What comes out has as many rows and columns as there are blocks, of which the last ones are nonsense.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import paddle
from numba import prange
from paddle import Tensor, nn
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from clan.core.compilation import compiled
from clan.kernels.bridge import aligned, as_array, as_gradients, as_tensor, trained
from clan.kernels.halves import BF16, narrow, operands, rounded, wide
from clan.kernels.product import multiply
from clan.kernels.structure import is_convolution
from clan.models.discriminator import Discriminator

SLOPE = np.float32(0.2)
"""Of LeakyReLU below 0."""

LINEAR = np.float32(1.0)
"""The slope that leaves values as they are."""


def replaced(self: Discriminator, probability: Tensor) -> Tensor:
    """`Discriminator.forward` as this module computes it."""
    x = probability
    for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
        x = F.leaky_relu(layer(x), 0.2)
    return self.classifier(x)


def fits(network: Discriminator, probability: Tensor) -> bool:
    """Whether a network is built as this module expects, and something is left of the maps after its five layers."""
    if probability.ndim != 4 or min(probability.shape[2:]) < 32:
        return False
    channels = probability.shape[1]
    for layer in _layers(network):
        if not is_convolution(layer, (None, channels, 4, 4), stride=2, padding=1, bias=True):
            return False
        channels = len(layer.weight)
    return True


def forward(network: Discriminator, probability: Tensor) -> Tensor:
    """Instead of `Discriminator.forward`: [B, C, H, W] → [B, 1, ⌊H/32⌋, ⌊W/32⌋]."""
    return halving_convolutions(probability, _layers(network))


def _layers(network: Discriminator) -> list[nn.Conv2D]:
    return [network.conv1, network.conv2, network.conv3, network.conv4, network.classifier]


def halving_convolutions(x: Tensor, layers: Sequence[nn.Conv2D]) -> Tensor:
    """4×4 convolutions of stride 2 and padding 1, with LeakyReLU 0.2 between them.

    Args:
        x: [B, C, H, W].
        layers: with a bias each; at most log₂ min(H, W) of them.

    Returns:
        [B, C', ⌊H/2ⁿ⌋, ⌊W/2ⁿ⌋] for n layers.
    """
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    if paddle.is_grad_enabled():
        return _HalvingConvolutions.apply(x, *parameters)
    return as_tensor(_run(as_array(x), [as_array(parameter) for parameter in parameters], []))


class _HalvingConvolutions(PyLayer):
    """`halving_convolutions` with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.wanted, ctx.kept, ctx.shape = trained([x, *parameters]), [], x.shape
        ctx.parameters = [as_array(parameter) for parameter in parameters]
        return as_tensor(_run(as_array(x), ctx.parameters, ctx.kept))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _backward(as_array(gradient), ctx.parameters, ctx.kept, ctx.shape, ctx.wanted)
        return as_gradients(found, ctx.wanted)


class _Blocks(NamedTuple):
    """A batch of padded maps in blocks of 2×2.

    Args:
        size: how many images, rows of blocks and columns of blocks.
        values: float32 or bf16 [blocks and a row and a block of zeros, 4·C]; a block's pixels row by row.
    """

    size: tuple[int, int, int]
    values: np.ndarray

    @classmethod
    def empty(cls, batch: int, height: int, width: int, channels: int) -> "_Blocks":
        """Blocks of maps [batch, channels, height, width], the border of which is zero."""
        size = batch, height // 2 + 1, width // 2 + 1
        kind = operands()
        return cls(size, np.zeros((batch * size[1] * size[2] + size[2] + 1, 4 * channels), kind))

    def shifted(self, values: np.ndarray) -> list[np.ndarray]:
        """The four stretches that products read of `values`, which lie as the blocks do."""
        batch, rows, columns = self.size
        count = batch * rows * columns
        return [values[offset : offset + count] for offset in (0, 1, columns, columns + 1)]


def _run(x: np.ndarray, parameters: list[np.ndarray], kept: list[_Blocks]) -> np.ndarray:
    """The last layer's maps [B, C', h, w]; the blocks that each layer read go to `kept`."""
    batch, channels, height, width = x.shape
    maps, slope = np.ascontiguousarray(x.transpose(0, 2, 3, 1)), LINEAR
    bias = np.zeros(channels, np.float32)
    for weight, own_bias in zip(parameters[::2], parameters[1::2], strict=True):
        blocks = _Blocks.empty(batch, height, width, maps.shape[-1])
        _to_blocks(maps, bias, slope, height, width, blocks.values.reshape(-1, 2, 2, maps.shape[-1]), blocks.size[2])
        kept.append(blocks)
        maps = np.empty((*blocks.size, len(weight)), np.float32)
        for number, (read, kernel) in enumerate(zip(blocks.shifted(blocks.values), _kernels(weight), strict=True)):
            multiply(read, kernel.T, maps.reshape(-1, len(weight)), accumulate=number > 0)
        height, width, bias, slope = height // 2, width // 2, own_bias, SLOPE
    return _channels_first(maps[:, :height, :width] + bias)


def _backward(
    gradient: np.ndarray,
    parameters: list[np.ndarray],
    kept: list[_Blocks],
    shape: Sequence[int],
    wanted: Sequence[bool],
) -> list[np.ndarray]:
    """The gradients of the input and of every parameter; empty arrays where none is wanted."""
    found: list[np.ndarray] = []
    maps = gradient.transpose(0, 2, 3, 1)
    for number in reversed(range(len(kept))):
        blocks, weight = kept.pop(), parameters[2 * number]
        # Of the nonsense in the last row and column nothing came, so nothing goes back there.
        whole = np.zeros((*blocks.size, len(weight)), np.float32)
        whole[:, : maps.shape[1], : maps.shape[2]] = maps
        flat = whole.reshape(-1, len(weight))
        operand = rounded(flat) if blocks.values.dtype == BF16 else flat
        to_weight = aligned(weight.shape) if wanted[1 + 2 * number] else np.empty(0, np.float32)
        if to_weight.size:
            products = np.empty((4, len(weight), blocks.values.shape[1]), np.float32)
            for read, product in zip(blocks.shifted(blocks.values), products, strict=True):
                multiply(operand.T, read, product)
            _to_weight(products, to_weight)
        found[:0] = [to_weight, flat.sum(axis=0)]
        if number == 0 and not wanted[0]:
            return [np.empty(0, np.float32), *found]
        to_blocks = np.zeros(blocks.values.shape, np.float32)
        for written, kernel in zip(blocks.shifted(to_blocks), _kernels(weight), strict=True):
            multiply(operand, kernel, written, accumulate=True)
        height, width = (shape[2] >> number, shape[3] >> number)
        maps = np.empty((shape[0], height, width, weight.shape[1]), np.float32)
        square = (-1, 2, 2, weight.shape[1])
        slope, (_, rows, columns) = SLOPE if number else LINEAR, blocks.size
        _from_blocks(to_blocks.reshape(square), blocks.values.reshape(square), slope, rows, columns, maps)
    return [_channels_first(maps), *found]


def _channels_first(maps: np.ndarray) -> np.ndarray:
    """[B, h, w, C] → [B, C, h, w]."""
    planes = maps.transpose(0, 3, 1, 2)
    result = aligned(planes.shape)
    result[...] = planes
    return result


def _kernels(weight: np.ndarray) -> np.ndarray:
    """[O, C, 4, 4] → W_ab as [4, O, 4·C], in the order of `_Blocks.shifted`."""
    kernels = np.empty((4, len(weight), 4 * weight.shape[1]), np.float32)
    _from_weight(weight, kernels)
    return kernels


@compiled
def _from_weight(weight: np.ndarray, kernels: np.ndarray) -> None:
    outputs, channels = weight.shape[:2]
    for o in prange(outputs):
        for c in range(channels):
            for i in range(4):
                for j in range(4):
                    tap, pixel = (i // 2) * 2 + j // 2, (i % 2) * 2 + j % 2
                    kernels[tap, o, pixel * channels + c] = weight[o, c, i, j]


@compiled
def _to_weight(kernels: np.ndarray, weight: np.ndarray) -> None:
    """The inverse of `_from_weight`."""
    outputs, channels = weight.shape[:2]
    for o in prange(outputs):
        for c in range(channels):
            for i in range(4):
                for j in range(4):
                    tap, pixel = (i // 2) * 2 + j // 2, (i % 2) * 2 + j % 2
                    weight[o, c, i, j] = kernels[tap, o, pixel * channels + c]


@compiled
def _to_blocks(
    maps: np.ndarray, bias: np.ndarray, slope: np.float32, height: int, width: int, blocks: np.ndarray, columns: int
) -> None:
    """LeakyReLU of maps plus bias, [B, ≥ height, ≥ width, C], into blocks [·, 2, 2, C] that are zero elsewhere."""
    batch, _, _, channels = maps.shape
    rows = height // 2 + 1
    for line in prange(batch * height):
        image, y = line // height, line % height
        # A last pixel that no block holds is one that the convolution does not read.
        if (y + 1) // 2 < rows:
            for x in range(width):
                if (x + 1) // 2 < columns:
                    block = (image * rows + (y + 1) // 2) * columns + (x + 1) // 2
                    for c in range(channels):
                        value = maps[image, y, x, c] + bias[c]
                        blocks[block, (y + 1) % 2, (x + 1) % 2, c] = narrow(
                            value if value > 0 else slope * value, blocks
                        )


@compiled
def _from_blocks(
    gradient: np.ndarray, values: np.ndarray, slope: np.float32, rows: int, columns: int, maps: np.ndarray
) -> None:
    """The gradient of `_to_blocks`'s maps, from that of its blocks and from their values."""
    batch, height, width, channels = maps.shape
    for line in prange(batch * height):
        image, y = line // height, line % height
        for x in range(width):
            if (y + 1) // 2 < rows and (x + 1) // 2 < columns:
                block = (image * rows + (y + 1) // 2) * columns + (x + 1) // 2
                for c in range(channels):
                    passed = gradient[block, (y + 1) % 2, (x + 1) % 2, c]
                    above = wide(values[block, (y + 1) % 2, (x + 1) % 2, c]) > 0
                    maps[image, y, x, c] = passed if above else slope * passed
            else:
                for c in range(channels):
                    maps[image, y, x, c] = np.float32(0.0)
