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
    """This project."""
    raise NotImplementedError("the paddle contestant")


if __name__ == "__main__":
    common.main("training step", {"torch": torch_step, "paddle": paddle_step}, size="512x256")
