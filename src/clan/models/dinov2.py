"""DINOv2's vision transformers with patches of 14 pixels as backbones (Oquab et al., TMLR 2024).

Parameter names are the authors': cls_token, pos_embed, mask_token, patch_embed.proj, blocks.0.norm1 … norm.
"""

from functools import lru_cache, partial

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from clan.models.attention import Linear, TokenNorm, attend

PATCH = 14
"""Side of a patch in pixels."""

LEARNED_GRID = 37
"""Patches along a side of the images that the position embedding was learned on."""

SCALE_OFFSET = 0.1
"""Added to the number of patches in the scale factor of the position embedding, as in the authors' code."""

MLP_RATIO = 4
EPSILON = 1e-6
CUBIC = -0.75
"""Parameter a of bicubic interpolation in PyTorch."""


class LayerScale(nn.Layer):
    """x·γ, a learned factor per channel (Touvron et al., ICCV 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = self.create_parameter([width], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """[…, width] → […, width]."""
        return x * self.gamma


class SelfAttention(nn.Layer):
    """Attention of all tokens to all tokens.

    Args:
        width: of a token.
        heads: number of heads, a divisor of the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, width] → [B, N, width]."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape([batch, tokens, 3, self.heads, width // self.heads])
        return self.proj(attend(*qkv.unbind(axis=2)).reshape([batch, tokens, width]))


class Perceptron(nn.Layer):
    """Two linear layers with exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[…, width] → […, width]."""
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderBlock(nn.Layer):
    """Attention and perceptron, each behind a norm, scaled and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = TokenNorm(width, EPSILON)
        self.attn = SelfAttention(width, heads)
        self.ls1 = LayerScale(width)
        self.norm2 = TokenNorm(width, EPSILON)
        self.mlp = Perceptron(width, MLP_RATIO * width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, width] → [B, N, width]."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchProjection(nn.Layer):
    """A linear map of every patch's pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = (3 * PATCH * PATCH) ** -0.5
        uniform = nn.initializer.Uniform(-bound, bound)
        self.proj = nn.Conv2D(3, width, PATCH, stride=PATCH, weight_attr=uniform, bias_attr=uniform)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, 14·h, 14·w] → [B, h·w, width]."""
        return self.proj(images).flatten(2).transpose([0, 2, 1])


class DINOv2(nn.Layer):
    """A vision transformer whose patch tokens, after the last norm, are a map of features.

    Images are resized bilinearly, without aligned corners, to `input_scale` times their sides, down to whole patches,
    as VFM-UDA does (Englert et al., CVPR workshops 2024). The four levels have one resolution: the tokens after each
    quarter of the blocks, all through the last norm.

    Args:
        width: of a token.
        depth: number of blocks, a multiple of four.
        heads: of the attention.
        output_stride: has no effect, since patches are what they are.
        input_scale: side of what the patches are cut from over the image's.
    """

    def __init__(
        self, width: int, depth: int, heads: int, *, output_stride: int = 8, input_scale: float = 1.1
    ) -> None:  # fmt: skip
        super().__init__()
        self.channels = (width,) * 4
        self.strides = (PATCH,) * 4
        self.input_scale = input_scale

        def parameter(*shape: int, std: float) -> Tensor:
            return self.create_parameter([*shape], default_initializer=nn.initializer.Normal(0.0, std))

        self.cls_token = parameter(1, 1, width, std=1e-6)
        self.pos_embed = parameter(1, 1 + LEARNED_GRID**2, width, std=0.02)
        self.mask_token = self.create_parameter([1, width], default_initializer=nn.initializer.Constant(0.0))
        self.patch_embed = PatchProjection(width)
        self.blocks = nn.LayerList(EncoderBlock(width, heads) for _ in range(depth))
        self.norm = TokenNorm(width, EPSILON)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches (h, w), at least 1, of images of `size` (H, W) pixels."""
        rows, columns = (max(1, int(side * self.input_scale // PATCH)) for side in size)
        return rows, columns

    def pyramid(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Images [B, 3, H, W] → four levels of features, [B, width, h, w] each with `grid`'s h and w.

        Args:
            images: the input.
            mask: bool [B, h, w] or [B, h·w]; where true, the mask token takes a patch's place.
        """
        rows, columns = self.grid((images.shape[2], images.shape[3]))
        x = self._tokens(images, (rows, columns), mask)
        levels = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if (number + 1) * 4 % len(self.blocks) == 0:
                patches = self.norm(x)[:, 1:].transpose([0, 2, 1])
                levels.append(patches.reshape([x.shape[0], x.shape[2], rows, columns]))
        return tuple(levels)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Images [B, 3, H, W] → the last level."""
        return self.pyramid(images, mask)[-1]

    def _tokens(self, images: Tensor, grid: tuple[int, int], mask: Tensor | None) -> Tensor:
        """Returns the class token and the patches with their positions, [B, 1 + h·w, width]."""
        size = (PATCH * grid[0], PATCH * grid[1])
        patches = self.patch_embed(F.interpolate(images, size=size, mode="bilinear", align_corners=False))
        if mask is not None:
            mask = mask.reshape([patches.shape[0], -1, 1])
            patches = paddle.where(mask, self.mask_token.astype(patches.dtype), patches)
        first = self.cls_token.expand([patches.shape[0], -1, -1])
        return paddle.concat([first, patches.astype(first.dtype)], axis=1) + self._positions(grid)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Returns the position embedding of the class token, as learned, and of the patches, [1, 1 + h·w, width]."""
        if grid == (LEARNED_GRID, LEARNED_GRID):
            return self.pos_embed
        width = self.pos_embed.shape[2]
        rows, columns = (paddle.to_tensor(cubic_weights(length, LEARNED_GRID)) for length in grid)
        with paddle.amp.auto_cast(enable=False):
            learned = self.pos_embed[:, 1:].reshape([LEARNED_GRID, LEARNED_GRID * width])
            by_row = paddle.matmul(rows, learned).reshape([grid[0], LEARNED_GRID, width])
            patches = paddle.matmul(columns, by_row).reshape([1, grid[0] * grid[1], width])
        return paddle.concat([self.pos_embed[:, :1], patches], axis=1)


@lru_cache(maxsize=64)
def cubic_weights(length: int, learned: int) -> np.ndarray:
    """The weights by which `length` positions take part of `learned` ones, float32 [length, learned].

    Cubic interpolation with the scale factor (length + SCALE_OFFSET) / learned, which decides where positions lie,
    without antialiasing, border values continued. A matrix, since Paddle 3.3.1 ignores the factor if the length is 1.
    """
    positions = (np.arange(length) + 0.5) * learned / (length + SCALE_OFFSET) - 0.5
    before = np.floor(positions).astype(int)
    weights = np.zeros((length, learned))
    for tap in (-1, 0, 1, 2):
        index = (before + tap).clip(0, learned - 1)
        np.add.at(weights, (np.arange(length), index), _cubic(np.abs(before + tap - positions)))
    return weights.astype(np.float32)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Cubic convolution at distances 0…2 (Keys, IEEE TASSP 1981) with a = `CUBIC`."""
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x**2 + 1
    far = CUBIC * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, far)


dinov2_s = partial(DINOv2, 384, 12, 6)
dinov2_b = partial(DINOv2, 768, 12, 12)
dinov2_l = partial(DINOv2, 1024, 24, 16)
