"""From images to trainIds with a trained segmenter."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import paddle
from paddle import Tensor

from clan.config import Precision
from clan.engine.label_map import label_map
from clan.engine.precision import autocast
from clan.losses.adversarial import discrepancy_map
from clan.losses.probability import class_probabilities
from clan.models.deeplab import Segmenter, Upsampling, upsample


@contextmanager
def evaluating(segmenter: Segmenter, precision: Precision = "fp32") -> Iterator[None]:
    """Within the block the segmenter is in eval mode, records no gradients and computes at `precision` on a GPU."""
    modes = {layer: layer.training for layer in segmenter.sublayers(include_self=True)}
    segmenter.eval()
    try:
        with paddle.no_grad(), autocast(precision):
            yield
    finally:
        for layer, training in modes.items():
            layer.training = training


def predict(
    segmenter: Segmenter,
    planes: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    *,
    upsampling: Upsampling = "bilinear",
    excluded: int | None = None,
) -> list[Callable[[], np.ndarray]]:
    """Runs the network on a batch; what is left to do for each image needs no Paddle, so any thread can do it.

    Args:
        segmenter: in eval mode (see `evaluating`).
        planes: float32 [B, 3, h, w], normalised.
        sizes: height and width (H, W) of each image's result.
        upsampling: "bilinear" or "bicubic", of z_1 + z_2.
        excluded: a trainId that is never predicted.

    Returns:
        For each image a function that gives its trainIds, the largest of z_1 + z_2, uint8 [H, W].
    """
    logits1, logits2 = _logits(segmenter, planes)
    return _label_maps(logits1 + logits2, sizes, upsampling, excluded)


@dataclass(frozen=True)
class Analysis:
    """What a segmenter makes of one image.

    Args:
        train_ids: gives the label map at the wanted size, uint8 [H, W]; needs no Paddle, so any thread can call it.
        confidence: float32 [h, w], the largest probability of q, the softmax of z_1 + z_2, at the network's size.
        discrepancy: float32 [h, w], 0…1, the discrepancy map M of the two heads, likewise.
    """

    train_ids: Callable[[], np.ndarray]
    confidence: np.ndarray
    discrepancy: np.ndarray


def analyse(
    segmenter: Segmenter, planes: np.ndarray, size: tuple[int, int], *, upsampling: Upsampling = "bilinear"
) -> Analysis:
    """Runs the network on one image and looks at how sure it is and where its heads disagree.

    Args:
        segmenter: in eval mode (see `evaluating`).
        planes: float32 [3, h, w], normalised.
        size: height and width (H, W) of the label map.
        upsampling: "bilinear" or "bicubic", of z_1 + z_2 in the label map.
    """
    logits1, logits2 = _logits(segmenter, planes[None])
    # Both maps as training sees them: of logits upsampled to the size of the network's input.
    full1, full2 = (upsample(logits, planes.shape[1:]) for logits in (logits1, logits2))
    return Analysis(
        _label_maps(logits1 + logits2, [size], upsampling, None)[0],
        class_probabilities(full1 + full2).max(axis=1)[0].numpy(),
        discrepancy_map(class_probabilities(full1), class_probabilities(full2))[0, 0].numpy(),
    )


def _logits(segmenter: Segmenter, planes: np.ndarray) -> tuple[Tensor, Tensor]:
    """Both heads' logits, float32 whatever the network computed in."""
    logits1, logits2 = segmenter(paddle.to_tensor(planes))
    return logits1.astype("float32"), logits2.astype("float32")


def _label_maps(
    logits: Tensor, sizes: Sequence[tuple[int, int]], upsampling: Upsampling, excluded: int | None
) -> list[Callable[[], np.ndarray]]:
    """What gives the label maps of logits [B, C, h, w], each at its size."""
    if upsampling == "bilinear":
        return [
            partial(label_map, coarse, size, excluded=excluded)
            for coarse, size in zip(logits.numpy(), sizes, strict=True)
        ]
    maps = [_label_map(logits[k : k + 1], size, upsampling, excluded) for k, size in enumerate(sizes)]
    return [partial(np.asarray, labels) for labels in maps]


def _label_map(logits: Tensor, size: tuple[int, int], upsampling: Upsampling, excluded: int | None) -> np.ndarray:
    """TrainIds uint8 [H, W] from logits [1, C, h, w] by Paddle's own operations, which hold them at full size."""
    full = upsample(logits, size, upsampling)[0]
    if excluded is not None and excluded < len(full):
        full[excluded] = -float("inf")  # not before: infinity times a weight of zero is NaN
    return full.argmax(axis=0).astype("uint8").numpy()
