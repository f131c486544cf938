"""What `clan plan` predicts, and what a run takes: peak memory, and seconds of the processor an iteration.

Each configuration is predicted from a few steps at smaller sizes, then trained for a few iterations on drawn data like
`clan train` does, in a process of its own. Time is that of the processor in all threads, since the clock's depends on
what else runs. Exits with 1 if a prediction is off by more than `--memory` or `--time`.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/plan.py [--only NAME …] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

SMALL = {"loss.gamma": 0.0, "network.head_dilations": (3, 6, 9, 12), "network.input_normalization": "imagenet-rgb"}
MOBILE = SMALL | {"network.backbone": "mobilenetv2"}
CROPPED = {"augmentation.random_scale": False, "network.num_heads": 1, "batch_size": 2}

CASES: dict[str, tuple[str, tuple[int, int], int, dict]] = {
    "clan, resnet-tiny, batch 2": ("clan", (640, 320), 8, SMALL | {"network.backbone": "resnet-tiny", "batch_size": 2}),
    "clan, mobilenetv2, random scale": ("clan", (640, 360), 14, MOBILE | {"augmentation.random_scale": True}),
    "source-only, mobilenetv2": ("source-only", (640, 360), 6, MOBILE),
    "clan, mobilenetv2, stride 16": ("clan", (640, 360), 6, MOBILE | {"network.output_stride": 16}),
    "clan, mobilenetv2, iter-size 2": ("clan", (480, 360), 5, MOBILE | {"iter_size": 2}),
    "advent, mobilenetv2": ("advent", (480, 360), 6, MOBILE),
    "minent, mobilenetv2, batch 4": ("minent", (320, 180), 6, MOBILE | {"batch_size": 4}),
    "adaptsegnet-multi, resnet-tiny": ("adaptsegnet-multi", (640, 360), 8, SMALL | {"network.backbone": "resnet-tiny"}),
    "dacs, mobilenetv2, crops": ("dacs", (640, 360), 6, MOBILE | CROPPED | {"augmentation.crop_size": (352, 352)}),
    "mic, mobilenetv2, crops": ("mic", (640, 360), 6, MOBILE | CROPPED | {"augmentation.crop_size": (352, 352)}),
    "daformer, mobilenetv2, adamw": ("daformer", (480, 360), 6, MOBILE | {"optimizer.algorithm": "adamw"}),
    "vfm, dinov2-s, crops": (
        "vfm",
        (640, 360),
        4,
        CROPPED
        | {"network.backbone": "dinov2-s", "network.model": "light", "network.align_corners": False}
        | {"augmentation.crop_size": (336, 336), "network.input_normalization": "imagenet-rgb", "loss.gamma": 0.0}
        | {"optimizer.algorithm": "adamw"},
    ),
    "clan, resnet50": ("clan", (480, 360), 4, {"network.backbone": "resnet50"}),
    "clan, resnet101": ("clan", (512, 320), 4, {}),
    "clan, resnet101, bf16": ("clan", (512, 320), 4, {"precision": "bf16"}),
}
"""Name → method, size, iterations, and options that differ from the official preset without random scale."""


def configuration(name: str, worlds: Path, folder: Path):
    """Returns the run of a case, on the drawn worlds."""
    from clan.run.config import Config
    from clan.run.method_options import switched
    from clan.run.presets import official

    method, size, steps, options = CASES[name]
    values = official().model_dump()
    values["method"] = switched(official().method, method)
    for role, place in (("source", "SYNTHIA/RAND_CITYSCAPES"), ("target", "Cityscapes")):
        values[role] |= {"root": worlds / place, "size": size}
    values |= {"num_steps": 1000, "num_steps_stop": steps, "save_every": steps, "num_workers": 2}
    values |= {"snapshot_dir": folder / "run", "loggers": ()}
    for option, value in ({"augmentation.random_scale": False} | options).items():
        *sections, field = option.split(".")
        section = values
        for key in sections:
            section = section[key]
        section[field] = value
    return Config.model_validate(values)


def train(path: Path) -> None:
    """Trains a configuration; prints the peak memory and the processor's seconds of its iterations but the first."""
    from clan.core import runtime

    runtime.import_paddle()
    from clan.run.config import load
    from clan.run.observer import Observer, Step
    from clan.training.trainer import Trainer

    seconds: list[float] = []

    class Watch(Observer):
        def step(self, step: Step) -> None:
            seconds.append(time.process_time())

    Trainer(load(path), notify=lambda sentence: None).run(Watch())
    steps = [after - before for before, after in itertools.pairwise(seconds)]
    print(json.dumps({"memory": common.peak_memory(), "seconds": sum(steps) / len(steps), "steps": steps}))


def compare(name: str, worlds: Path) -> dict[str, float]:
    """Predicts a case and trains it."""
    from clan.run.config import to_yaml
    from clan.training.plan import estimate

    with tempfile.TemporaryDirectory() as folder:
        config = configuration(name, worlds, Path(folder))
        plan = estimate(config, notify=lambda sentence: None)
        path = Path(folder) / "config.yaml"
        path.write_text(to_yaml(config), encoding="utf-8")
        command = [sys.executable, __file__, "--train", str(path)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        truth = json.loads(answer.splitlines()[-1])
    predicted = {"memory": plan.memory(), "seconds": plan.seconds(1)}
    return {
        "measured_pixels": plan.sizes[-1]["most_pixels"],
        **{f"predicted_{what}": value for what, value in predicted.items()},
        **truth,
        **{f"{what}_error": value / truth[what] - 1 for what, value in predicted.items()},
    }


def row(name: str, found: dict[str, float]) -> str:
    """Returns a row of the table."""
    memory = f"{found['predicted_memory'] / 1e9:.2f} | {found['memory'] / 1e9:.2f} | {found['memory_error']:+.0%}"
    seconds = f"{found['predicted_seconds']:.2f} | {found['seconds']:.2f} | {found['seconds_error']:+.0%}"
    return f"| {name} | {memory} | {seconds} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES), metavar="NAME")
    parser.add_argument("--memory", type=float, default=0.15, metavar="SHARE", help="largest error of memory (0.15)")
    parser.add_argument("--time", type=float, default=0.20, metavar="SHARE", help="largest error of time (0.20)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train(args.train)
        return
    from clan.core import runtime

    runtime.configure()
    from clan.streets.worlds import write_worlds

    machine, results = common.describe_machine(), {}
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print("| run | memory predicted, GB | taken | error | seconds predicted | taken | error |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        worlds = Path(folder)
        write_worlds(worlds, source_images=8, target_train_images=8, target_val_images=1, size=(640, 360), seed=0)
        for name in args.only:
            results[name] = compare(name, worlds)
            print(row(name, results[name]), flush=True)
            if args.json:
                args.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    limits = {"memory_error": args.memory, "seconds_error": args.time}
    if any(abs(found[what]) > limit for found in results.values() for what, limit in limits.items()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
