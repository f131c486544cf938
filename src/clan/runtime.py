"""Thread and math-library settings, which must stand in the environment before Paddle is imported.

Measured on Paddle 3.3.1: importing it sets OMP_NUM_THREADS=1 when that is unset, and its MKL takes a slow
path (SSE, 90 GFLOP/s on two Zen 5 cores) on processors that are not Intel's unless MKL_DEBUG_CPU_TYPE names a
better one first: 5 is AVX2 (220 GFLOP/s), 7 is AVX-512 (440). Nothing here overrides what the user has set.
"""

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import ModuleType

from clan.errors import ConfigError


def available_cores() -> int:
    """Cores for this process, of those it may run on (its affinity mask where the system knows one), at least 1.

    Processes that Paddle's launcher started together on one machine share its cores evenly.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of the first processor, such as "vendor_id", "model name" and "flags"; empty elsewhere."""
    try:
        first, _, _ = cpuinfo.read_text(encoding="utf-8").partition("\n\n")
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
"""What MKL's AVX-512 path needs."""


def mkl_path(cpu: Mapping[str, str]) -> str | None:
    """The value of MKL_DEBUG_CPU_TYPE that suits a processor; None: MKL chooses well by itself."""
    flags = set(cpu.get("flags", "").split())
    if cpu.get("vendor_id") != "AuthenticAMD" or not {"avx2", "fma"} <= flags:
        return None
    return "7" if flags >= AVX512 else "5"


def settings() -> dict[str, str]:
    """Environment variables that make Paddle fast on this machine, and their values."""
    threads = str(available_cores())
    chosen = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    # MKL's threads and those of compiled loops are two pools: one that spins while it waits takes the other's cores.
    chosen["OMP_WAIT_POLICY"] = "PASSIVE"
    if path := mkl_path(processor()):
        chosen["MKL_DEBUG_CPU_TYPE"] = path
    return chosen


CHOSEN: set[str] = set()
"""The variables that `configure` set, so that the others are the user's."""


def configure(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets what `settings` chooses and the user has not; call it before the first `import paddle`."""
    if "PADDLE_LOCAL_SIZE" in environment and environment.get("OMP_NUM_THREADS") == "1":
        del environment["OMP_NUM_THREADS"]  # not the user's: the launcher imports Paddle and hands its 1 down
    for name, value in settings().items():
        if name not in environment:
            environment[name] = value
            CHOSEN.add(name)
    environment.setdefault("GLOG_minloglevel", "2")  # Paddle's C++ side logs flag values at the default level


def import_paddle() -> None:
    """Imports Paddle without its notices on thread settings and ccache, which no user can act on.

    Raises:
        ConfigError: Paddle is not installed.
    """
    configure()
    # Said by every batch norm whose γ and β are frozen; that is the point of freezing only those.
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import paddle  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "paddle":
            raise
        raise ConfigError(
            "PaddlePaddle is not installed: run `pip install paddlepaddle` for the CPU, "
            "or install its CUDA build as README.md tells"
        ) from None
    _choose_kernels()


KERNELS = "CLAN_KERNELS"
"""The environment variable that keeps (0) or allows (1, as if unset) what `clan.kernels` has for the CPU."""


def _choose_kernels() -> None:
    """Puts the kernels in place, or takes them away, as the environment says.

    Raises:
        ConfigError: it says neither 0 nor 1.
    """
    wanted = os.environ.get(KERNELS, "1")
    if wanted not in ("0", "1"):
        raise ConfigError(f"{KERNELS} is {wanted!r}: set it to 0 for Paddle's own operators, or unset it")
    if kernels := _kernels():
        kernels.install() if wanted == "1" else kernels.uninstall()


def why_plain() -> str | None:
    """Why networks and losses are computed by Paddle's own operators on the CPU; None: `clan.kernels` computes them.

    Call `import_paddle` first.
    """
    if os.environ.get(KERNELS) == "0":
        return f"{KERNELS} is 0"
    kernels = _kernels()
    return kernels.why_not() if kernels else "this installation has no clan.kernels"


def _kernels() -> ModuleType | None:
    """The package that makes models and losses faster on the CPU, if there is one: everything works without it.

    It is above the models that it knows, and this module below them; hence its name is a string here.
    """
    try:
        package = importlib.import_module("clan.kernels")
    except ModuleNotFoundError as error:
        if error.name != "clan.kernels":
            raise
        return None
    return package if package.__file__ else None  # a folder that holds nothing but old bytecode is none
