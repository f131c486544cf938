"""Seconds and memory of one CLAN training step: both networks' turns, forward, backward and update.

ResNet-101 with two heads, 19 classes, batch 1, source and target of the same size, official losses with
the adaptive weight at work (that is, after the warm-up). Float32, except where a name says bf16.

    python benchmarks/training_step.py [--only torch paddle] [--size 512x256] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import common

CLASSES = 19
ITERATION = 50_000  # of 100,000; far past the warm-up


def torch_step(
    width: int, height: int, *, channels_last: bool = False, compiled: bool = False, bf16: bool = False
) -> Callable[[], object]:
    """The PyTorch reference, plain or with what PyTorch offers to speed it up."""
    import torch
    import torch_reference as reference

    torch.manual_seed(0)
    source, target = torch.randn(2, 1, 3, height, width)
    labels = torch.randint(CLASSES, (1, height, width))
    segmenter, discriminator = reference.Segmenter(CLASSES), reference.Discriminator(CLASSES)
    if channels_last:
        segmenter, discriminator, source, target = (
            each.to(memory_format=torch.channels_last) for each in (segmenter, discriminator, source, target)
        )
    if compiled:
        segmenter.compile()
        discriminator.compile()
    take = reference.TrainingStep(segmenter, discriminator, reference.Settings())

    def step() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return take(ITERATION, source, labels, target)

    return step


def paddle_step(width: int, height: int, *, precision: str = "fp32") -> Callable[[], object]:
    """This project, as `clan train` runs it."""
    from clan.core import runtime
    from clan.run import presets as recipes

    runtime.import_paddle()
    import paddle

    from clan.methods import build_method
    from clan.methods.base import Domain, LabelledDomain, Pair
    from clan.training.learner import Learner

    config = recipes.official().model_copy(update={"precision": precision})
    learner = Learner(config, build_method(config))
    source, target = paddle.randn([2, 1, 3, height, width])
    labels = paddle.randint(CLASSES, shape=[1, height, width]).astype("uint8")
    pair = Pair(LabelledDomain(source, (height, width), labels, is_source=True), Domain(target, (height, width)))

    def step() -> None:
        learner.accumulate(ITERATION, [pair])
        learner.step(ITERATION)

    return step


CONTESTANTS = {
    "torch": torch_step,
    "torch-channels-last": partial(torch_step, channels_last=True),
    "torch-compiled": partial(torch_step, compiled=True),
    "torch-bf16": partial(torch_step, channels_last=True, bf16=True),
    "torch-compiled-bf16": partial(torch_step, channels_last=True, compiled=True, bf16=True),
    "paddle": paddle_step,
    "paddle-bf16": partial(paddle_step, precision="bf16"),
}

if __name__ == "__main__":
    common.main("training step", CONTESTANTS, size="512x256")
