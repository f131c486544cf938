"""Labels of a few target images, suggested and drawn at random: rendered_streets to CamVid, 23 of 367 images.

A run without labels of the target is trained first; its last snapshot suggests images. Then the same settings are
trained with the suggested labels, and with as many drawn at random, from the same initial weights and seed, and the
oracle with all labels. Network and options are those of `adaptation.py`, on smaller images. All are scored on CamVid's
val split. What share of the gap between no labels and all of them each closes is printed. Runs that are finished are
not trained again, so that an interrupted benchmark goes on.

    OMP_NUM_THREADS=1 nice -n 5 python benchmarks/few_labels.py [--seeds 0 1] [--iterations 300] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import common
import numpy as np
from adaptation_experiments import FINAL, as_arguments, flags_of

ROOT = Path(__file__).resolve().parents[1]
DOMAINS = Path("benchmarks/domains")


def clan(*words: object) -> str:
    """Runs a command of `clan` at the project's root; returns what it prints."""
    command = [sys.executable, "-m", "clan", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(folder: Path, args: argparse.Namespace, seed: int, labels: Path | None = None, method: str = "") -> Path:
    """Trains a run, with the method of `args` unless one is given, unless it is finished; returns its last snapshot."""
    snapshot = folder / f"rendered_streets_{args.iterations}.pdparams"
    if snapshot.exists():
        return snapshot
    own = {
        "source.size": args.size,
        "target.size": args.size,
        "augmentation.crop-size": args.crop,
        "num-steps": args.iterations,
        "warmup-steps": args.iterations // 10,
        "seed": seed,
        "keep-last": 1,
        "save-every": args.iterations,
        "snapshot-dir": folder,
        **({"target-labels": labels} if labels else {}),
    }
    words = as_arguments({**flags_of("rendered_to_camvid", method or args.method), **own})
    clan("train", *words, "--resume", "auto", "--quiet")
    return snapshot


def score(snapshot: Path, folder: Path) -> float:
    """Returns the mIoU on CamVid's val split."""
    save = folder / "result"
    clan("evaluate", snapshot, "--domain", DOMAINS / "camvid.yaml", "--split", "val", "--save", save)
    found = json.loads(next(save.rglob("scores.json")).read_text(encoding="utf-8"))
    return found["means"]["mIoU"] if "mIoU" in found["means"] else next(iter(found["means"].values()))


def lists(folder: Path, base: Path, args: argparse.Namespace, seed: int) -> dict[str, Path]:
    """Writes a suggested and a random list of images; returns them by name."""
    found = {name: folder / f"{name}.txt" for name in ("suggested", "random")}
    clan("suggest", base, "-n", args.count, "-o", found["suggested"])
    names = sorted(path.stem for path in (ROOT / "../shared/data/camvid/train").glob("*.jpg"))
    drawn = np.random.default_rng(seed).choice(len(names), args.count, replace=False)
    found["random"].write_text("".join(f"{names[index]}\n" for index in sorted(drawn)), encoding="utf-8")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    parser.add_argument("--iterations", type=int, default=300, metavar="N")
    parser.add_argument("--size", type=common.parse_size, default="320x240", metavar="WxH")
    parser.add_argument("--crop", type=common.parse_size, default="256x192", metavar="WxH")
    parser.add_argument("--method", choices=FINAL, default="source-only", help="beside the labels (source-only)")
    parser.add_argument("--count", type=int, default=23, metavar="N", help="images with labels (23)")
    parser.add_argument("--folder", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    machine = common.describe_machine()
    scores: dict[str, list[float]] = {}
    for seed in args.seeds:
        folder = args.folder.absolute() / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        none, oracle = folder / "none", folder / "oracle"
        found = {"none": score(train(none, args, seed), none)}
        for name, labels in lists(folder, none, args, seed).items():
            found[name] = score(train(folder / name, args, seed, labels), folder / name)
        found["oracle"] = score(train(oracle, args, seed, method="oracle"), oracle)
        for name, value in found.items():
            scores.setdefault(name, []).append(value)
            gap = (value - found["none"]) / (found["oracle"] - found["none"])
            print(f"| {name} | {seed} | {100 * value:.1f} | {gap:.0%} |", flush=True)
        if args.json:
            record = {"machine": machine, "arguments": {k: str(v) for k, v in vars(args).items()}, "miou": scores}
            args.json.write_text(json.dumps(record, indent=2) + "\n")
    for name, values in scores.items():
        gap = (mean(values) - mean(scores["none"])) / (mean(scores["oracle"]) - mean(scores["none"]))
        spread = stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: {100 * mean(values):.1f} ± {100 * spread:.1f}, {gap:.0%} of the gap")


if __name__ == "__main__":
    main()
