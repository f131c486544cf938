"""What averaging over mirrorings, scales and windows gains, and what it costs: one snapshot, evaluated several times.

    python benchmarks/views.py SNAPSHOT.pdparams [--splits val test] [--scratch DIR] [--only NAME …]

Without a snapshot one is trained first: source-only, MobileNetV2, rendered streets to CamVid, as `adaptation.py` does
it, for `--steps` iterations.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import common
from adaptation_experiments import as_arguments, flags_of

from clan.evaluation.scores_file import read_evaluation

ROOT = Path(__file__).resolve().parents[1]

VIEWS = {
    "plain": (),
    "flip": ("--tta", "flip"),
    "scales": ("--tta", "1", "1.25", "1.5"),
    "flip and scales": ("--tta", "flip", "1", "1.25", "1.5"),
    "flip and scales, mean of logits": ("--tta", "flip", "1", "1.25", "1.5", "--tta-average", "logits"),
    "windows": ("--window", "240", "160", "--overlap", "0.25", "--input-size", "360", "240"),
    "windows, flip": ("--window", "240", "160", "--overlap", "0.25", "--input-size", "360", "240", "--tta", "flip"),
}


def clan(*arguments: str) -> float:
    """Runs a command of this checkout; returns its seconds."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "clan", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def trained(scratch: Path, steps: int) -> Path:
    """The snapshot of a short run."""
    flags = flags_of("rendered_to_camvid", "source-only") | {"num-steps": steps, "save-every": steps}
    clan("train", *as_arguments(flags), "--snapshot-dir", str(scratch / "run"), "--resume", "auto")
    return next((scratch / "run").glob(f"*_{steps}.pdparams"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", type=Path)
    parser.add_argument("--splits", nargs="+", default=["val"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scratch", type=Path, default=ROOT / "runs/views")
    parser.add_argument("--only", nargs="+", choices=VIEWS, default=list(VIEWS))
    args = parser.parse_args()
    scratch = args.scratch.resolve()
    weights = args.weights.resolve() if args.weights else trained(scratch, args.steps)
    print(common.describe_machine())
    print(f"{'views':34}", *(f"{split + ', mIoU':>12} {'seconds':>8}" for split in args.splits), flush=True)
    for name in args.only:
        columns = []
        for split in args.splits:
            save = scratch / name.replace(", ", "-").replace(" ", "-") / split
            seconds = clan("evaluate", str(weights), "--split", split, "--save", str(save), *VIEWS[name])
            (scores,) = save.glob("*/scores.json")
            mean = next(iter(read_evaluation(scores.parent).scores.means.values()))
            columns.append(f"{100 * mean:12.2f} {seconds:8.0f}")
        print(f"{name:34}", *columns, flush=True)


if __name__ == "__main__":
    main()
