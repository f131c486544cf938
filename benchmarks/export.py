"""What exporting a network costs in accuracy and time: weights by Paddle against ONNX in float32, float16 and 8 bits.

Every image is seen at the run's size. Labels and logits are compared with those of the weights, mIoU with the ground
truth; seconds are of one call of the network, medians of all images.

    python benchmarks/export.py WEIGHTS IMAGES [--images 40] [--kinds fp32 int8]

WEIGHTS is a snapshot beside its run's config.yaml; IMAGES a folder of target images to calibrate 8 bits on.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

KINDS = ("fp32", "fp16", "int8")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    from clan.data.domains import evaluation_dataset
    from clan.deployment.exporting import ExportOptions, export_weights
    from clan.evaluation.confusion import confusion_matrix
    from clan.evaluation.iou import iou_per_class
    from clan.evaluation.model import load

    dataset = evaluation_dataset(arguments.weights, domain=None, data_dir=None, data_list=None, split=None)
    indices = np.linspace(0, len(dataset) - 1, min(arguments.images, len(dataset))).round().astype(int)
    weights = load(arguments.weights)
    size = weights.card.input.size
    models = {"weights": load(arguments.weights, input_size=size)}
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kinds:
            int8 = arguments.calibration if kind == "int8" else None
            options = ExportOptions(("onnx",), half=kind == "fp16", int8=int8)
            export_weights(arguments.weights, Path(folder) / kind, options)
            models[kind] = load(Path(folder) / kind, input_size=size)
        classes = weights.card.num_classes
        confusion = {name: np.zeros((classes, classes), np.int64) for name in models}
        seconds: dict[str, list[float]] = {name: [] for name in models}
        equal: dict[str, list[float]] = {name: [] for name in models}
        for index in indices:
            image, truth = dataset.read_pair(int(index))
            expected = None
            for name, model in models.items():
                prepared = model.prepare(image)
                started = time.perf_counter()
                prediction = model.predict(image, prepared)
                seconds[name].append(time.perf_counter() - started)
                expected = prediction.labels if expected is None else expected
                equal[name].append(float((prediction.labels == expected).mean()))
                confusion[name] += confusion_matrix(truth, prediction.labels, classes)
    print(f"{len(indices)} images of {dataset.name} at {size[0]}x{size[1]}")
    for name in models:
        miou = 100 * np.nanmean(iou_per_class(confusion[name]))
        alike = 100 * statistics.mean(equal[name])
        print(f"{name:8} mIoU {miou:6.2f}  labels alike {alike:7.3f} %  {statistics.median(seconds[name]):.3f} s")


if __name__ == "__main__":
    main()
