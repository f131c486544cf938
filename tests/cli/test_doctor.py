"""What `clan doctor` finds, and what it says of machines that are not this one."""

import copy
import json
import subprocess
import sys

import pytest

from clan.cli import doctor
from clan.cli.doctor import complaints, examine, report
from clan.cli.main import dispatch

GOOD = {
    "clan": "1.0",
    "python": "3.12.1",
    "system": "Linux",
    "processor": {
        "name": "AMD EPYC",
        "x86": True,
        "vectors": ["avx", "avx2", "fma"],
        "cores": 4,
        "memory_bytes": 16e9,
        "best_mkl_path": "5",
    },
    "settings": {
        "OMP_NUM_THREADS": {"value": "4", "by": "clan"},
        "OMP_WAIT_POLICY": {"value": "PASSIVE", "by": "clan"},
        "MKL_DEBUG_CPU_TYPE": {"value": "5", "by": "clan"},
    },
    "paddle": {"version": "3.3.1", "commit": "76884955", "cuda": None, "cudnn": None, "devices": [], "problem": None},
    "kernels": {"active": True, "remark": None},
    "packages": {"numpy": "2.0", "numba": None},
    "nvidia_gpu": False,
    "numba_threads": "omp",
    "chinese_font": "/usr/share/fonts/wqy-microhei.ttc",
    "free_disk_bytes": 80e9,
    "matrix_product_gflops": 200.0,
}
GPU = {"name": "NVIDIA A100", "memory_bytes": 40e9}


def machine(path, value):
    """A good machine but for one fact."""
    facts = copy.deepcopy(GOOD)
    *sections, name = path
    section = facts
    for key in sections:
        section = section[key]
    section[name] = value
    return facts


def test_a_good_machine_has_nothing_to_complain_of():
    assert complaints(GOOD) == []
    assert "Nothing slow was found." in report(GOOD)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("chinese_font",), None, "install the package fonts-wqy-microhei"),
        (("settings", "OMP_NUM_THREADS", "value"), "1", "OMP_NUM_THREADS is 1 on 4 cores"),
        (("settings", "OMP_WAIT_POLICY", "value"), "active", "OMP_WAIT_POLICY is active"),
        (("settings", "MKL_DEBUG_CPU_TYPE", "value"), "3", "MKL_DEBUG_CPU_TYPE is 3"),
        (("paddle", "version"), "3.0.0", "3.0.0 is older than 3.3.1"),
        (("paddle", "problem"), "gpu:0 computes nothing: mend it", "gpu:0 computes nothing"),
        (("paddle", "cuda"), "12.6", "no GPU is visible"),
        (("nvidia_gpu",), True, "CPU build: uninstall paddlepaddle"),
        (("processor", "vectors"), ["avx"], "has no AVX2"),
        (("matrix_product_gflops",), 40.0, "40 GFLOP/s on 4 cores"),
        (("kernels",), {"active": False, "remark": "CLAN_KERNELS is 0: unset it"}, "CLAN_KERNELS is 0"),
        (("kernels",), {"active": True, "remark": "Head.forward is changed: change it"}, "Head.forward"),
        (("numba_threads",), "workqueue", "share their work by workqueue"),
        (("processor", "memory_bytes"), 2e9, "2.0 GB of memory"),
        (("free_disk_bytes",), 1e9, "1.0 GB of disk"),
    ],
)
def test_what_is_slow_is_said_in_one_sentence_with_its_remedy(path, value, said):
    facts = machine(path, value)
    (complaint,) = complaints(facts)
    assert said in complaint
    assert ": " in complaint, "a remedy follows"
    assert f"! {complaint}" in report(facts)


@pytest.mark.parametrize(("path", "value"), [(("paddle", "version"), "0.0.0"), (("paddle", "version"), "3.10.0")])
def test_nightly_and_newer_builds_are_not_called_old(path, value):
    assert complaints(machine(path, value)) == []


def test_one_gpu_makes_a_slow_processor_no_complaint():
    facts = machine(("paddle", "devices"), [GPU])
    facts["paddle"]["cuda"] = "12.6"
    facts["matrix_product_gflops"] = 15.0
    facts["kernels"] = {"active": False, "remark": "CLAN_KERNELS is 0: unset it"}
    assert complaints(facts) == []
    assert "NVIDIA A100, 40.0 GB" in report(facts)


def test_without_paddle_the_rest_is_told():
    facts = machine(("paddle", "version"), None)
    facts["paddle"]["problem"] = "PaddlePaddle is not installed: install it"
    facts["matrix_product_gflops"] = facts["kernels"] = None
    assert complaints(facts) == ["PaddlePaddle is not installed: install it"]
    assert "not measured" in report(facts)


def test_this_machine_is_measured():
    facts = examine()
    assert facts["processor"]["cores"] >= 1
    assert facts["free_disk_bytes"] > 0
    assert facts["matrix_product_gflops"] > 0.1
    assert facts["numba_threads"] in ("omp", "tbb", "workqueue")
    assert {"OMP_NUM_THREADS", "OMP_WAIT_POLICY"} <= facts["settings"].keys()
    assert json.loads(json.dumps(facts)) == facts


def test_the_command_tells_who_set_what_and_complains(monkeypatch):
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    command = [sys.executable, "-m", "clan", "doctor", "--json"]
    facts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert facts["settings"]["OMP_WAIT_POLICY"] == {"value": "ACTIVE", "by": "you"}
    assert facts["settings"]["OMP_NUM_THREADS"]["by"] == "clan"
    assert any("OMP_WAIT_POLICY is ACTIVE" in complaint for complaint in facts["complaints"])


class TwoGpus:
    """Answers in place of the processes that probe GPUs."""

    def __init__(self, monkeypatch, *answers):
        self.answers = list(answers)
        monkeypatch.setattr(doctor.subprocess, "run", self)

    def __call__(self, command, **options):
        return subprocess.CompletedProcess(command, *self.answers.pop(0))


def test_a_gpu_that_does_not_compute_ends_no_report(monkeypatch, capsys):
    """Computing on it in this process might abort it."""
    paddle = GOOD["paddle"] | {"devices": [GPU], "problem": "gpu:0 computes nothing: mend it"}
    monkeypatch.setattr(doctor, "_paddle", lambda: paddle)
    monkeypatch.setattr(doctor, "_matrix_product_gflops", lambda: pytest.fail("computed"))
    monkeypatch.setattr("clan.cli.selftest.select_device", lambda: pytest.fail("computed"))
    dispatch(["doctor"])
    assert "! gpu:0 computes nothing: mend it" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        dispatch(["doctor", "--selftest", "--json"])
    assert stop.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert found["matrix_product_gflops"] is None
    assert [one["remark"] for one in found["selftest"]] == [paddle["problem"]]


def test_without_paddle_the_self_test_fails_and_the_facts_are_told(monkeypatch, capsys):
    facts = machine(("paddle", "version"), None)
    facts["paddle"]["problem"] = "PaddlePaddle is not installed: install it"
    facts["matrix_product_gflops"] = facts["kernels"] = None
    monkeypatch.setattr(doctor, "examine", lambda: facts)
    with pytest.raises(SystemExit) as stop:
        dispatch(["doctor", "--selftest"])
    assert stop.value.code == 1
    assert "! PaddlePaddle is not installed: install it" in capsys.readouterr().out


def test_products_are_measured_in_float32(monkeypatch):
    allowed = []
    monkeypatch.setattr("clan.core.precision.allow_tf32", allowed.append)
    assert doctor._matrix_product_gflops(seconds=0.01, size=8) > 0
    assert allowed == [False]


def test_every_gpu_is_probed_in_a_process_of_its_own(monkeypatch):
    assert doctor._problem_of_gpus(0) is None
    TwoGpus(monkeypatch, (0, "", ""), (0, "", ""))
    assert doctor._problem_of_gpus(2) is None
    TwoGpus(monkeypatch, (0, "", ""), (1, "", "gpu:1 computes a convolution wrongly: install\n"))
    assert doctor._problem_of_gpus(2) == "gpu:1 computes a convolution wrongly: install"
    TwoGpus(monkeypatch, (-6, "", "terminate called after throwing an instance of 'thrust::system_error'\n"))
    assert "GPU 0 ends the process: terminate called" in doctor._problem_of_gpus(1)


def test_the_probe_runs():
    """Here it fails with a sentence, since there is no GPU, or computes."""
    problem = doctor._problem_of_gpus(1)
    assert problem is None or problem.startswith("--device gpu, but")
