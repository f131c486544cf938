"""Counts what one must read to follow `clan.train(config)` to the first optimizer step: files, steps back up, calls.

    python tools/trace.py [--list]

A tiny run of method clan is followed with a profiler, on Paddle's own operators, without loggers. Modules are imported
before, since running a module's top level is no part of the way. Counted are

- files of `clan` in which a function is called, in the thread that reads samples too;
- steps up: pairs of files where a function of the first, on a lower floor, calls one of the second, on a higher one.
  The caller is the nearest function of `clan` on the stack; the floors are those of the layers in pyproject.toml;
- calls of functions of `clan`.

Each is given for the whole way, and for the iteration alone, from `Trainer._advance` on.
"""

import argparse
import os
import re
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cache
from inspect import unwrap
from pathlib import Path
from types import FrameType
from typing import Any

os.environ["CLAN_KERNELS"] = "0"

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/clan"
CO_OPTIMIZED = 1  # a function's code; a module's and a class's have it not


class Reached(BaseException):
    """The optimizer's step has begun."""


@dataclass
class Count:
    """What was entered."""

    files: set[str] = field(default_factory=set)
    up: set[tuple[str, str]] = field(default_factory=set)
    calls: int = 0

    def add(self, file: str, caller: str | None) -> None:
        """Takes a call of a function in `file`."""
        self.files.add(file)
        self.calls += 1
        if caller and floor(file) > floor(caller):
            self.up.add((caller, file))


@cache
def floors() -> dict[str, int]:
    """The number of each room's floor; 1 is the lowest."""
    listed = re.search(r"^layers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert listed
    layers = re.findall(r'"(.*?)"', listed[1])
    return {room: len(layers) - place for place, layer in enumerate(layers) for room in re.findall(r"\w+", layer)}


def floor(file: str) -> int:
    """The floor of a file, by its path below `clan`; 0 of a file that is in no room."""
    return floors().get(file.partition("/")[0].removesuffix(".py"), 0)


def file_of(frame: FrameType) -> str | None:
    """The path below `clan` of the file that a frame's code stands in."""
    name = frame.f_code.co_filename
    return name.removeprefix(f"{SOURCE}/") if name.startswith(f"{SOURCE}/") else None


def caller_of(frame: FrameType) -> str | None:
    """The file of the nearest function of `clan` on the stack."""
    above = frame.f_back
    while above and file_of(above) is None:
        above = above.f_back
    return file_of(above) if above else None


def follow(config: Any) -> tuple[Count, Count]:
    """The way of a run to its first optimizer step, and the part of it that is the iteration."""
    from clan.training.optimizers import SGD
    from clan.training.run import train
    from clan.training.trainer import Trainer

    first, last = Trainer._advance.__code__, unwrap(SGD.step).__code__
    whole, iteration = Count(), Count()
    counts = [whole]

    def profile(frame: FrameType, event: str, _: Any) -> None:
        file = file_of(frame) if event == "call" and frame.f_code.co_flags & CO_OPTIMIZED else None
        if file is None:
            return
        if frame.f_code is first:
            counts.append(iteration)
        for count in counts:
            count.add(file, caller_of(frame))
        if frame.f_code is last:
            raise Reached

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        train(config, output="quiet")
    except Reached:
        pass
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # pyright: ignore[reportArgumentType]
    return whole, iteration


def tiny(folder: Path) -> Any:
    """The configuration of a run that takes a second, on drawn worlds."""
    from clan.run.config import Config, DomainConfig, NetworkConfig
    from clan.streets.worlds import write_worlds

    write_worlds(folder, source_images=2, target_train_images=2, target_val_images=1, size=(128, 64), seed=0)
    return Config(
        source=DomainConfig(dataset="synthia", root=folder / "SYNTHIA/RAND_CITYSCAPES", size=(64, 32)),  # pyright: ignore[reportArgumentType]
        target=DomainConfig(dataset="cityscapes", root=folder / "Cityscapes", size=(64, 32)),  # pyright: ignore[reportArgumentType]
        network=NetworkConfig(backbone="resnet-tiny", discriminator_width=8),
        num_steps=4,
        num_workers=0,
        loggers=(),
        snapshot_dir=folder / "run",
    )


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the files and the steps up too")
    shown = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, count in zip(("whole", "iteration"), follow(tiny(Path(folder))), strict=True):
            print(f"{name}: {len(count.files)} files, {len(count.up)} steps up, {count.calls} calls")
            if shown.list:
                print(*(f"  {file}" for file in sorted(count.files)), sep="\n")
                print(*(f"  up: {low} calls {high}" for low, high in sorted(count.up)), sep="\n")


if __name__ == "__main__":
    main()
