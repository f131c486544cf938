import subprocess
import sys
import time
from statistics import median

import pytest

from tests.pages import ROOT


def seconds(*arguments):
    """The median of three starts."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return median(times)


@pytest.mark.parametrize(
    "command", [[ROOT / "CLAN_iou.py", "--help"], ["-c", "from clan.cli.main import main; main()", "--help"]]
)
def test_help_is_there_at_once(command):
    assert seconds(*command) < seconds("-c", "pass") + 1.0  # 0.2 s measured; importing Paddle alone takes 2 s


@pytest.mark.parametrize("words", ["--help", "iou --help", "evaluate --help", "iou"])
def test_what_reads_no_data_imports_no_large_library(words):
    code = "import sys\nfrom clan.cli.main import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code, *words.split()], check=True, capture_output=True, text=True)
    large = {"numpy", "pydantic", "rich", "cv2", "PIL", "numba", "paddle", "ruamel.yaml", "jinja2"}
    assert not large & set(told.stdout.split())
