"""Thread and math-library settings, which must stand in the environment before Paddle is imported.

Measured on Paddle 3.3.1: importing it sets OMP_NUM_THREADS=1 when that is unset, and its MKL takes a slow
path on AMD processors unless MKL_DEBUG_CPU_TYPE=5 is there first. Together they make a training step
four times slower. Nothing here overrides what the user has set.
"""

import contextlib
import io
import os
import warnings
from collections.abc import MutableMapping
from pathlib import Path

from clan.errors import ConfigError


def available_cores() -> int:
    """Cores this process may run on (its affinity mask where the system knows one), at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def cpu_vendor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's vendor string, such as "AuthenticAMD"; empty where it cannot be told."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


def settings() -> dict[str, str]:
    """Environment variables that make Paddle fast on this machine, and their values.

    Several ranks on one machine share its cores, so each takes its part of them.
    """
    ranks_here = int(os.environ.get("PADDLE_LOCAL_SIZE", "0")) or int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    chosen = {"OMP_NUM_THREADS": str(max(1, available_cores() // ranks_here))}
    if cpu_vendor() == "AuthenticAMD":
        chosen["MKL_DEBUG_CPU_TYPE"] = "5"
    return chosen


def configure(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets what `settings` chooses and the user has not; call it before the first `import paddle`."""
    for name, value in settings().items():
        environment.setdefault(name, value)
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
