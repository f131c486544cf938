"""SegFormer's Mix Transformers B0…B5 as backbones (Xie et al., NeurIPS 2021).

Parameter names are the authors': patch_embed1.proj, block1.0.attn.kv, block1.0.mlp.dwconv.dwconv … norm4.

Between layers, maps are [B, h, w, width]: linear layers and norms take them as they are, without lists of tokens.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from clan.models.attention import Linear, StochasticDepth, TokenNorm, attend

EPSILON, INNER_EPSILON = 1e-6, 1e-5
"""Of the norms in blocks and at the ends of stages; of those after patches and after reductions."""

HEADS, REDUCTIONS = (1, 2, 5, 8), (8, 4, 2, 1)
"""Of the attention in each stage: number of heads; side of the squares that become one key and one value."""

PATCHES = ((7, 4), (3, 2), (3, 2), (3, 2))
"""Side and stride of each stage's patches."""

MLP_RATIO = 4
DROP_PATH = 0.1
"""The authors' largest rate of stochastic depth."""


def convolution(
    in_channels: int, out_channels: int, side: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Conv2D:
    """A convolution with bias; initially N(0, √(2·groups / (side²·out_channels))), its bias zero."""
    normal = nn.initializer.Normal(0.0, (2.0 * groups / (side**2 * out_channels)) ** 0.5)
    return nn.Conv2D(
        in_channels,
        out_channels,
        side,
        stride=stride,
        padding=padding,
        groups=groups,
        weight_attr=normal,
        bias_attr=nn.initializer.Constant(0.0),
    )


class OverlappingPatches(nn.Layer):
    """A strided convolution whose kernel is larger than its stride, and a norm.

    Args:
        in_channels: of the input.
        width: of the result.
        side, stride: of the kernel.
    """

    def __init__(self, in_channels: int, width: int, side: int, stride: int) -> None:
        super().__init__()
        self.proj = convolution(in_channels, width, side, stride=stride, padding=side // 2)
        self.norm = TokenNorm(width, INNER_EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, ⌈h/stride⌉, ⌈w/stride⌉, width]."""
        return self.norm(channels_last(self.proj(maps)))


class ReducedAttention(nn.Layer):
    """Attention of all cells to a map that is smaller by a factor.

    Args:
        width: channels.
        heads: number of heads, a divisor of the width.
        reduction: of the smaller map's sides, rounded down, at least to 1; 1: the map itself.
    """

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q = Linear(width, width)
        self.kv = Linear(width, 2 * width)
        self.proj = Linear(width, width)
        if reduction > 1:
            self.sr = convolution(width, width, reduction, stride=reduction)
            self.norm = TokenNorm(width, INNER_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, width] → [B, h, w, width]."""
        batch, height, width, channels = x.shape
        of_head = channels // self.heads
        query = self.q(x).reshape([batch, height * width, self.heads, of_head])
        key, value = self.kv(self._reduced(x)).reshape([batch, -1, 2, self.heads, of_head]).unbind(axis=2)
        return self.proj(attend(query, key, value).reshape([batch, height, width, channels]))

    def _reduced(self, x: Tensor) -> Tensor:
        if self.reduction == 1:
            return x
        maps = channels_first(x)
        if paddle.in_dynamic_mode():
            missing = [max(0, self.reduction - side) for side in maps.shape[2:]]
            maps = self.sr(F.pad(maps, [0, missing[1], 0, missing[0]]) if any(missing) else maps)
        else:
            maps = self._reduced_in_program(maps)
        return self.norm(channels_last(maps))

    def _reduced_in_program(self, maps: Tensor) -> Tensor:
        """The same of maps whose sides are not numbers, without a pad, which paddle2onnx 2.1.0 fills with anything."""
        more = self.reduction - 1
        rows, columns = (paddle.clip(paddle.shape(maps)[axis] // self.reduction, min=1) for axis in (2, 3))
        maps = F.conv2d(maps, self.sr.weight, self.sr.bias, stride=self.reduction, padding=[0, more, 0, more])
        return maps[:, :, :rows, :columns]


class LocalMixing(nn.Layer):
    """A 3×3 convolution of every channel by itself, with zeros beyond the border, then exact GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = convolution(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, width] → [B, h, w, width]."""
        return F.gelu(channels_last(self.dwconv(channels_first(x))))


class MixPerceptron(nn.Layer):
    """SegFormer's Mix-FFN: two linear layers, between them a convolution that tells a cell where it is."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.dwconv = LocalMixing(hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, width] → [B, h, w, width]."""
        return self.fc2(self.dwconv(self.fc1(x)))


class MixBlock(nn.Layer):
    """Attention and perceptron, each behind a norm and added to its input.

    Args:
        width: channels.
        heads, reduction: of the attention.
        drop_path: rate of stochastic depth of both branches.
    """

    def __init__(self, width: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = TokenNorm(width, EPSILON)
        self.attn = ReducedAttention(width, heads, reduction)
        self.drop_path = StochasticDepth(drop_path)
        self.norm2 = TokenNorm(width, EPSILON)
        self.mlp = MixPerceptron(width, MLP_RATIO * width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, width] → [B, h, w, width]."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class MiT(nn.Layer):
    """Four stages of patches, blocks and a norm, at strides 4, 8, 16 and 32.

    Args:
        widths: channels of each stage, multiples of its heads.
        depths: blocks of each stage.
        output_stride: has no effect, since patches have the strides that they have.
        drop_path: rate of stochastic depth in the last block, 0…1; it rises linearly from 0 in the first.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self,
        widths: tuple[int, int, int, int],
        depths: tuple[int, int, int, int],
        *,
        output_stride: int = 8,
        drop_path: float = DROP_PATH,
    ) -> None:
        super().__init__()
        self.channels = widths
        rates: Iterator[float] = iter(np.linspace(0.0, drop_path, sum(depths)).tolist())
        before = 3
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            heads, reduction = HEADS[number], REDUCTIONS[number]
            blocks = nn.LayerList(MixBlock(width, heads, reduction, next(rates)) for _ in range(depth))
            self.add_sublayer(f"patch_embed{number + 1}", OverlappingPatches(before, width, *PATCHES[number]))
            self.add_sublayer(f"block{number + 1}", blocks)
            self.add_sublayer(f"norm{number + 1}", TokenNorm(width, EPSILON))
            before = width

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images [B, 3, h, w] → four levels of features, [B, channels, ⌈h/stride⌉, ⌈w/stride⌉] each."""
        levels, maps = [], images
        for number in (1, 2, 3, 4):
            x = getattr(self, f"patch_embed{number}")(maps)
            for block in getattr(self, f"block{number}"):
                x = block(x)
            maps = channels_first(getattr(self, f"norm{number}")(x))
            levels.append(maps)
        return tuple(levels)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, h, w] → the last level."""
        return self.pyramid(images)[-1]


def channels_last(maps: Tensor) -> Tensor:
    """[B, C, h, w] → [B, h, w, C]."""
    return maps.transpose([0, 2, 3, 1])


def channels_first(x: Tensor) -> Tensor:
    """[B, h, w, C] → [B, C, h, w]."""
    return x.transpose([0, 3, 1, 2])


_SMALL, _LARGE = (32, 64, 160, 256), (64, 128, 320, 512)

mit_b0 = partial(MiT, _SMALL, (2, 2, 2, 2))
mit_b1 = partial(MiT, _LARGE, (2, 2, 2, 2))
mit_b2 = partial(MiT, _LARGE, (3, 4, 6, 3))
mit_b3 = partial(MiT, _LARGE, (3, 4, 18, 3))
mit_b4 = partial(MiT, _LARGE, (3, 8, 27, 3))
mit_b5 = partial(MiT, _LARGE, (3, 6, 40, 3))
