"""Seconds and memory of one prediction: a ResNet-101 segmenter in eval mode, image to summed logits.

19 classes, batch 1, float32. Reading the image, upsampling the logits and writing the result are not
included: they are not the network's.

    python benchmarks/prediction.py [--only torch] [--size 1024x512] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable

import common

CLASSES = 19


def torch_prediction(width: int, height: int) -> Callable[[], object]:
    """The plain PyTorch reference: eager, no gradients."""
    import torch
    import torch_reference as reference

    torch.manual_seed(0)
    images = torch.randn(1, 3, height, width)
    segmenter = reference.Segmenter(CLASSES).eval()
    return lambda: reference.predict(segmenter, images)


def paddle_prediction(width: int, height: int) -> Callable[[], object]:
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
        with evaluating(segmenter):
            logits1, logits2 = segmenter(images)
            return (logits1 + logits2).numpy()

    return predict


if __name__ == "__main__":
    common.main("prediction", {"torch": torch_prediction, "paddle": paddle_prediction}, size="1024x512")
