import subprocess
import sys
from resource import RUSAGE_CHILDREN, getrusage

import pytest

from tests.pages import ROOT


def seconds(*arguments):
    """Processor time of the quickest of three starts: other programs do not count."""
    times = []
    for _ in range(3):
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = getrusage(RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


@pytest.mark.parametrize(
    "command", [[ROOT / "CLAN_iou.py", "--help"], ["-c", "from clan.cli.main import main; main()", "--help"]]
)
def test_help_is_there_at_once(command):
    # 0.06 s was measured on an idle machine; importing Paddle alone takes 2 s.
    assert seconds(*command) < seconds("-c", "pass") + 0.7


@pytest.mark.parametrize("words", ["--help", "iou --help", "evaluate --help", "iou"])
def test_what_reads_no_data_imports_no_large_library(words):
    code = "import sys\nfrom clan.cli.main import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code, *words.split()], check=True, capture_output=True, text=True)
    assert_no_large_library(told)


def test_the_port_s_help_imports_no_large_library():
    code = "import sys\nfrom clan.cli.port.iou import entry\ntry: entry()\nexcept SystemExit: pass\nprint(*sys.modules)"
    assert_no_large_library(subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True))


def assert_no_large_library(told):
    large = {"numpy", "pydantic", "rich", "cv2", "PIL", "numba", "paddle", "ruamel.yaml", "jinja2"}
    assert "clan" in told.stdout.split()
    assert not large & set(told.stdout.split())
