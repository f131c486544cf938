"""Choosing snapshots without labels: how well each criterion of `clan select` follows the true score.

    python benchmarks/selection.py --train                    # small runs of idd_to_camvid, with eight snapshots
    python benchmarks/selection.py --measure                  # measures them, and writes a record per run
    python benchmarks/selection.py --measure FOLDER FOLDER    # other runs, such as those of adaptation.py
    python benchmarks/selection.py --table                    # docs/benchmarks.md from the records

The truth is the mIoU on the target's val split, which the runs' own validations counted; the criteria see images of the
target's train split without labels. Records lie in `benchmarks/results/selection/PAIR`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median

import common
import numpy as np
from adaptation_experiments import FINAL, PAIRS, as_arguments, flags_of
from adaptation_report import between_marks, compact_json

from clan.evaluation.criteria import CRITERIA, goodness, rank_correlation
from clan.evaluation.judging import BETWEEN_SNAPSHOTS, judge_runs, rank_runs
from clan.evaluation.selection import DEFAULT
from clan.run.config import Config
from clan.run.records import read_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/selection"
STEPS, SNAPSHOTS, SEEDS, IMAGES = 160, 8, (0, 1, 2), 24
CHOSEN_ON, JUDGED_ON = "rendered_to_camvid", "idd_to_camvid"
"""The pair whose runs, those of `adaptation.py`, the default criterion is chosen on; the one that it is judged on."""
CLOSE = 1.5
"""Points of mIoU within which a choice counts as good."""

SMALL = {
    "source.size": (192, 144),
    "target.size": (192, 144),
    "augmentation.crop-size": (192, 144),
    "num-steps": STEPS,
    "warmup-steps": STEPS // 10,
    "save-every": STEPS // SNAPSHOTS,
    "validate-every": STEPS // SNAPSHOTS,
    "keep-last": 1,
}
"""What makes the runs of `adaptation.py` ones of two minutes."""

EXPERIMENTS = (*(name for name in FINAL if name != "oracle"), "clan-bf16", "minent-strong")
"""All methods without labels of the target, and one setting that is known to be wrong."""


# --- Training -----------------------------------------------------------------------------------------------


def train_all(pairs: Sequence[str], seeds: Sequence[int], scratch: Path) -> None:
    """Every run that is not done, one after another; a killed one goes on."""
    for seed in seeds:
        for pair in pairs:
            for experiment in EXPERIMENTS:
                print(f"{pair}/{experiment} seed {seed}", flush=True)
                train(pair, experiment, seed, scratch)


def train(pair: str, experiment: str, seed: int, scratch: Path) -> None:
    folder = scratch / pair / f"{experiment}-seed{seed}"
    flags = {**flags_of(pair, experiment), **SMALL, "seed": seed, "snapshot-dir": folder}
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "clan", "train", *as_arguments(flags), "--resume", "auto"]
    environment = {"PYTHONPATH": str(ROOT / "src"), **os.environ}
    with Path(f"{folder}.log").open("a") as log:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)


# --- Measuring ----------------------------------------------------------------------------------------------


def measure_all(folders: Sequence[Path], images: int) -> None:
    """Measures all runs of a pair, then compares the runs of each, and writes the records."""
    pairs: dict[str, list[Path]] = {}
    for folder in folders:
        if complete(folder):
            pairs.setdefault(pair_of(read_run(folder).config), []).append(folder)
    for pair, runs in pairs.items():
        judged = []
        for one in judge_runs(runs, images=images, **moved(runs[0])):
            print(one.folder, flush=True)
            judged.append(one)
        between = {place.run.folder: place.values for place in rank_runs(judged)} if len(runs) > 1 else {}
        for one in judged:
            write_record(pair, one, between.get(one.folder, {}))


def moved(folder: Path) -> dict[str, Path]:
    """The folders of the data where this checkout has them, for runs of another one."""
    config = read_run(folder).config
    shared = ROOT.parent / "shared/data"
    return {"data_dir": shared / config.source.dataset.name, "data_dir_target": shared / config.target.dataset.name}


def complete(folder: Path) -> bool:
    """Whether a run is finished and was validated at each of at least eight snapshots."""
    run = read_run(folder)
    return run.done >= run.config.stop and len(truth_of(folder)) >= SNAPSHOTS


def pair_of(config: Config) -> str:
    found = (config.source.dataset.name, config.target.dataset.name)
    return next(name for name, pair in PAIRS.items() if (pair.source, pair.target) == found)


def truth_of(folder: Path) -> dict[int, float]:
    """mIoU in percent by iteration, of the validations at which a snapshot was saved."""
    run = read_run(folder)
    saved = {one.iteration for one in run.snapshots}
    return {one.iteration: 100 * one.score for one in run.validations if one.iteration in saved}


def write_record(pair: str, judged, between: Mapping[str, float]) -> None:
    truth = truth_of(judged.folder)
    kept = [one for one in judged.selection.snapshots if one.iteration in truth]
    config = read_run(judged.folder).config
    name = re.sub(r"-[0-9a-f]{16}$", "", judged.folder.name)
    record = {
        "pair": pair,
        "run": name,
        "method": config.method.name,
        "seed": config.seed,
        "steps": config.stop,
        "size": config.target.size,
        "images": judged.selection.images,
        "date": datetime.date.today().isoformat(),
        "machine": common.describe_machine(),
        "iterations": [one.iteration for one in kept],
        "truth": [round(truth[one.iteration], 3) for one in kept],
        "values": {name: [round(one.values[name], 6) for one in kept] for name in judged.selection.names},
        "between": {name: round(value, 6) for name, value in between.items()},
    }
    path = RESULTS / pair / f"{name}-{config.stop}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compact_json(record))


# --- Tables -------------------------------------------------------------------------------------------------


def write_tables() -> None:
    document = ROOT / "docs/benchmarks.md"
    text = document.read_text(encoding="utf-8")
    for pair in (CHOSEN_ON, JUDGED_ON):
        records = [json.loads(path.read_text()) for path in sorted((RESULTS / pair).glob("*.json"))]
        written = table(records) if records else "No run is recorded yet."
        text = between_marks(text, f"selection {pair}", written)
    document.write_text(text, encoding="utf-8")


def table(records: Sequence[dict]) -> str:
    """A row per criterion, then what choosing by chance and the last snapshot come to."""
    lines = [
        "| criterion | Spearman within runs, median (least) | chosen within 1.5 points | regret, mean (largest) | "
        "Spearman over all runs | regret over all runs |",
        "|---|---|---|---|---|---|",
    ]
    for name in CRITERIA:
        known = [record for record in records if name in record["values"]]
        if len(known) >= max(1, len(records) // 2):
            lines.append(
                f"| `{name}`{'' if len(known) == len(records) else f' ({len(known)} runs)'} | {row(name, known)} |"
            )
    lost = [[max(record["truth"]) - one for one in record["truth"]] for record in records]
    last, chance = [one[-1] for one in lost], [mean(one) for one in lost]
    lines.append(f"| the last snapshot | | {share(last)} | {mean(last):.1f} ({max(last):.1f}) | | |")
    near = mean(one <= CLOSE for of_run in lost for one in of_run)
    lines.append(f"| any, by chance | | {near:.0%} | {mean(chance):.1f} | | |".replace("%", " %"))
    return "\n".join([*lines, "", circumstances(records), "", runs_table(records)])


def row(name: str, records: Sequence[dict]) -> str:
    correlations = [rank_correlation(goodness(name, one["values"][name]), one["truth"]) for one in records]
    correlations = [one for one in correlations if np.isfinite(one)]
    lost = [max(one["truth"]) - one["truth"][choice(name, one)] for one in records]
    within = f"{median(correlations):.2f} ({min(correlations):.2f})" if correlations else "–"
    return f"{within} | {share(lost)} | {mean(lost):.1f} ({max(lost):.1f}) | {between(name, records)}"


def choice(name: str, record: dict) -> int:
    good = goodness(name, record["values"][name])
    return int(np.flatnonzero(good == good.max())[-1])


def between(name: str, records: Sequence[dict]) -> str:
    """Over the snapshots of all runs together: Spearman with the truth, and what the one chosen of all loses."""
    if len(records) < 3 or name in BETWEEN_SNAPSHOTS:
        return "– | –"
    if name == "ensemble":  # of the chosen snapshots, since its values of one run say nothing of another
        if not all(name in one["between"] for one in records):
            return "– | –"
        truth = np.array([one["truth"][choice(name, one)] for one in records])
        good = np.array([one["between"][name] for one in records])
    else:
        truth = np.concatenate([one["truth"] for one in records])
        good = np.concatenate([goodness(name, one["values"][name]) for one in records])
    best = max(max(one["truth"]) for one in records)
    return f"{rank_correlation(good, truth):.2f} | {best - truth[int(good.argmax())]:.1f}"


def share(lost: Sequence[float]) -> str:
    return f"{sum(one <= CLOSE for one in lost)} of {len(lost)}"


def circumstances(records: Sequence[dict]) -> str:
    dates = sorted({record["date"] for record in records})
    machines = sorted({record["machine"]["cpu"] for record in records})
    return (
        f"{len(records)} runs of {min(len(one['truth']) for one in records)} or more snapshots; {', '.join(dates)}; "
        f"{' and '.join(machines)}, PaddlePaddle 3.3.1."
    )


def runs_table(records: Sequence[dict]) -> str:
    """Every run: its scores, and what the default chose."""
    lines = [
        f"| run | iterations | true mIoU, snapshot by snapshot | chosen by `{DEFAULT}` | regret |",
        "|---|---|---|---|---|",
    ]
    for one in records:
        at, truth = choice(DEFAULT, one), one["truth"]
        scores = " ".join(f"**{score:.1f}**" if k == at else f"{score:.1f}" for k, score in enumerate(truth))
        chosen, lost = one["iterations"][at], max(truth) - truth[at]
        lines.append(f"| {one['run']} | {one['steps']} | {scores} | {chosen} | {lost:.1f} |")
    return "\n".join(lines)


# --- The command line ---------------------------------------------------------------------------------------


def own_runs(scratch: Path, pairs: Sequence[str]) -> Iterator[Path]:
    for pair in pairs:
        yield from sorted(path.parent for path in (scratch / pair).glob("*/config.yaml"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=PAIRS, nargs="+", default=[JUDGED_ON])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--scratch", type=Path, default=ROOT / "runs/selection", help="folder of the runs")
    parser.add_argument("--train", action="store_true", help="train the runs that are not done")
    parser.add_argument("--measure", type=Path, nargs="*", metavar="FOLDER", help="measure these runs (all trained)")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"of each domain ({IMAGES})")
    parser.add_argument("--table", action="store_true", help="write the tables of docs/benchmarks.md")
    args = parser.parse_args()
    scratch = args.scratch.resolve()
    if args.train:
        train_all(args.pair, args.seeds, scratch)
    if args.measure is not None:
        measure_all(args.measure or list(own_runs(scratch, args.pair)), args.images)
    if args.table:
        write_tables()


if __name__ == "__main__":
    main()
