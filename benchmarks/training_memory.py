"""Resident memory during training, which must not grow with the iterations.

Trains a small network on drawn data like `clan train` (loader threads, both optimizers, records), so that leaked
references show. Exits with 1 if the second half uses more than the first by over `--tolerance`.

    python benchmarks/training_memory.py [--iterations 300] [--every 50] [--tolerance 0.02] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import common


def resident_bytes() -> int:
    """What this process holds in memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def train(folder: Path, iterations: int, every: int) -> dict[int, int]:
    """Bytes after every so many iterations."""
    from clan.core import runtime

    runtime.import_paddle()
    from clan.run.config import Config, DomainConfig, NetworkConfig
    from clan.run.observer import Observer, Step
    from clan.streets.worlds import write_worlds
    from clan.training.trainer import Trainer

    write_worlds(folder, source_images=8, target_train_images=8, target_val_images=1, size=(256, 128), seed=0)
    config = Config(
        source=DomainConfig(dataset="synthia", root=folder / "SYNTHIA/RAND_CITYSCAPES", size=(256, 128)),
        target=DomainConfig(dataset="cityscapes", root=folder / "Cityscapes", size=(256, 128)),
        network=NetworkConfig(backbone="resnet-tiny", discriminator_width=16),
        num_steps=iterations,
        warmup_steps=iterations // 10,
        num_workers=2,
        save_every=max(1, iterations // 6),
        snapshot_dir=folder / "run",
    )
    seen = {}

    class Watch(Observer):
        def step(self, step: Step) -> None:
            done = step.iteration + 1
            if done % every == 0:
                seen[done] = resident_bytes()
                print(f"  {done}: {seen[done] / 1e6:.1f} MB", flush=True)

    Trainer(config, notify=lambda sentence: None).run(Watch())
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    machine = common.describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        seen = train(Path(folder), args.iterations, args.every)
    sizes = list(seen.values())
    half = len(sizes) // 2
    growth = max(sizes[half:]) / max(sizes[:half]) - 1.0
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"| {args.iterations} iterations | {sizes[0] / 1e6:.1f} → {sizes[-1] / 1e6:.1f} MB | {growth:+.2%} |")
    if args.json:
        record = {"benchmark": "training memory", "machine": machine, "bytes": seen, "growth": growth}
        args.json.write_text(json.dumps(record, indent=2) + "\n")
    if growth > args.tolerance:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
