"""Fair comparisons: contestants take turns within one run, each alone in a process of its own.

A *contestant* is a function `prepare(width, height)` that imports its framework, builds its networks and
inputs, and returns the function to be timed. A benchmark hands its contestants to `main`; the first is
the baseline. Each contestant lives in a worker process, because the OpenMP runtimes of two frameworks
interfere and because peak memory is per process. The other workers are idle while one is timed:

    main process                      worker process (one per contestant)
    Worker(name)            ──────▶   prepare(width, height)
                            ◀──────   "ready"
    worker()                "run" ▶   one timed call
                            ◀──────   seconds
    worker.ask("result")              a digest of what that call returned, where results must be equal
    worker.close()          "end" ▶   peak memory is read
                            ◀──────   bytes
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import metadata
from pathlib import Path
from statistics import median

ENVIRONMENT = dict(os.environ)  # before clan is imported, which adds settings for Paddle

from clan.core.runtime import HUGE_PAGES  # noqa: E402

Prepare = Callable[[int, int], Callable[[], object]]

SETTLE_SECONDS = 0.5  # OpenMP threads spin for up to 0.2 s after their work; let them fall asleep
BUSY = 0.5  # load average from which on two contestants' turns are no longer alike


# --- Measuring ----------------------------------------------------------------------------------------------


def timed(function: Callable[[], object]) -> Callable[[], float]:
    """Wraps `function` to return the seconds of a call."""

    def run() -> float:
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    return run


def measure(functions: dict[str, Callable[[], float]], repeats: int = 5, warmup: int = 1) -> dict[str, list[float]]:
    """Run the functions in turn, A B A B …, so that a slow minute of the machine hits all of them.

    Args:
        functions: Each works once and returns its seconds: a `Worker`, or any function made `timed`.
        repeats: Counted rounds.
        warmup: Rounds before them that are not counted.

    Returns:
        The seconds of the counted rounds, in order, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(warmup + repeats):
        for name, function in functions.items():
            time.sleep(SETTLE_SECONDS)
            elapsed = function()
            note = " (warm-up)" if i < warmup else ""
            print(f"  {name}: {elapsed:.3f} s{note}", file=sys.stderr, flush=True)
            if i >= warmup:
                seconds[name].append(elapsed)
    return seconds


# --- Worker processes ---------------------------------------------------------------------------------------


class Worker:
    """One contestant in its own process: this script again, started with `--worker NAME`.

    Calling it runs the contestant once and returns the seconds, measured on the worker's side.
    """

    def __init__(self, name: str, width: int, height: int, clock: str = "wall"):
        self.name = name
        command = [sys.executable, sys.argv[0], "--worker", name, "--size", f"{width}x{height}", "--clock", clock]
        # Memory as the commands of clan have it, for every contestant alike.
        environment = {"GLIBC_TUNABLES": HUGE_PAGES, **ENVIRONMENT}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def __enter__(self) -> Worker:
        self.receive()  # "ready"
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)  # time to remove its temporary files, if it was told to end
        self.process.kill()
        self.process.communicate()

    def __call__(self) -> float:
        return self.ask("run")

    def close(self) -> int:
        """Ends the process; returns its peak memory in bytes."""
        return self.ask("end")

    def ask(self, request: str):
        """Send one line, return the answer to it."""
        print(request, file=self.process.stdin, flush=True)
        return self.receive()

    def receive(self):
        """Wait for the next answer; RuntimeError if the worker died instead."""
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise RuntimeError(f"contestant {self.name!r} ended with code {code}: see its messages above")
        return json.loads(line)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""What seconds are counted by; those of the processor depend less on what else the machine does."""


def serve(prepare: Prepare, width: int, height: int, clock: str = "wall") -> None:
    """The worker's side: answer requests on stdin until told to end."""
    now = CLOCKS[clock]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a framework prints to stdout must not end up among the answers

    def answer(value: object) -> None:
        print(json.dumps(value), file=answers, flush=True)

    function, result = prepare(width, height), None
    answer("ready")
    for request in sys.stdin:
        if request.strip() == "end":
            answer(peak_memory())
            return
        if request.strip() == "result":
            answer(digest(result))
            continue
        started = now()
        result = function()
        answer(now() - started)


def digest(result: object) -> str:
    """Returns a checksum of an array, or of the arrays that a function yields."""
    checksum = hashlib.sha256()
    for array in result() if callable(result) else [result]:
        checksum.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return checksum.hexdigest()


def peak_memory() -> int:
    """Returns the peak resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# --- The machine --------------------------------------------------------------------------------------------


def describe_machine() -> dict[str, object]:
    """Returns processor, cores, versions, date and load."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "paddle": version("paddlepaddle") or version("paddlepaddle-gpu"),
        "date": datetime.date.today().isoformat(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def cpu_model() -> str:
    """Returns the processor's name, if the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def version(distribution: str) -> str | None:
    """Returns the installed version without importing the package."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


# --- Results ------------------------------------------------------------------------------------------------


def summarize(seconds: dict[str, list[float]], memory: dict[str, int]) -> dict[str, dict]:
    """By contestant: all seconds, their median, peak memory, and the speed relative to the first contestant.

    `speed` is the ratio of the medians (2.0: half the baseline's time), `speed_range` the least and the
    greatest ratio within one round.
    """
    baseline = next(iter(seconds.values()))
    summary = {}
    for name, own in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(baseline, own, strict=True)]
        summary[name] = {
            "seconds": own,
            "median_seconds": median(own),
            "peak_memory_bytes": memory[name],
            "speed": median(baseline) / median(own),
            "speed_range": [min(ratios), max(ratios)],
        }
    return summary


def markdown_row(title: str, name: str, result: dict) -> str:
    """`| what | who | median (least – greatest) | peak memory | speed (least – greatest) |`."""
    seconds, (slowest, fastest) = result["seconds"], result["speed_range"]
    return (
        f"| {title} | {name} "
        f"| {result['median_seconds']:.2f} s ({min(seconds):.2f} – {max(seconds):.2f}) "
        f"| {result['peak_memory_bytes'] / 1e9:.2f} GB "
        f"| {result['speed']:.2f}× ({slowest:.2f} – {fastest:.2f}) |"
    )


# --- The command line ---------------------------------------------------------------------------------------


def parse_size(text: str) -> tuple[int, int]:
    """'512x256' → (512, 256)."""
    width, height = text.split("x")
    return int(width), int(height)


def parse_arguments(title: str, names: list[str], size: str) -> argparse.Namespace:
    """Returns a parser with the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--only", choices=names, nargs="+", default=names, help="run these contestants")
    parser.add_argument("--size", type=parse_size, default=size, metavar="WxH", help=f"images' size ({size})")
    parser.add_argument("--repeats", type=int, default=5, help="counted rounds (5)")
    parser.add_argument("--warmup", type=int, default=1, help="rounds that are not counted (1)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds: the clock's or the processor's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to FILE")
    parser.add_argument("--worker", choices=names, help=argparse.SUPPRESS)
    return parser.parse_args()


def main(title: str, contestants: dict[str, Prepare], size: str, *, equal_results: bool = False) -> None:
    """Run one benchmark from the command line: print its Markdown rows, write its JSON if asked to.

    Where results must be equal, each contestant's function returns arrays (see `digest`), and others than the
    baseline's end the benchmark.
    """
    args = parse_arguments(title, list(contestants), size)
    width, height = args.size
    if args.worker:
        serve(contestants[args.worker], width, height, args.clock)
        return
    machine = describe_machine()
    if machine["load_before"] > BUSY:
        print(f"Load average {machine['load_before']}: not idle, expect wild numbers.", file=sys.stderr)
    with ExitStack() as running:
        chosen = [name for name in contestants if name in args.only]
        workers = {name: running.enter_context(Worker(name, width, height, args.clock)) for name in chosen}
        seconds = measure(workers, args.repeats, args.warmup)
        if equal_results and len({worker.ask("result") for worker in workers.values()}) > 1:
            raise SystemExit(f"{', '.join(workers)} do not give equal results: their times cannot be compared")
        memory = {name: worker.close() for name, worker in workers.items()}
    results = summarize(seconds, memory)
    title = f"{title}, {width}×{height}" + (", seconds of the processor" if args.clock == "cpu" else "")
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name, result in results.items():
        print(markdown_row(title, name, result))
    if args.json:
        record = {"benchmark": title, "machine": machine, "results": results}
        args.json.write_text(json.dumps(record, indent=2) + "\n")
