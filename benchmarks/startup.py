"""Seconds until a command has printed its help, compared with the start of Python.

python benchmarks/startup.py [--repeats 11]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import common

ROOT = Path(__file__).resolve().parents[1]
CLAN = ["-c", "from clan.cli.main import main; main()"]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "CLAN_iou.py --help": [str(ROOT / "CLAN_iou.py"), "--help"],
    "clan --help": [*CLAN, "--help"],
    "clan iou --help": [*CLAN, "iou", "--help"],
    "CLAN_train.py --help": [str(ROOT / "CLAN_train.py"), "--help"],
}


def command(arguments: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11, help="counted rounds (11)")
    repeats = parser.parse_args().repeats
    machine = common.describe_machine()
    common.SETTLE_SECONDS = 0.0
    seconds = common.measure({name: common.timed(command(arguments)) for name, arguments in COMMANDS.items()}, repeats)
    alone = median(seconds["python -c pass"])
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name, own in seconds.items():
        print(f"| {name} | {median(own):.3f} s ({min(own):.3f} – {max(own):.3f}) | + {median(own) - alone:.3f} s |")
