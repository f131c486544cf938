"""VFM-UDA: self-training of a vision foundation model (Englert et al., CVPR workshops 2024); docs/method.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from clan.losses.color_blending import BLENDS
from clan.losses.mixing import block_grid, block_mask
from clan.losses.self_training import teacher_decay
from clan.methods.base import Domain, LabelledDomain, Pair, assign, follow
from clan.methods.draws import ColorScale, Distortion, draw_classes, draw_distortion
from clan.methods.self_training import Draws, SelfTraining, Weighted
from clan.run.method_options import VfmOptions

WEAK_STRENGTHS, WEAK_PROBABILITY = (32 / 255, 0.5, 0.5, 18 / 360), 0.9
"""Largest changes of brightness, contrast, saturation and hue of images of one domain, and how often they are made."""


@dataclass(frozen=True)
class Distortions(Distortion):
    """A distortion for each image of a batch.

    Args:
        each: as many as images.
    """

    each: tuple[Distortion, ...] = ()

    def apply(self, images: Tensor, scale: ColorScale) -> Tensor:
        """Normalised images, float32 [B, 3, H, W] → the same, distorted."""
        scales = [scale] * len(self.each)
        if scale.mean.shape[0] > 1:
            pairs = zip(scale.mean.split(len(self.each)), scale.std.split(len(self.each)), strict=True)
            scales = [ColorScale(*pair) for pair in pairs]
        parts = zip(self.each, images.split(len(self.each)), scales, strict=True)
        return paddle.concat([one.apply(image, how) for one, image, how in parts])


@dataclass(frozen=True)
class VfmDraws(Draws):
    """Everything random in a step; `blocks` are the draws for patches.

    Args:
        source: distortion of the source images.
        target: distortion of the target images before mixing.
    """

    source: Distortion = field(default_factory=Distortion)
    target: Distortion = field(default_factory=Distortion)


class VFM(SelfTraining):
    """Self-training whose masked images lack patch tokens, and whose teacher sees images and their mirror images."""

    options_type = VfmOptions

    def on_weights_loaded(self) -> None:
        """The teacher starts as the student."""
        assign(self.teacher, self.segmenter)

    def before_step(self, iteration: int) -> None:
        """Nothing: the teacher follows after the step."""

    def after_step(self, iteration: int) -> None:
        """θ' ← α θ' + (1 − α) θ with α of the steps taken so far, running statistics too."""
        decay = teacher_decay(iteration + 1, self.options.teacher_decay)
        follow(self.teacher, self.segmenter, decay, statistics=True)

    def draw(self, batch: Pair) -> VfmDraws:
        """Draws classes, a distortion for every image of every kind, and a number for every patch."""
        options, random, count = self.options, batch.random, batch.target.images.shape[0]

        def weak() -> Distortion:
            strengths = WEAK_STRENGTHS if options.domain_jitter else [0.0] * 4
            return _draw_each(random, count, strengths, probability=WEAK_PROBABILITY, blurs=False)

        def strong() -> Distortion:
            return _draw_each(random, count, [options.color_jitter] * 4, blurs=options.blur)

        classes = draw_classes(random, batch.source.labels_on_host(), of_batch=True)
        return VfmDraws(
            classes, mixed=strong(), masked=strong(), source=weak(), target=weak(),
            blocks=random.random((count, 1, *self._mask_grid(batch.target)), np.float32),
        )  # fmt: skip

    def supervised(self, source: LabelledDomain, draws: Draws) -> LabelledDomain:
        """Returns the source with its colours changed."""
        assert isinstance(draws, VfmDraws)
        return replace(source, images=draws.source.apply(source.images, self.source_scale))

    def source_losses(self, source: LabelledDomain) -> dict[str, Tensor]:
        """Returns L_s, a mean over valid pixels."""
        return {"loss_seg": self.supervise(self.logits(source), source.labels)}

    def teacher_probabilities(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the mean of the teacher's class probabilities of images and of their mirror images."""
        mirrored = super().teacher_probabilities(images.flip(3), size).flip(3)
        return (super().teacher_probabilities(images, size) + mirrored) / 2.0

    def target_losses(self, source: LabelledDomain, pseudo: Weighted, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """Yields the loss on mixtures with the target's colours changed, then the loss on masked images."""
        assert isinstance(draws, VfmDraws)
        changed = replace(pseudo, images=draws.target.apply(pseudo.images, self.target_scale))
        yield from super().target_losses(source, changed, draws)
        if self.options.mask_ratio:
            yield "loss_mask", self._masked_loss(pseudo, draws)

    def _masked_loss(self, pseudo: Weighted, draws: VfmDraws) -> Tensor:
        assert draws.masked is not None
        assert draws.blocks is not None
        images, ratio = draws.masked.apply(pseudo.images, self.target_scale), self.options.mask_ratio
        uniform, size = paddle.to_tensor(draws.blocks), (images.shape[2], images.shape[3])
        options = {}
        kept = block_mask(uniform, size, ratio=ratio)
        if self._has_mask_token():
            options["mask"] = uniform < ratio
            self.views |= {"masked": images * kept}  # to look at, since no image shows what tokens lack
        else:
            images = images * kept
            self.views |= {"masked": images}
        return self.supervise_weighted(replace(pseudo, images=images), **options)

    def _has_mask_token(self) -> bool:
        return hasattr(self.segmenter.backbone, "mask_token")

    def _mask_grid(self, target: Domain) -> tuple[int, int]:
        """Rows and columns of what is masked: patches, or blocks for a backbone without a mask token."""
        size = (target.images.shape[2], target.images.shape[3])
        if self._has_mask_token():
            return self.segmenter.backbone.grid(size)
        rows, columns = block_grid(size, self.options.mask_block)
        return max(rows, 1), max(columns, 1)


def _draw_each(random: np.random.Generator, count: int, strengths: Sequence[float], **options: Any) -> Distortion:
    """Draws a distortion for each of `count` images."""
    each = [draw_distortion(random, 1, strengths, formulas=BLENDS, **options) for _ in range(count)]
    return Distortions(each=tuple(each))
