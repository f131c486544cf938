"""The way from `clan.train(config)` to an optimizer step stays short: files that one must read, and steps back up."""

import re
import subprocess
import sys
from pathlib import Path

MOST_FILES = 25
"""Of one iteration."""
MOST_STEPS_UP = 8


def test_the_way_to_an_optimizer_step_is_short():
    script = Path(__file__).parents[1] / "tools/trace.py"
    told = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout
    counts = {
        name: (int(files), int(up)) for name, files, up in re.findall(r"(\w+): (\d+) files, (\d+) steps up", told)
    }
    assert counts["iteration"][0] <= MOST_FILES, "python tools/trace.py --list names them"
    assert counts["whole"][1] <= MOST_STEPS_UP
    assert counts["whole"] > counts["iteration"] > (20, 0)
