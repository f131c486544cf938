"""Seconds and memory of one prediction: a ResNet-101 segmenter in eval mode, image to summed logits.

19 classes, batch 1, float32 except where a name says bf16. Reading the image, upsampling the logits and writing the
result are not included: they are not the network's.

    python benchmarks/prediction.py [--only torch paddle] [--size 1024x512] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import common

CLASSES = 19


def torch_prediction(width: int, height: int, *, bf16: bool = False) -> Callable[[], object]:
    """The PyTorch reference: eager, no gradients; plain, or channels-last with autocast."""
    import torch
    import torch_reference as reference

    torch.manual_seed(0)
    images = torch.randn(1, 3, height, width)
    segmenter = reference.Segmenter(CLASSES).eval()
    if bf16:
        images, segmenter = (each.to(memory_format=torch.channels_last) for each in (images, segmenter))

    def predict() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return reference.predict(segmenter, images)

    return predict


def paddle_prediction(width: int, height: int, *, precision: Literal["fp32", "bf16"] = "fp32") -> Callable[[], object]:
    """This project, as `clan evaluate` runs it."""
    from clan.core import runtime

    runtime.import_paddle()
    import paddle

    from clan.evaluation.inference import evaluating
    from clan.models.options import NetworkConfig
    from clan.models.segmenter import build_segmenter

    images = paddle.randn([1, 3, height, width])
    segmenter = build_segmenter(NetworkConfig(backbone="resnet101", num_classes=CLASSES))

    def predict() -> object:
        with evaluating(segmenter, precision):
            logits1, logits2 = segmenter(images)
            return (logits1 + logits2).numpy()

    return predict


CONTESTANTS = {
    "torch": torch_prediction,
    "torch-bf16": partial(torch_prediction, bf16=True),
    "paddle": paddle_prediction,
    "paddle-bf16": partial(paddle_prediction, precision="bf16"),
}

if __name__ == "__main__":
    common.main("prediction", CONTESTANTS, size="1024x512")
