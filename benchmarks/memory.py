"""Peak memory of a process, which must not grow with the amount of work.

python benchmarks/memory.py --what evaluation
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import common
import frames


def evaluation(images: int) -> None:
    """Evaluates that many 2048×1024 images, with a small network, since what it needs does not depend on them."""
    from clan.core import runtime

    runtime.import_paddle()
    from clan.data.dataset import Dataset
    from clan.evaluation.label_maps import EvaluationOptions, evaluate
    from clan.models.options import NetworkConfig
    from clan.models.segmenter import build_segmenter

    with frames.folder() as root:
        frames.cityscapes(Path(root), images)
        dataset = Dataset("cityscapes", Path(root), split="val")
        segmenter = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=19))
        segmenter.eval()
        evaluate(segmenter, dataset, Path(root) / "result", options=EvaluationOptions())


WORK: dict[str, tuple[Callable[[int], None], tuple[int, ...], str]] = {
    "evaluation": (evaluation, (10, 60), "images"),
}
"""What to do, with which amounts, and what is counted."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=WORK, required=True)
    parser.add_argument("--amount", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    work, amounts, unit = WORK[args.what]
    if args.amount:
        work(args.amount)
        print(common.peak_memory())
    else:
        for amount in amounts:
            command = [sys.executable, sys.argv[0], "--what", args.what, "--amount", str(amount)]
            peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
            print(f"| {args.what} | {amount} {unit} | {peak / 1e9:.3f} GB |", flush=True)
