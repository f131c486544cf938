"""`clan doctor`: what this machine, its Paddle and its settings are, and what of them makes training slow."""

import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import numpy as np

from clan import __version__
from clan.core import runtime
from clan.core.compilation import compiled
from clan.core.errors import ConfigError
from clan.core.fonts import CHINESE, font_with

Facts = Mapping[str, Any]
"""What was found, as JSON has it."""

PACKAGES = ("numpy", "numba", "pillow", "opencv-python-headless", "pydantic", "safetensors")
GIGA = 1e9


def examine() -> dict[str, Any]:
    """Looks at the machine and measures it for about a second; imports Paddle, with the settings of every command."""
    paddle = _paddle()
    computes = paddle["version"] and not broken_gpu(paddle)
    names = sorted(runtime.settings().keys() | {"MKL_DEBUG_CPU_TYPE", "GLIBC_TUNABLES"} & os.environ.keys())
    settings = {name: {"value": os.environ[name], "by": "clan" if name in runtime.CHOSEN else "you"} for name in names}
    return {
        "clan": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "settings": settings,
        "paddle": paddle,
        "kernels": runtime.kernel_state()._asdict() if paddle["version"] else None,
        "packages": {name: _version(name) for name in PACKAGES},
        "nvidia_gpu": Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None,
        "numba_threads": _numba_threading_layer(),
        "chinese_font": str(chinese[0]) if (chinese := font_with(CHINESE)) else None,
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
        "matrix_product_gflops": _matrix_product_gflops() if computes else None,
    }


def broken_gpu(paddle: Facts) -> str | None:
    """Why nothing must be computed in this process: a GPU that does not compute may end it, and the report with it."""
    return paddle["problem"] if paddle["devices"] else None


def complaints(facts: Facts) -> list[str]:
    """One sentence with its remedy for everything that is slow or will fail."""
    return [*_about_settings(facts), *_about_paddle(facts["paddle"], facts["nvidia_gpu"]), *_about_machine(facts)]


def report(facts: Facts) -> str:
    """The facts for people, and below them the complaints."""
    cpu, paddle = facts["processor"], facts["paddle"]
    speed, font = facts["matrix_product_gflops"], facts["chinese_font"]
    lines = [
        ("clan", f"{facts['clan']}, Python {facts['python']}, {facts['system']}"),
        ("processor", f"{cpu['name']}, {cpu['cores']} cores for us, {', '.join(cpu['vectors']) or 'no vector units'}"),
        ("memory", f"{cpu['memory_bytes'] / GIGA:.1f} GB" if cpu["memory_bytes"] else "unknown"),
        *((name, f"{value['value']}, set by {value['by']}") for name, value in facts["settings"].items()),
        ("Paddle", _describe_paddle(paddle)),
        *(("device", f"{device['name']}, {device['memory_bytes'] / GIGA:.1f} GB") for device in paddle["devices"]),
        ("packages", ", ".join(f"{name} {version or 'missing'}" for name, version in facts["packages"].items())),
        ("kernels", str(runtime.KernelState(**facts["kernels"])) if facts["kernels"] else "unknown without Paddle"),
        ("compiled loops", f"threads by {facts['numba_threads']}"),
        ("Chinese names", f"drawn with {font}" if font else "drawn as escapes such as \\u8def, since no font has them"),
        ("free disk", f"{facts['free_disk_bytes'] / GIGA:.1f} GB here"),
        ("matrix product", f"{speed:.0f} GFLOP/s, float32" if speed else "not measured"),
    ]
    found = complaints(facts)
    verdict = [f"! {complaint}" for complaint in found] or ["Nothing slow was found."]
    return "\n".join([*(f"{name:<22}{value}" for name, value in lines), "", *verdict])


def _describe_paddle(paddle: Facts) -> str:
    if not paddle["version"]:
        installed = runtime.installed_paddle()
        return f"{installed}, not usable" if installed else "not installed"
    build = f"CUDA {paddle['cuda']}, cuDNN {paddle['cudnn']}" if paddle["cuda"] else "CPU build"
    return f"{paddle['version']} ({paddle['commit'][:8]}), {build}"


def _about_settings(facts: Facts) -> list[str]:
    values = {name: setting["value"] for name, setting in facts["settings"].items()}
    cpu = facts["processor"]
    found = []
    if values.get("OMP_NUM_THREADS") == "1" and cpu["cores"] > 1:
        found.append(f"OMP_NUM_THREADS is 1 on {cpu['cores']} cores: unset it, and all of them compute")
    if values.get("OMP_WAIT_POLICY", "PASSIVE").upper() != "PASSIVE":
        found.append(
            f"OMP_WAIT_POLICY is {values['OMP_WAIT_POLICY']}, with which idle threads take cores from working ones: "
            "unset it"
        )
    best, given = cpu["best_mkl_path"], values.get("MKL_DEBUG_CPU_TYPE")
    if best and given != best:
        found.append(
            f"MKL_DEBUG_CPU_TYPE is {given}, which makes matrix products slow on this processor: unset it, "
            f"and {best} is chosen"
        )
    return found


def _about_paddle(paddle: Facts, nvidia_gpu: bool) -> list[str]:
    if not paddle["version"]:
        return [paddle["problem"]]
    found = []
    if not paddle["devices"] and runtime.is_older(paddle["version"], runtime.NEWEST_PADDLE):
        found.append(
            f"PaddlePaddle {paddle['version']} is older than {runtime.NEWEST_PADDLE}, with which the kernels for "
            f"the CPU were measured: {runtime.how_to_install(gpu=False)}"
        )
    if paddle["problem"]:
        found.append(paddle["problem"])
    if nvidia_gpu and not paddle["cuda"]:
        found.append(
            "there is an NVIDIA GPU, but this PaddlePaddle is a CPU build: uninstall paddlepaddle, then "
            f"{runtime.how_to_install(gpu=True)}"
        )
    if paddle["cuda"] and not paddle["devices"]:
        found.append(
            "this PaddlePaddle is a CUDA build, but no GPU is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    return found


def _about_machine(facts: Facts) -> list[str]:
    cpu, speed = facts["processor"], facts["matrix_product_gflops"]
    found = []
    if facts["kernels"] and not facts["paddle"]["devices"]:
        found += filter(None, [runtime.KernelState(**facts["kernels"]).complaint])
    if cpu["vectors"] is not None and cpu["x86"] and "avx2" not in cpu["vectors"]:
        found.append("this processor, or the virtual machine on it, has no AVX2: expect a fraction of the usual speed")
    if speed and not facts["paddle"]["devices"] and speed < 15 * cpu["cores"]:
        found.append(
            f"a matrix product runs at {speed:.0f} GFLOP/s on {cpu['cores']} cores, where 15 per core is little: "
            "stop other programs, or look at the settings above"
        )
    if facts["numba_threads"] not in ("omp", "tbb"):
        found.append(
            f"compiled loops share their work by {facts['numba_threads']}: install tbb or an OpenMP runtime, "
            "so that several threads may run them"
        )
    if facts["chinese_font"] is None:
        found.append(
            "no font here has Chinese characters, which pictures then show as escapes such as \\u8def: install the "
            "package fonts-wqy-microhei (2 MB) or fonts-noto-cjk, if names of yours hold any"
        )
    if cpu["memory_bytes"] and cpu["memory_bytes"] < 4 * GIGA:
        found.append(
            f"{cpu['memory_bytes'] / GIGA:.1f} GB of memory are too few to train ResNet-101 at 512x256, which takes "
            "about 3 GB: use smaller sizes"
        )
    if facts["free_disk_bytes"] < 5 * GIGA:
        found.append(
            f"{facts['free_disk_bytes'] / GIGA:.1f} GB of disk are free here, and a snapshot with its state takes "
            "0.6 GB: free some, or save elsewhere with --snapshot-dir"
        )
    return found


def _processor() -> dict[str, Any]:
    cpu = runtime.processor()
    flags = set(cpu.get("flags", "").split())
    has_sysconf = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    return {
        "name": cpu.get("model name") or platform.processor() or platform.machine(),
        "x86": bool(flags),
        "vectors": [name for name in ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16") if name in flags],
        "cores": runtime.available_cores(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if has_sysconf else None,
        "best_mkl_path": runtime.mkl_path(cpu),
    }


def _paddle() -> dict[str, Any]:
    """Version, CUDA and devices; `problem` tells why there is none."""
    try:
        runtime.import_paddle()
    except ConfigError as error:
        return {"version": None, "commit": None, "cuda": None, "cudnn": None, "devices": [], "problem": str(error)}
    import paddle

    build: Any = paddle.version  # pyright: ignore[reportAttributeAccessIssue]
    with_cuda = paddle.device.is_compiled_with_cuda()
    count = paddle.device.cuda.device_count() if with_cuda else 0
    found = [paddle.device.cuda.get_device_properties(index) for index in range(count)]
    return {
        "version": build.full_version,
        "commit": build.commit,
        "cuda": build.cuda() if with_cuda else None,
        "cudnn": build.cudnn() if with_cuda else None,
        "devices": [
            {"name": one.name, "memory_bytes": one.total_memory, "capability": f"{one.major}.{one.minor}"}
            for one in found
        ],
        "problem": _problem_of_gpus(len(found)) if with_cuda else None,
    }


PROBE = """
import sys
from clan.core import runtime
runtime.import_paddle()
from clan.core.device import select_device
from clan.core.errors import ClanError
try:
    select_device("gpu", int(sys.argv[1]))
except ClanError as error:
    sys.exit(str(error))
"""
"""Computes a little on a GPU; in a process of its own, since a build without kernels for a card may abort."""


def _problem_of_gpus(count: int) -> str | None:
    """Why the first of the visible GPUs that does not compute does not; None: all compute."""
    for index in range(count):
        command = [sys.executable, "-c", PROBE, str(index)]
        environment = {name: value for name, value in os.environ.items() if name != "FLAGS_selected_gpus"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return f"GPU {index} does not end a small convolution within 120 s: look at nvidia-smi and the driver's log"
        if done.returncode:
            said = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "without a word")
            return said if done.returncode == 1 else f"GPU {index} ends the process: {said}; {HOW_TO_FIT}"
    return None


HOW_TO_FIT = f"this build may have no kernels for it: {runtime.how_to_install(gpu=True)}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@compiled
def _count_up(numbers: np.ndarray) -> None:
    for index in numba.prange(len(numbers)):
        numbers[index] = index


def _numba_threading_layer() -> str:
    """What shares a compiled loop among threads: "omp", "tbb" or "workqueue"; numba tells after the first loop."""
    _count_up(np.zeros(1000))
    return numba.threading_layer()  # pyright: ignore[reportPrivateImportUsage]


def _matrix_product_gflops(seconds: float = 1.0, size: int = 1024) -> float:
    """The best of the products of two square float32 matrices that fit in the time, where training will run."""
    import paddle

    from clan.core.precision import allow_tf32

    allow_tf32(False)
    left, right = paddle.rand([size, size]), paddle.rand([size, size])
    fastest, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        float(paddle.matmul(left, right)[0, 0])  # waits for a GPU
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * size**3 / fastest / GIGA
