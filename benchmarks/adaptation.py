"""Adaptation between real data sets: trains and scores every method, run by run, and writes the tables.

    python benchmarks/adaptation.py --pair rendered_to_camvid --split test     # all final runs, unattended
    python benchmarks/adaptation.py --split test --jobs 2                      # two at a time, half of the cores each
    python benchmarks/adaptation.py --only clan-ema --split val                # tuning: CamVid's val alone
    python benchmarks/adaptation.py --list                                     # all runs, and which are done
    python benchmarks/adaptation.py --table                                    # docs/benchmarks.md from the records
    python benchmarks/adaptation.py --sheet                                    # predictions side by side, as a PNG

A run is one `clan train` and one `clan evaluate` per split, each in its own process. Its record is written to
`benchmarks/results/adaptation`; a run with a record of the same fingerprint is skipped. Weights, label maps and the
sheet, which shows images of third parties, stay in the scratch folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import mean

import adaptation_report
import common
import numpy as np
from adaptation_experiments import FINAL, ONE_SEED, PAIRS, TUNING, as_arguments, flags_of

from clan.core.runtime import available_cores
from clan.data.dataset import Dataset
from clan.data.domains import load_classes, named_domain
from clan.evaluation.iou import score
from clan.evaluation.scoring import count_dataset
from clan.run.folder import METRICS, VALIDATION
from clan.run.records import read_validations

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/adaptation"
SPLITS = {"val": ("val",), "test": ("val", "test", "test-seq05vd")}
"""What a run is scored on: while tuning, never the test split."""
SNAPSHOTS = 8
"""Snapshots of a run, evenly spaced; a killed run loses what it did since the last one."""
WATCHED = 26
"""Images of val on which every snapshot is scored while training, to see its course."""
EVALUATED = ("val", "test")
"""Splits with images of their own; the others are parts of these."""


@dataclass(frozen=True)
class Run:
    """One experiment on one pair with one seed, while tuning ("val") or for the tables ("test")."""

    pair: str
    experiment: str
    seed: int
    purpose: str
    scratch: Path

    @property
    def record_path(self) -> Path:
        folder = RESULTS / "tuning" if self.purpose == "val" else RESULTS
        return folder / self.pair / f"{self.experiment}-seed{self.seed}.json"

    @property
    def flags(self) -> dict[str, object]:
        return {**flags_of(self.pair, self.experiment), "seed": self.seed}

    @property
    def fingerprint(self) -> str:
        """Of all that the result depends on but the code: flags and descriptions."""
        files = [(ROOT / str(file)).read_text() for file in PAIRS[self.pair].domain_flags().values()]
        return hashlib.sha256(json.dumps([self.flags, files], default=str, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        return self.scratch / self.pair / f"{self.experiment}-seed{self.seed}-{self.fingerprint}"

    @property
    def weights(self) -> Path:
        return self.folder / f"{PAIRS[self.pair].source}_{self.flags['num-steps']}.pdparams"

    def record(self) -> dict | None:
        """What the run came to, if it is done and nothing that it depends on has changed."""
        if not self.record_path.exists():
            return None
        record = json.loads(self.record_path.read_text())
        return record if record["fingerprint"] == self.fingerprint else None

    def __str__(self) -> str:
        return f"{self.pair}/{self.experiment} seed {self.seed}"


# --- Running ------------------------------------------------------------------------------------------------


def run_all(runs: Sequence[Run], jobs: int = 1) -> int:
    """Every run that is not done yet, so many at once; a failed one is told and does not keep the others from running.

    Small networks keep one core busier than two: two runs at once, on a core each, take less time than one by one.
    """
    waiting = [run for run in runs if run.record() is None]
    cores = max(1, available_cores() // jobs)

    def attempt(number: int) -> bool:
        run = waiting[number]
        left = sum(map(expected_seconds, waiting[number:])) / jobs
        end = f"{datetime.now() + timedelta(seconds=left):%a %H:%M}"
        print(f"[{number + 1} of {len(waiting)}, all done about {end if left else '?'}] {run}", flush=True)
        try:
            record = execute(run, cores)
        except subprocess.CalledProcessError as error:
            print(f"{run} failed with exit code {error.returncode}: see {run.folder}.log", flush=True)
            return False
        means = ", ".join(f"{split} {100 * scores['mIoU']:.1f}" for split, scores in record["scores"].items())
        print(f"{run}: mIoU {means}; {record['seconds']['train'] + record['seconds']['evaluate']:.0f} s", flush=True)
        return True

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(attempt, range(len(waiting)))).count(False)


def expected_seconds(run: Run) -> float:
    """From what runs of the same method, else of any, took per iteration; 0 before the first."""
    records = list(map(json.loads, (path.read_text() for path in RESULTS.glob("*_to_*/*.json"))))
    flags = json.loads(json.dumps(run.flags, default=str))
    alike = [record for record in records if record["flags"]["method"] == flags["method"]] or records
    rates = [sum(record["seconds"].values()) / record["flags"]["num-steps"] for record in alike]
    return mean(rates) * flags["num-steps"] if rates else 0.0


def execute(run: Run, cores: int) -> dict:
    """Trains, from where a killed run stopped, evaluates, scores, and writes the record."""
    run.folder.mkdir(parents=True, exist_ok=True)
    started = datetime.now().astimezone()
    arguments = ["train", *as_arguments(run.flags | watching(run))]
    if not run.weights.exists():
        resume = ["--resume"] if any(run.folder.rglob("*.safetensors")) else []
        clan(run, cores, *arguments, "--snapshot-dir", str(run.folder), *resume)
    evaluating = time.perf_counter()
    for split in set(SPLITS[run.purpose]) & set(EVALUATED):
        clan(run, cores, "evaluate", str(run.weights), "--split", split, "--save", str(run.folder / split))
    evaluation = time.perf_counter() - evaluating
    losses = [json.loads(line) for line in (run.folder / METRICS).read_text().splitlines()]
    record = {
        "pair": run.pair,
        "experiment": run.experiment,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "flags": run.flags,
        "command": shlex.join(["clan", *arguments]),
        "revision": revision(),
        "started": started.isoformat(timespec="seconds"),
        "machine": {**common.describe_machine(), "cores": cores},
        "seconds": {"train": round(sum(line["seconds"] for line in losses), 1), "evaluate": round(evaluation, 1)},
        "losses": by_tenths(losses),
        "course": {one.iteration: round(one.score, 4) for one in read_validations(run.folder / VALIDATION)},
        "scores": {split: scores_on(run, split) for split in SPLITS[run.purpose]},
    }
    run.record_path.parent.mkdir(parents=True, exist_ok=True)
    run.record_path.write_text(adaptation_report.compact_json(record))
    return record


def watching(run: Run) -> dict[str, object]:
    """Flags that the result does not depend on."""
    interval = int(str(run.flags["num-steps"])) // SNAPSHOTS
    return {"save-every": interval, "validate-every": interval, "validation-images": WATCHED}


def clan(run: Run, cores: int, *arguments: str) -> None:
    """The command line of this checkout, in a process of its own; what it says goes to the run's log."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(cores))
    environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT / "src")}
    with Path(f"{run.folder}.log").open("a") as log:
        command = [sys.executable, "-m", "clan", *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)


def revision() -> str:
    """The commit, with a mark if the code differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def by_tenths(losses: Sequence[dict]) -> dict[str, list[float]]:
    """The mean of each loss over every tenth of the run."""
    names = [name for name in losses[-1] if name.startswith("loss_")]
    tenths = np.array_split(np.array([[line.get(name, 0.0) for name in names] for line in losses]), 10)
    return {name: [round(float(tenth[:, k].mean()), 5) for tenth in tenths] for k, name in enumerate(names)}


# --- Scoring ------------------------------------------------------------------------------------------------


def target_dataset(pair: str, split: str) -> Dataset:
    """The target's images, in the pair's classes."""
    flags = PAIRS[pair].domain_flags()
    target = named_domain(str(ROOT / str(flags["target"])))
    return Dataset(target.description, target.root, split=split, classes=load_classes(ROOT / str(flags["classes"])))


def label_maps(run: Run, split: str) -> Path:
    """Where `clan evaluate` put the label maps of a split, or of the split that it is a part of."""
    evaluated = next(name for name in EVALUATED if split.startswith(name))
    return run.folder / evaluated / f"{run.folder.name}_{run.weights.stem}"


def scores_on(run: Run, split: str) -> dict:
    """mIoU and IoU of each class, 0…1, and the confusion matrix, rows the truth."""
    dataset = target_dataset(run.pair, split)
    confusion = count_dataset(dataset, label_maps(run, split))
    scores = score(confusion, dataset.classes.label_space)
    return {
        "images": len(dataset),
        "mIoU": next(iter(scores.means.values())),
        "IoU": dict(zip(scores.names, scores.iou.tolist(), strict=True)),
        "confusion": confusion.tolist(),
    }


# --- The command line ---------------------------------------------------------------------------------------


def chosen_runs(args: argparse.Namespace) -> Iterator[Run]:
    """Seed by seed, so that a table of one seed is whole before the next begins."""
    for seed in args.seeds:
        for pair in args.pair:
            for experiment in args.only or FINAL:
                if experiment not in ONE_SEED or seed == args.seeds[0]:
                    yield Run(pair, experiment, seed, args.split, args.scratch)


def show(runs: Sequence[Run]) -> None:
    for run in runs:
        record = run.record()
        state = "changed since" if run.record_path.exists() else "to run"
        if record:
            state = "  ".join(f"{split} {100 * found['mIoU']:.1f}" for split, found in record["scores"].items())
        print(f"{run!s:60} about {expected_seconds(run) / 60:4.1f} min  {state}")


def main() -> int:
    experiments = [*FINAL, *TUNING]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=PAIRS, nargs="+", default=list(PAIRS)[:1], help="data sets (the first pair)")
    parser.add_argument("--only", choices=experiments, nargs="+", metavar="NAME", help="these experiments")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds (while tuning 0, for the tables 0 1 2)")
    parser.add_argument("--split", choices=SPLITS, default="val", help="val: tuning; test: for the tables (val)")
    parser.add_argument("--scratch", type=Path, default=ROOT / "runs/adaptation", help="folder of weights and maps")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each on its share of the cores (1)")
    parser.add_argument("--list", action="store_true", help="tell the runs and what is done")
    parser.add_argument("--table", action="store_true", help="write the tables of docs/benchmarks.md")
    parser.add_argument("--sheet", action="store_true", help="write predictions side by side to the scratch folder")
    args = parser.parse_args()
    args.scratch = args.scratch.resolve()
    args.seeds = args.seeds or ([0] if args.split == "val" else [0, 1, 2])
    runs = list(chosen_runs(args))
    if args.list:
        show(runs)
    elif args.table:
        adaptation_report.write_tables(RESULTS, ROOT / "docs/benchmarks.md")
    elif args.sheet:
        for pair in args.pair:
            first = [run for run in runs if run.pair == pair and run.seed == args.seeds[0]]
            shown = {run.experiment: label_maps(run, args.split) for run in first}
            dataset = target_dataset(pair, args.split)
            sheet = args.scratch / f"{pair}-{args.split}.png"
            adaptation_report.side_by_side(dataset, {k: v for k, v in shown.items() if v.is_dir()}).save(sheet)
            print(sheet)
    else:
        return run_all(runs, args.jobs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
