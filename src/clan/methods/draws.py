"""What self-training draws in a step, so that everything else is a function of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor

from clan.losses.augmentation import ADJUSTMENTS, Formulas, blur, jitter_colors
from clan.models.normalization import Normalization

JITTER_PROBABILITY, BLUR_PROBABILITY = 0.8, 0.5
SIGMAS = (0.15, 1.15)
"""Range of the blur's standard deviation in pixels."""


@dataclass(frozen=True)
class ColorScale:
    """How images of a domain were normalised: (value − mean) / std.

    Args:
        mean: in 0…255, float32 [1, 3, 1, 1] in the network's channel order, or of every pixel [B, 3, H, W].
        std: the same of the standard deviation.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, how: Normalization) -> "ColorScale":
        """That of a normalisation."""
        mean, std = ([values[channel] for channel in how.order] for values in (how.mean, how.std))
        return cls(*(paddle.to_tensor(values, dtype="float32").reshape([1, 3, 1, 1]) for values in (mean, std)))


@dataclass(frozen=True)
class Distortion:
    """Colour jitter and blur of a batch.

    Args:
        order: that of brightness, contrast, saturation and hue; None: no jitter.
        factors: for each image, float32 [B, 4]; see `jitter_colors`.
        sigma: the blur's standard deviation in pixels; None: no blur.
        formulas: those of the jitter.
    """

    order: tuple[int, ...] | None = None
    factors: np.ndarray | None = None
    sigma: float | None = None
    formulas: Formulas = ADJUSTMENTS

    def apply(self, images: Tensor, scale: ColorScale) -> Tensor:
        """Normalised images, float32 [B, 3, H, W] → the same, distorted."""
        if self.order is not None:
            assert self.factors is not None
            colors = (images * scale.std + scale.mean) / 255.0
            colors = jitter_colors(colors, paddle.to_tensor(self.factors), self.order, self.formulas)
            images = (colors * 255.0 - scale.mean) / scale.std
        return images if self.sigma is None else blur(images, self.sigma)


def draw_distortion(
    random: np.random.Generator,
    batch: int,
    strengths: Sequence[float],
    *,
    probability: float = JITTER_PROBABILITY,
    blurs: bool = True,
    formulas: Formulas = ADJUSTMENTS,
) -> Distortion:
    """Draws for a batch whether to jitter and to blur, the order and σ, and for each image the factors.

    Args:
        random: the step's generator.
        batch: number of images B.
        strengths: largest changes of brightness, contrast, saturation and hue; all 0: no jitter.
        probability: that of jitter.
        blurs: whether to blur at all.
        formulas: those of the jitter.
    """
    jitters, smooths, sigma = random.random() < probability, random.random() < BLUR_PROBABILITY, random.uniform(*SIGMAS)
    order = tuple(random.permutation(len(ADJUSTMENTS)).tolist())
    factors = ([1.0, 1.0, 1.0, 0.0] + random.uniform(-1.0, 1.0, (batch, 4)) * strengths).astype(np.float32)
    jitters = jitters and any(strengths)
    drawn = (order, factors) if jitters else (None, None)
    return Distortion(*drawn, sigma if smooths and blurs else None, formulas)


def draw_classes(random: np.random.Generator, labels_BHW: np.ndarray, *, of_batch: bool) -> tuple[tuple[int, ...], ...]:
    """Draws for each image half of the classes present, rounded up, without replacement (Olsson et al., WACV 2021).

    Args:
        random: the step's generator.
        labels_BHW: trainIds, uint8 [B, H, W]; the ignored one counts as a class.
        of_batch: draw among the classes of the whole batch, not of each image by itself.
    """
    counts = np.array([np.bincount(labels.ravel(), minlength=256) for labels in labels_BHW])
    if of_batch:
        counts = np.broadcast_to(counts.sum(axis=0), counts.shape)
    present = [np.flatnonzero(row) for row in counts]
    return tuple(tuple(random.choice(row, (len(row) + 1) // 2, replace=False).tolist()) for row in present)
