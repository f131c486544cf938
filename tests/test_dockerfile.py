"""The Dockerfile, read, and its shell run with a `pip` that only notes what it is told: nothing is fetched or built."""

import os
import re
import subprocess

import pytest
import tomllib

from tests.pages import ROOT, blocks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions():
    """Pairs of an instruction's name and the rest of its line, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def of(name):
    return [rest for found, rest in instructions() if found == name]


@pytest.fixture
def install(tmp_path):
    """Runs the installing instruction under build arguments; returns the exit code and the calls of `pip`."""

    def call(**arguments):
        log = tmp_path / "pip.log"
        log.unlink(missing_ok=True)
        (tmp_path / "pip").write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
        (tmp_path / "pip").chmod(0o755)
        [script] = [rest for rest in of("RUN") if "pip install" in rest]
        given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DEVICE": "cpu", "PADDLE_INDEX": ""} | arguments
        code = subprocess.run(["sh", "-c", script], env=given, check=False, capture_output=True).returncode
        return code, log.read_text().splitlines() if log.is_file() else []

    return call


def extras(line):
    return set(re.search(r"/src\[([\w,-]+)\]", line)[1].split(","))


def test_what_is_copied_exists_and_is_not_kept_from_the_builder():
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = [path for rest in of("COPY") for path in rest.split()[:-1]]
    assert set(copied) >= {"pyproject.toml", "src", PROJECT["readme"]}
    for path in copied:
        assert (ROOT / path).exists() and f"!{path}" in kept


def test_without_arguments_the_cpu_build_is_installed(install):
    defaults = dict(rest.split("=", 1) for rest in of("ARG"))
    assert (defaults["DEVICE"], defaults["PADDLE_INDEX"]) == ("cpu", "")
    code, [line] = install()
    assert code == 0 and "cpu" in extras(line)
    assert extras(line) <= set(PROJECT["optional-dependencies"])


def test_for_gpus_paddle_comes_as_the_documentation_says_and_no_cpu_build_after_it(install):
    code, [paddle, line] = install(DEVICE="gpu", PADDLE_INDEX="INDEX")
    assert code == 0 and "cpu" not in extras(line)
    assert extras(line) <= set(PROJECT["optional-dependencies"])
    shown = " ".join(blocks(ROOT / "docs/install.md", "text")[0].splitlines()[0].split()[4:6])
    assert shown in paddle and paddle.endswith("-i INDEX")


@pytest.mark.parametrize("wrong", [{"DEVICE": "gpu"}, {"DEVICE": "tpu"}])
def test_other_arguments_end_the_build(wrong, install):
    assert install(**wrong) == (2, [])


def test_the_command_is_clan_and_its_user_is_not_root():
    assert of("ENTRYPOINT") == ['["clan"]'] and "clan" in PROJECT["scripts"]
    names = [name for name, _ in instructions()]
    assert of("USER") == ["clan"] and names.index("USER") < names.index("ENTRYPOINT")
    assert all("useradd" not in rest for rest in [rest for name, rest in instructions()[names.index("USER") :]])
    assert names[:2] == ["ARG", "FROM"]


@pytest.mark.parametrize("page", ["docs/install.md", "docs/zh/install.md"])
def test_the_arguments_that_pages_name_exist(page):
    known = {rest.split("=")[0] for rest in of("ARG")}
    named = re.findall(r"--build-arg (\w+)=", (ROOT / page).read_text(encoding="utf-8"))
    assert {"DEVICE", "PADDLE_INDEX"} <= set(named) <= known
