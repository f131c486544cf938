"""Seconds and memory of predicting a photograph by the ways that `clan predict` has, with MobileNetV2.

DeepLab-v2 at an output stride of 8, 19 classes, a photograph of the network's size: from uint8 RGB to labels. The ways:
weights by Paddle's own operators, weights by this project's kernels, the export for Paddle Inference, the export for
ONNX Runtime in float32 and in 8 bits.

    python benchmarks/prediction_paths.py [--only weights onnx] [--size 1024x512] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import common
import numpy as np


def saved_weights(folder: Path) -> Path:
    """Random weights of the network, which take as long as trained ones."""
    from clan.models.options import NetworkConfig
    from clan.models.segmenter import build_segmenter
    from clan.models.weights import save_weights

    path = folder / "network.pdparams"
    save_weights(build_segmenter(NetworkConfig(backbone="mobilenetv2")), path)
    return path


def prepare(width: int, height: int, *, way: str) -> Callable[[], object]:
    """One of the ways."""
    if way == "plain":
        os.environ["CLAN_KERNELS"] = "0"
    from clan.core import runtime

    runtime.import_paddle()
    from clan.deployment.exporting import ExportOptions, export_weights
    from clan.evaluation.model import load

    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    folder = Path(tempfile.mkdtemp())
    path = saved_weights(folder)
    if way not in ("plain", "weights"):
        from PIL import Image

        Image.fromarray(picture).save(folder / "photograph.png")
        kind = "paddle" if way == "inference" else "onnx"
        options = ExportOptions((kind,), size=(width, height), int8=folder if way == "onnx-int8" else None)
        export_weights(path, folder / "network", options, notify=lambda sentence: None)
        path = folder / "network"
    model = load(path, input_size=(width, height))
    return lambda: model(picture).labels


CONTESTANTS = {way: partial(prepare, way=way) for way in ("plain", "weights", "inference", "onnx", "onnx-int8")}

if __name__ == "__main__":
    common.main("prediction with MobileNetV2", CONTESTANTS, size="1024x512")
