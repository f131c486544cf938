"""Every backbone and head at full size, exported to ONNX, against the network itself: labels and logits.

    python benchmarks/export_networks.py [--only mit-b5/daformer …] [--table]

Weights are drawn: batch norms take the statistics of images like those below, and heads are scaled so that logits have
a standard deviation of `SPREAD`, about that of trained ones. Images are noise with large and small structure, of five
odd sizes, one and three at once. The exported graph resizes them to 512×256; networks whose export takes any size see
them as they are, too. Each network runs in a process of its own; records lie in `benchmarks/results/export`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
from adaptation_report import between_marks, compact_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/export"
NETWORKS = {
    "resnet101/deeplab": {"num_heads": 2},
    "resnet50/deeplab": {"num_heads": 1},
    "resnet101/daformer": {"num_heads": 1},
    "mobilenetv2/deeplab": {"num_heads": 2},
    "mobilenetv2/daformer": {"num_heads": 2},
    **{f"mit-b{size}/daformer": {"num_heads": 1} for size in range(6)},
    "mit-b2/deeplab": {"num_heads": 2},
    **{f"dinov2-{size}/light": {"num_heads": 1} for size in "sbl"},
}
"""What `network.*` says beside backbone and model."""
SEEN = (512, 256)
SIZES = ((333, 217), (97, 131), (641, 479), (255, 509), (801, 63))
"""Width and height of the images."""
BATCHES = (1, 3)
SPREAD = 4.0


def drawn_weights(name: str, folder: Path) -> Path:
    """Writes weights of a network with a spread of logits like that of trained ones, beside their configuration."""
    import paddle
    from paddle import nn

    from clan.data.transforms import normalize
    from clan.models.normalization import IMAGENET
    from clan.models.options import NetworkConfig
    from clan.models.segmenter import build_segmenter
    from clan.models.weights import save_weights
    from clan.run.config import Config, DomainConfig, to_yaml

    paddle.seed(0)
    backbone, model = name.split("/")
    network = NetworkConfig(backbone=backbone, model=model, input_normalization="imagenet-rgb", **NETWORKS[name])
    segmenter = build_segmenter(network)
    size = SEEN[0] // 2, SEEN[1] // 2
    planes = paddle.to_tensor(np.stack([normalize(one, IMAGENET) for one in picture(2, size)]))
    norms = [layer for layer in segmenter.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    for layer in norms:
        layer._momentum = 0.0
    segmenter.train()
    with paddle.no_grad():
        if norms:
            segmenter(planes)
        segmenter.eval()
        for head, logits in zip(segmenter.heads, segmenter(planes), strict=True):
            last = [one for one in head.sublayers() if isinstance(one, nn.Conv2D)]
            scaled = last if model == "deeplab" else last[-1:]  # the branches of DeepLab's are added
            for layer in scaled:
                layer.weight.scale_(SPREAD / float(logits.std()))
    path = folder / "drawn_1.pdparams"
    save_weights(segmenter, path)
    source, target = (DomainConfig(dataset=one, root=folder, size=SEEN) for one in ("synthia", "cityscapes"))
    config = Config(source=source, target=target, network=network, snapshot_dir=folder)
    (folder / "config.yaml").write_text(to_yaml(config))
    return path


def picture(batch: int, size: tuple[int, int]) -> np.ndarray:
    """Noise of several scales, uint8 RGB [N, H, W, 3]."""
    import cv2

    random = np.random.default_rng(size[0])
    coarse = [random.normal(size=(batch, *(max(1, side // step) for side in size[::-1]), 3)) for step in (64, 8, 1)]
    layers = [
        np.stack([cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in layer.astype(np.float32)])
        for layer in coarse
    ]
    return np.clip(128 + 40 * layers[0] + 25 * layers[1] + 10 * layers[2], 0, 255).astype(np.uint8)


def measure(name: str) -> None:
    """Exports one network, compares, and writes its record."""
    from clan.deployment.exporting import ExportOptions, export_weights
    from clan.evaluation.model import load

    with tempfile.TemporaryDirectory() as folder:
        weights = drawn_weights(name, Path(folder))
        reference = load(weights, input_size=SEEN)
        ways = {"resized": ExportOptions(("onnx",), size=SEEN)}
        if not name.startswith("dinov2"):
            ways["as they are"] = ExportOptions(("onnx",), resize=False)
        found = {}
        for way, options in ways.items():
            export_weights(weights, Path(folder) / "net", options, notify=lambda sentence: None)
            found[way] = compare(load(Path(folder) / "net"), reference, resized=options.resize)
    path = RESULTS / f"{name.replace('/', '-')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"network": name, "date": datetime.date.today().isoformat(), "machine": common.describe_machine()}
    path.write_text(compact_json(about | found))
    print(name, found, flush=True)


def compare(exported: Any, reference: Any, *, resized: bool) -> dict[str, float]:
    """Over all sizes and batches: the largest difference of logits, the largest logit, the least share of labels."""
    from clan.evaluation.model import Prediction

    difference, largest, equal = 0.0, 0.0, 1.0
    for size in SIZES:
        for batch in BATCHES:
            images = picture(batch, size)
            labels, logits = exported.network.session.run(["labels", "logits"], {"image": images})
            if resized:
                expected = reference(images)
            else:
                found = reference.network.logits(images)
                expected = [
                    Prediction(image, one, size[::-1], reference.card) for image, one in zip(images, found, strict=True)
                ]
            for number, one in enumerate(expected):
                difference = max(difference, float(np.abs(logits[number] - one.logits).max()))
                largest = max(largest, float(np.abs(one.logits).max()))
                equal = min(equal, float((labels[number] == one.labels).mean()))
    return {"difference": difference, "largest": largest, "equal": equal}


def table() -> str:
    """A row per network."""
    lines = [
        "| network | largest difference of logits, as a share of the largest | least share of equal labels |",
        "|---|---|---|",
    ]
    records = [json.loads((RESULTS / f"{name.replace('/', '-')}.json").read_text()) for name in NETWORKS]
    for one in records:
        for way in ("resized", "as they are"):
            if way in one:
                found = one[way]
                lines.append(
                    f"| {one['network'].replace('/', ', ')}{'' if way == 'resized' else ', images as they are'} "
                    f"| {found['difference'] / found['largest']:.1e} | {100 * found['equal']:.3f} % |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, metavar="NETWORK", default=list(NETWORKS))
    parser.add_argument("--table", action="store_true", help="write the table of docs/export.md")
    parser.add_argument("--one", choices=NETWORKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one)
    elif args.table:
        page = ROOT / "docs/export.md"
        page.write_text(between_marks(page.read_text(encoding="utf-8"), "export networks", table()), encoding="utf-8")
    else:
        for name in args.only:
            subprocess.run([sys.executable, __file__, "--one", name], check=True)


if __name__ == "__main__":
    main()
