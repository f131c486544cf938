"""Fault injection: `python -m benchmarks.faults --kills 50 --seed 0` prints a table.

A small run is killed with SIGKILL repeatedly, at random times and while it writes a state, and resumed with `--resume
auto` and another number of workers; its parameters must equal those of an uninterrupted run. Then its states and images
are damaged at random places, which must be detected, and malicious and mutated weight files are read, which must have
no effect.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz_weights import SEEDS, fuzz
from clan.core import runtime
from clan.core.errors import DataError
from clan.data.image_files import read_rgb
from clan.run.checkpoint import Damaged, States, manifest_path, read_state
from clan.run.config import OPTIMIZERS, Config, DomainConfig, NetworkConfig, OptimizerConfig, to_yaml
from clan.run.method_options import METHOD_OPTIONS
from clan.streets.worlds import write_worlds
from tests.models.malicious import CORPUS
from tests.models.sandbox import Sandbox

COMMAND = (sys.executable, "-c", "from clan.cli.main import main; main()", "train")
WORKERS = (0, 1, 3)
POLL = 0.0002  # seconds; writing a state takes a few milliseconds


@dataclass
class Tally:
    """What came of the kills; `faults` says what must not be."""

    runs: int = 0
    kills: int = 0
    while_writing: int = 0
    lost: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


# --- Running ------------------------------------------------------------------------------------------------


SIZE = (64, 32)
NETWORK = NetworkConfig(backbone="resnet-tiny", discriminator_width=8)


def write_run(
    folder: Path,
    *,
    steps: int,
    save_every: int,
    size: tuple[int, int] = SIZE,
    method: str = "clan",
    network: NetworkConfig = NETWORK,
    optimizer: str = "sgd",
) -> Path:
    """Two small worlds and the configuration of a run of a few seconds on them; returns the latter's file."""
    write_worlds(folder, source_images=3, target_train_images=3, target_val_images=1, size=(128, 64), seed=0)
    config = Config(
        source=DomainConfig.model_validate(
            {"dataset": "synthia", "root": folder / "SYNTHIA/RAND_CITYSCAPES", "size": size}
        ),
        target=DomainConfig.model_validate({"dataset": "cityscapes", "root": folder / "Cityscapes", "size": size}),
        method=METHOD_OPTIONS[method](),
        network=network,
        optimizer=OptimizerConfig(algorithm=optimizer),
        num_steps=steps,
        save_every=save_every,
        save_images=0,
        snapshot_dir=folder / "run",
    )
    path = folder / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    return path


def start(
    config: Path, folder: Path, *options: object, command: Sequence[str] = COMMAND, **process: object
) -> subprocess.Popen[str]:
    """`clan train` as a process; its output is kept for `communicate`."""
    words = [*command, "--config", config, "--snapshot-dir", folder, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, words)), **pipes, **process)  # type: ignore[arg-type]


def finish(config: Path, folder: Path, *options: object) -> str:
    """Runs to the end; returns what it printed."""
    process = start(config, folder, *options)
    printed, complaints = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {complaints}")
    return printed


def iterations_done(folder: Path) -> int:
    """Iterations that a run has recorded."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def half_states(folder: Path) -> set[Path]:
    """The files of states that are being written, or whose writer was killed."""
    return set((folder / "states").glob(".*.safetensors.*"))


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Waits for a condition, or for the end of the process."""
    while process.poll() is None and not condition():
        time.sleep(POLL)


# --- Kills --------------------------------------------------------------------------------------------------


def kill_and_resume(folder: Path, *, kills: int, writing: int, seed: int, steps: int = 200, **run: Any) -> Tally:
    """Kills runs so often, each time resumed, of them at least `writing` times while a state is written.

    `run` are further options of `write_run`.
    """
    draw = random.Random(seed)
    tally = Tally()
    config = write_run(folder, steps=steps, save_every=5, **run)
    finish(config, folder / "warm", "--num-steps-stop", 1)  # compiles loops, where that was not done before
    began = time.monotonic()
    process = start(config, folder / "whole", "--num-workers", 2)
    wait_until(process, lambda: iterations_done(folder / "whole") > 0)
    startup = time.monotonic() - began
    process.communicate()
    expected = States(folder / "whole").latest().arrays
    while tally.kills < kills:
        print(f"  run {tally.runs + 1}, {tally.kills} kills so far", file=sys.stderr)
        tally.runs += 1
        run = folder / f"run{tally.runs}"
        while tally.kills < kills and kill_once(config, run, draw, startup, tally, aimed=tally.while_writing < writing):
            pass
        finish(config, run, "--resume", "auto", "--num-workers", draw.choice(WORKERS))
        found = States(run).latest().arrays
        different = [name for name in expected if not np.array_equal(expected[name], found[name])]
        if different or found.keys() != expected.keys():
            tally.faults.append(f"run {tally.runs} ended in other values of {', '.join(different) or 'other arrays'}")
    return tally


def kill_once(config: Path, run: Path, draw: random.Random, startup: float, tally: Tally, *, aimed: bool) -> bool:
    """Goes on with a run and kills it; False if it came to its end before."""
    before, halves = [path.name for path in States(run).paths()], half_states(run)
    process = start(config, run, "--resume", "auto", "--num-workers", draw.choice(WORKERS))
    if aimed and draw.random() < 0.5:
        wait_until(process, lambda: not half_states(run))  # of the last kill
        for _ in range(draw.randrange(3)):
            wait_until(process, lambda: bool(half_states(run)))
            wait_until(process, lambda: not half_states(run))
        wait_until(process, lambda: bool(half_states(run)))
    else:
        moment = time.monotonic() + startup * draw.uniform(0.3, 2)
        wait_until(process, lambda: time.monotonic() > moment)
    process.send_signal(signal.SIGKILL)
    _, complaints = process.communicate()
    if process.returncode == 0:
        return False
    if process.returncode != -signal.SIGKILL:
        tally.faults.append(f"it ended with {process.returncode}: {complaints}")
        return False
    tally.kills += 1
    tally.while_writing += bool(half_states(run) - halves)
    note_states(run, before, tally)
    return True


def note_states(run: Path, before: list[str], tally: Tally) -> None:
    """Checks that all states are whole and none was lost, and notes how many iterations must be done again."""
    paths = States(run).paths()
    for path in paths:
        try:
            read_state(path)
        except Damaged as damage:
            tally.faults.append(f"after kill {tally.kills} {path.name} {damage}")
    if before and (not paths or int(paths[0].stem) < int(Path(before[0]).stem)):
        tally.faults.append(f"after kill {tally.kills} the latest state of {before} is gone")
    tally.lost.append(max(0, iterations_done(run) - (int(paths[0].stem) if paths else 0)))


# --- Damage -------------------------------------------------------------------------------------------------


def damages(content: bytes, draw: random.Random) -> bytes:
    """The content cut at a random place, or with a bit flipped or a block of zeros there."""
    place, kind = draw.randrange(len(content)), draw.randrange(3)
    if kind == 0:
        return content[:place]
    end = place + (1 if kind == 1 else min(4096, len(content) - place))
    damaged = bytearray(content)
    damaged[place:end] = bytes([damaged[place] ^ 1 << draw.randrange(8)]) if kind == 1 else bytes(end - place)
    return bytes(damaged)


def damaged_states(run: Path, *, times: int, seed: int) -> tuple[int, int]:
    """How many damages of a state or its manifest are noticed or harmless, of how many."""
    draw = random.Random(seed)
    path = States(run).paths()[0]
    files = {file: file.read_bytes() for file in (path, manifest_path(path))}
    expected, good = read_state(path), 0
    for _ in range(times):
        file = path if draw.random() < 0.8 else manifest_path(path)
        file.write_bytes(damages(files[file], draw))
        try:
            found = read_state(path)
        except Damaged:
            good += 1
        else:
            same = [np.array_equal(found.arrays[name], array) for name, array in expected.arrays.items()]
            good += all(same) and found.config_yaml == expected.config_yaml
        finally:
            file.write_bytes(files[file])
    return good, times


def damaged_images(folder: Path, *, times: int, seed: int) -> tuple[int, int]:
    """How many damages of an image are noticed, or leave its pixels as they are, of how many."""
    draw = random.Random(seed)
    image = next((folder / "SYNTHIA/RAND_CITYSCAPES/RGB").iterdir())
    content, pixels, copy = image.read_bytes(), np.asarray(read_rgb(image)), folder / "damaged.png"
    good = 0
    for _ in range(times):
        copy.write_bytes(damages(content, draw))
        try:
            good += np.array_equal(np.asarray(read_rgb(copy)), pixels)
        except DataError:
            good += 1
    return good, times


def malicious_weights(folder: Path) -> tuple[int, int]:
    """How many hand-made hostile files of weights are refused in a sentence and do nothing else, of how many."""
    path, good = folder / "weights", 0
    with Sandbox() as sandbox:
        for content in CORPUS.values():
            path.write_bytes(content)
            outcome = sandbox.read(path)
            good += bool(outcome.message) and not outcome.faults
    return good, len(CORPUS)


def mutated_weights(folder: Path, *, times: int, seed: int) -> dict[str, tuple[int, int]]:
    """By format, how many mutated files of weights are refused or read into what the contract allows, of how many."""
    return {kind: (times - len(fuzz(kind, times, seed, folder).faults), times) for kind in SEEDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--writing", type=int, default=15, help="of them at least so many while a state is written")
    parser.add_argument("--damages", type=int, default=500, help="damages of states, and of images")
    parser.add_argument("--mutations", type=int, default=10_000, help="mutated files of weights per format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", choices=METHOD_OPTIONS, default="clan")
    parser.add_argument("--backbone", default=NETWORK.backbone)
    parser.add_argument("--model", default=NETWORK.model, help="kind of heads")
    parser.add_argument("--heads", type=int, default=NETWORK.num_heads, help="number of heads")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, help="width and height of the network's input")
    arguments = parser.parse_args()
    runtime.import_paddle()
    seed = arguments.seed
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = {"backbone": arguments.backbone, "model": arguments.model, "num_heads": arguments.heads}
        kills = {"kills": arguments.kills, "writing": arguments.writing, "seed": seed, "steps": arguments.steps}
        run = {"method": arguments.method, "optimizer": arguments.optimizer, "size": tuple(arguments.size)}
        tally = kill_and_resume(folder, **kills, **run, network=NetworkConfig(**NETWORK.model_dump() | given))
        counts = {
            "torn and damaged states recognised or harmless": damaged_states(
                folder / "whole", times=arguments.damages, seed=seed
            ),
            "damaged images recognised or harmless": damaged_images(folder, times=arguments.damages, seed=seed),
            "malicious weights refused, none of which did anything": malicious_weights(folder),
        }
        for kind, count in mutated_weights(folder, times=arguments.mutations, seed=seed).items():
            counts[f"mutated weights refused or rightly read: {kind}"] = count
    print("| fault | result |\n|---|---|")
    print(f"| kills survived | {tally.kills - len(tally.faults)} of {tally.kills}, over {tally.runs} runs |")
    print(f"| of them while a state was written | {tally.while_writing} |")
    if tally.lost:
        lost = f"{np.mean(tally.lost):.1f} on average, {max(tally.lost)} at most"
        print(f"| iterations lost a kill, states every 5 | {lost} |")
    for what, (good, times) in counts.items():
        print(f"| {what} | {good} of {times} |")
    for fault in tally.faults:
        print(f"\nFAULT: {fault}")
    raise SystemExit(bool(tally.faults) or any(good != times for good, times in counts.values()))


if __name__ == "__main__":
    main()
