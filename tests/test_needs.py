"""That no test skips in silence."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import NEEDS
from tests.pages import READMES, ROOT

OPTIONAL = """
import pytest
from tests.needs import needed
def test_passes(): pass
def test_optional(): needed("torch", False)
"""
NEEDED = """
def test_need(): needed("browser", False)
def test_other(): pytest.skip("just so")
"""
REASONS = sorted([NEEDS["browser"].reason, "just so", NEEDS["fonts"].reason])


@pytest.mark.parametrize(
    ("needed", "ci", "workers", "fails"),
    [(True, "true", "1", True), (True, "true", "0", True), (True, "", "0", False), (False, "true", "0", False)],
)
def test_skips_are_named_and_in_ci_nothing_but_optional_needs_may_be_missing(needed, ci, workers, fails, tmp_path):
    (tmp_path / "test_it.py").write_text(OPTIONAL + NEEDED * needed)
    if needed:
        (tmp_path / "test_module.py").write_text(OPTIONAL + 'needed("fonts", False)\n')
    plugins = ["-p", "tests.needs", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    command = [sys.executable, "-m", "pytest", *plugins, "-n", workers, "--rootdir", tmp_path, tmp_path]
    environment = os.environ | {"CI": ci, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    for reason in [*(REASONS if needed else []), NEEDS["torch"].reason]:
        assert re.search(rf"^skipped 1, first \S+: {re.escape(reason)}$", done.stdout, re.MULTILINE), done.stdout
    assert re.findall(r"CI takes no skip for this: (.*)", done.stdout) == (REASONS if fails else [])
    assert done.returncode == fails


def test_every_reason_says_how_to_get_what_is_missing():
    """Nothing but `tests/needs.py` skips."""
    for path in (ROOT / "tests").rglob("*.py"):
        for found in re.findall(r"(?:pytest\.skip|importorskip|skipif)\(.*", path.read_text(encoding="utf-8")):
            assert "NEEDS[" in found or path == Path(__file__), f"{path}: {found}"


def test_ci_runs_what_the_readmes_tell():
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")]
    assert len(commands) == 1
    assert all(f"`{commands[0]}`" in page.read_text(encoding="utf-8") for page in [*READMES, ROOT / "CONTRIBUTING.md"])


def test_programs_tolerates_a_machine_without_apt(tmp_path):
    command = ["/bin/sh", ROOT / "tools/programs.sh"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"there is no apt-get here: .* the packages .*chromium.* hold\n", done.stderr)
