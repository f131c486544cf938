"""Seconds and memory of one training step of MIC: source, teacher, mixture and masked images, backward and update.

MiT-B0 and MobileNetV2 at stride 32, each with DAFormer's head of 256 channels; 19 classes, two images of each domain,
float32, stochastic depth and dropout on, no colour jitter or blur.

    python benchmarks/self_training_step.py [--only torch-mit-b0 paddle-mit-b0] [--clock cpu] [--repeats 5]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import common
import numpy as np

CLASSES, BATCH, BLOCK = 19, 2, 32
ITERATION = 5_000  # of 40,000


def inputs(width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source images, labels in squares of one class, target images."""
    random = np.random.default_rng(0)
    source, target = random.standard_normal((2, BATCH, 3, height, width), np.float32)
    classes = random.integers(CLASSES, size=(BATCH, height // BLOCK, width // BLOCK))
    return source, classes.repeat(BLOCK, 1).repeat(BLOCK, 2), target


def torch_step(width: int, height: int, *, backbone: str) -> Callable[[], object]:
    """The PyTorch reference."""
    import torch
    import torch_self_training as reference

    torch.manual_seed(0)
    network = {"mit-b0": reference.MiT, "mobilenetv2": reference.MobileNetV2}[backbone]()
    take = reference.Training(network, CLASSES)
    source, labels, target = map(torch.from_numpy, inputs(width, height))
    return lambda: take(ITERATION, source, labels, target)


def paddle_step(width: int, height: int, *, backbone: str) -> Callable[[], object]:
    """This project, as `clan train` runs it."""
    from clan.core import runtime

    runtime.import_paddle()
    import paddle

    from clan.methods import build_method
    from clan.methods.base import Domain, LabelledDomain, Pair
    from clan.run.config import NetworkConfig, OptimizerConfig
    from clan.run.method_options import MicOptions
    from clan.run.presets import dacs
    from clan.training.learner import Learner

    network = NetworkConfig(
        backbone=backbone, model="daformer", num_heads=1, align_corners=False, input_normalization="imagenet-rgb"
    )
    optimizer = OptimizerConfig(
        algorithm="adamw", learning_rate=6e-5, head_multiplier=10.0, weight_decay=0.01, no_decay=("norm",)
    )
    method = MicOptions(color_jitter=0.0, blur=False)
    changes = {"network": network, "optimizer": optimizer, "method": method, "num_steps": 40_000}
    config = dacs().model_copy(update=changes)
    learner = Learner(config, build_method(config))
    source, labels, target = inputs(width, height)
    size = (height, width)
    supervised = LabelledDomain(
        paddle.to_tensor(source), size, paddle.to_tensor(labels.astype(np.uint8)), is_source=True
    )
    pair = Pair(supervised, Domain(paddle.to_tensor(target), size))

    def step() -> None:
        learner.accumulate(ITERATION, [pair])
        learner.step(ITERATION)

    return step


CONTESTANTS = {
    f"{framework}-{backbone}": partial(prepare, backbone=backbone)
    for backbone in ("mit-b0", "mobilenetv2")
    for framework, prepare in (("torch", torch_step), ("paddle", paddle_step))
}

if __name__ == "__main__":
    common.main("training step of mic", CONTESTANTS, size="512x256")
