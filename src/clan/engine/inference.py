"""From images to trainIds with a trained segmenter."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import paddle
from paddle import Tensor

from clan.engine.label_map import label_map
from clan.models.deeplab import Segmenter, Upsampling, upsample


@contextmanager
def evaluating(segmenter: Segmenter) -> Iterator[None]:
    """Within the block the segmenter is in eval mode and records no gradients."""
    modes = {layer: layer.training for layer in segmenter.sublayers(include_self=True)}
    segmenter.eval()
    try:
        with paddle.no_grad():
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
    logits1, logits2 = segmenter(paddle.to_tensor(planes))
    logits = logits1 + logits2
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
