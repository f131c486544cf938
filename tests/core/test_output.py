"""Standard streams that go away, are closed from the start, full, or of an encoding that lacks a character."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import COMMAND, write_run
from clan.run.checkpoint import States
from tests.pages import ROOT

PROGRAM = f"{sys.executable} -c 'from clan.cli.main import main; main()'"
SCRIPTS = {
    "clan": f"{PROGRAM} --help",
    "python -m clan": f"{sys.executable} -m clan evaluate --help",
    **{name: f"{sys.executable} {ROOT}/CLAN_{name}.py --help" for name in ("train", "iou", "evaluate_bulk")},
}


def shell(line, cwd, **environment):
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], cwd=cwd, capture_output=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_command_minds_a_reader_that_is_gone_or_a_stream_that_is_closed(script, tmp_path):
    for end in ("| true", ">&-", ">&- 2>&- <&-", "2>&1 | true"):
        done = shell(f"(sleep 0.1; {SCRIPTS[script]}) {end}", tmp_path)
        assert (done.returncode, done.stderr) == (0, b""), end


def test_what_cannot_be_encoded_is_escaped_and_what_a_full_disk_lost_is_said(tmp_path):
    wrong = f"{PROGRAM} '数据'"
    for encoding, shown in (
        ("latin-1", rb"\u6570\u636e"),
        ("ascii:strict", rb"\u6570\u636e"),
        ("utf-8", "数据".encode()),
    ):
        done = shell(wrong, tmp_path, PYTHONIOENCODING=encoding)
        assert done.returncode == 2
        assert done.stderr == b"error: '" + shown + b"' is not a command: see clan --help\n"
    assert shell(f"{wrong} 2>&-", tmp_path).returncode == 2
    if Path("/dev/full").exists():
        done = shell(f"{PROGRAM} > /dev/full", tmp_path)
        assert done.returncode == 2
        assert b"not all of the output could be written (No space left on device)" in done.stderr


def test_training_goes_on_when_nobody_reads_any_more(tmp_path):
    config = write_run(tmp_path, steps=4, save_every=2)
    words = [*COMMAND, "--config", str(config), "--snapshot-dir", "run", "--json"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=300) == 0
    assert States(tmp_path / "run").latest().iteration == 4
    assert (tmp_path / "run/SYS_4.pdparams").exists()
