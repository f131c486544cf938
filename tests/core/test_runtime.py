"""What is set before Paddle is imported."""

import pytest

from clan.core import runtime

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
