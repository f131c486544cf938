"""What is set before Paddle is imported."""

import os
import signal
import subprocess
import sys

import pytest

from clan.core import runtime
from tests.needs import needed
from tests.pages import ROOT

pytestmark = pytest.mark.core

AVX2 = "fma avx2"
ZEN4 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("vendor", "flags", "path"),
    [
        ("AuthenticAMD", AVX2, "5"),
        ("AuthenticAMD", ZEN4, "7"),
        ("AuthenticAMD", "sse4_2 avx", None),
        ("GenuineIntel", ZEN4, None),
    ],
)
def test_mkl_takes_the_best_path_that_the_processor_has(tmp_path, vendor, flags, path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags: none\n")
    assert runtime.mkl_path(runtime.processor(cpuinfo)) == path


def test_an_unknown_machine_is_left_alone(tmp_path):
    assert runtime.mkl_path(runtime.processor(tmp_path / "missing")) is None


def test_what_the_user_set_stays():
    environment = {"OMP_NUM_THREADS": "7", "MKL_DEBUG_CPU_TYPE": "4"}
    runtime.configure(environment)
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["MKL_DEBUG_CPU_TYPE"] == "4"


def test_the_one_thread_that_the_launcher_hands_down_is_not_the_user_s(monkeypatch):
    monkeypatch.setattr(runtime, "available_cores", lambda: 3)
    environment = {"OMP_NUM_THREADS": "1", "PADDLE_LOCAL_SIZE": "2"}
    runtime.configure(environment)
    assert environment["OMP_NUM_THREADS"] == "3"


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    alone = runtime.available_cores()
    for processes in (2, 1000):
        monkeypatch.setenv("PADDLE_LOCAL_SIZE", str(processes))
        assert runtime.available_cores() == max(1, alone // processes)


def test_a_process_starts_again_once_with_memory_in_huge_pages():
    needed("proc", sys.platform == "linux")
    start = "from clan.core import runtime; runtime.restart_with_huge_pages(); "
    tell = "import os; print(os.getpid(), os.environ.get('GLIBC_TUNABLES'), sys.argv[1:], *runtime.CHOSEN)"
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}

    def printed(before="", **given):
        command = [sys.executable, "-c", f"import sys; {before}{start}{tell}", "an argument"]
        with subprocess.Popen(command, env=environment | given, stdout=subprocess.PIPE, text=True) as process:
            number, found = process.communicate()[0].split(maxsplit=1)
        assert int(number) == process.pid
        return found.split(maxsplit=1)

    value, others = printed()
    assert (value, others.startswith("['an argument']"), "GLIBC_TUNABLES" in others) == (runtime.HUGE_PAGES, True, True)
    assert printed(GLIBC_TUNABLES="glibc.malloc.perturb=0")[0] == "glibc.malloc.perturb=0"
    assert printed("sys.modules['paddle'] = sys; ")[0] == "None"


@pytest.mark.parametrize(
    ("version", "older"),
    [("2.6.2", True), ("3.0.0", False), ("3.10.0", False), ("0.0.0", False), ("of an unknown version", False)],
)
def test_which_versions_are_too_old(version, older):
    assert runtime.is_older(version, runtime.OLDEST_PADDLE) is older


def import_fake(tmp_path, version, code):
    """What importing Paddle ends with where that is a package of a given version and code."""
    (tmp_path / "paddle/version").mkdir(parents=True)
    (tmp_path / "paddle/version/__init__.py").write_text(f"full_version  = '{version}'\n", encoding="utf-8")
    (tmp_path / "paddle/__init__.py").write_text(code, encoding="utf-8")
    program = "from clan.cli.commandline import run\nfrom clan.core import runtime\nrun(runtime.import_paddle)"
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


def test_an_old_paddle_is_refused_before_it_is_imported(tmp_path):
    """2.6.2 is what its GPU package has where Paddle's own index is not named; with NumPy 2 it cannot be imported."""
    done = import_fake(tmp_path, "2.6.2", "raise AttributeError('np.bool8')")
    assert done.returncode == 2
    assert done.stderr.startswith("error: PaddlePaddle 2.6.2 is older than 3.0.0: run ")
    assert done.stderr.count("\n") == 1
    for folder in runtime.CUDA_BUILDS.values():
        assert folder in done.stderr
    assert f"paddlepaddle-gpu=={runtime.NEWEST_PADDLE} -i {runtime.PADDLE_INDEX}cu118/" in done.stderr


def test_a_library_that_paddle_does_not_find_is_named(tmp_path):
    code = "raise ImportError('libcublas.so.12: cannot open shared object file: No such file or directory')"
    done = import_fake(tmp_path, "3.3.1", code)
    assert done.returncode == 2
    assert "PaddlePaddle 3.3.1 does not find libcublas.so.12: install" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_signal_that_ends_the_process_prints_no_traceback():
    code = "from clan.core import runtime; runtime.import_paddle(); import os; os.kill(os.getpid(), 15)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGTERM
    assert "Traceback" not in ended.stdout + ended.stderr
