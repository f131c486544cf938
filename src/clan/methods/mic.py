"""MIC: DAFormer, and consistency of masked target images with the teacher's labels (Hoyer et al., CVPR 2023)."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import paddle
from paddle import Tensor

from clan.losses.mixing import block_grid, block_mask
from clan.methods.base import LabelledDomain, Pair
from clan.methods.daformer import DAFormer
from clan.methods.draws import draw_distortion
from clan.methods.self_training import Draws, Weighted
from clan.run.method_options import MicOptions


class MIC(DAFormer):
    """DAFormer's training, with a further loss on target images of which most blocks are masked."""

    options_type = MicOptions
    options: MicOptions

    def draw(self, batch: Pair) -> Draws:
        """Draws also the masked images' distortion and blocks."""
        draws, options = super().draw(batch), self.options
        count, _, *size = batch.target.images.shape
        grid = block_grid((size[0], size[1]), options.mask_block)
        return replace(
            draws,
            masked=draw_distortion(batch.random, count, [options.color_jitter] * 4, blurs=options.blur),
            blocks=batch.random.random((count, 1, *grid), np.float32),
        )

    def target_losses(self, source: LabelledDomain, pseudo: Weighted, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """Yields also L_k."""
        yield from super().target_losses(source, pseudo, draws)
        masked = self.mask(pseudo, draws)
        self.views |= {"masked": masked.images}
        yield "loss_mask", self.options.lambda_mask * self.supervise_weighted(masked)

    @paddle.no_grad()
    def mask(self, pseudo: Weighted, draws: Draws) -> Weighted:
        """Returns x_k: the target distorted, then 0, the mean colour, on masked blocks; labels and weights stay."""
        assert draws.masked is not None and draws.blocks is not None
        images = draws.masked.apply(pseudo.images, self.target_scale)
        size = (images.shape[2], images.shape[3])
        kept = block_mask(paddle.to_tensor(draws.blocks), size, ratio=self.options.mask_ratio)
        return replace(pseudo, images=images * kept)
