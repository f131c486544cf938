"""From images to trainIds with a trained segmenter."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle

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
    segmenter: Segmenter, planes: np.ndarray, size: tuple[int, int], *, upsampling: Upsampling = "bilinear",
    excluded: int | None = None,
) -> np.ndarray:  # fmt: skip
    """TrainIds of one image: the largest of z_1 + z_2 at `size`.

    Args:
        segmenter: in eval mode (see `evaluating`).
        planes: float32 [3, h, w], normalised.
        size: height and width of the result.
        upsampling: "bilinear" or "bicubic".
        excluded: a trainId that is never predicted.

    Returns:
        uint8 [H, W].
    """
    logits1, logits2 = segmenter(paddle.to_tensor(planes).unsqueeze(0))
    logits = logits1 + logits2
    if excluded is not None and excluded < logits.shape[1]:
        logits[:, excluded] = -float("inf")
    return upsample(logits, size, upsampling)[0].argmax(axis=0).numpy().astype(np.uint8)
