"""Seconds and memory of one CLAN training step: both networks' turns, forward, backward and update.

ResNet-101 with two heads, 19 classes, batch 1, source and target of the same size, official losses with
the adaptive weight at work (that is, after the warm-up), float32.

    python benchmarks/training_step.py [--only torch] [--size 512x256] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable

import common

CLASSES = 19
ITERATION = 50_000  # of 100,000; far past the warm-up


def torch_step(width: int, height: int) -> Callable[[], object]:
    """The plain PyTorch reference."""
    import torch
    import torch_reference as reference

    torch.manual_seed(0)
    source, target = torch.randn(2, 1, 3, height, width)
    labels = torch.randint(CLASSES, (1, height, width))
    step = reference.TrainingStep(reference.Segmenter(CLASSES), reference.Discriminator(CLASSES), reference.Settings())
    return lambda: step(ITERATION, source, labels, target)


def paddle_step(width: int, height: int) -> Callable[[], object]:
    """This project, as `clan train` runs it."""
    from clan.core import runtime
    from clan.run import presets as recipes

    runtime.import_paddle()
    import paddle

    from clan.methods import build_method
    from clan.methods.base import Domain, LabelledDomain, Pair
    from clan.training.learner import Learner

    config = recipes.official()
    learner = Learner(config, build_method(config))
    source, target = paddle.randn([2, 1, 3, height, width])
    labels = paddle.randint(CLASSES, shape=[1, height, width]).astype("uint8")
    pair = Pair(LabelledDomain(source, (height, width), labels, is_source=True), Domain(target, (height, width)))

    def step() -> None:
        learner.accumulate(ITERATION, [pair])
        learner.step(ITERATION)

    return step


if __name__ == "__main__":
    common.main("training step", {"torch": torch_step, "paddle": paddle_step}, size="512x256")
