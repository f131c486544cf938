"""`environment.json`: versions, hardware and peak memory of a run."""

import contextlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from clan import __version__
from clan.core.files import write_atomically
from clan.core.output import encoded
from clan.core.precision import tf32_allowed
from clan.core.runtime import KernelState, available_cores, kernel_state, processor
from clan.run.folder import ENVIRONMENT
from clan.run.observer import Observer


class RunRecord(Observer):
    """Writes `environment.json` into a run's folder when the run starts, and again with every snapshot.

    Args:
        folder: the run's folder.
        autotune: whether Paddle was asked to try kernels and layouts.
    """

    def __init__(self, folder: Path, *, autotune: bool = False) -> None:
        build: Any = paddle.version  # pyright: ignore[reportAttributeAccessIssue]
        device = paddle.device.get_device()
        kernels = kernel_state() if device == "cpu" else KernelState(False, "they are for the CPU")
        self._path = folder / ENVIRONMENT
        self._facts: dict[str, Any] = {
            "clan": __version__,
            "paddle": build.full_version,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "system": platform.platform(),
            "processor": processor().get("model name") or platform.processor() or platform.machine(),
            "cores": available_cores(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
            "started": _started(self._path),
            "started_in": str(Path.cwd()),
            "device": device,
            "tf32": tf32_allowed(),
            "autotune": autotune and device != "cpu",
            "kernels": str(kernels),
        }
        self.update()

    def saved(self, iteration: int, snapshot: Path, previews: Mapping[str, Path]) -> None:
        """See `Observer`."""
        self.update()

    def update(self) -> None:
        """Writes the file with the current peak memory."""
        self._facts["peak_memory_bytes"] = peak_memory()
        text = json.dumps(self._facts, indent=2, ensure_ascii=False)
        write_atomically(self._path, lambda file: file.write(encoded(text)), sync=False)


def _started(path: Path) -> str:
    """Returns the start of the run in ISO 8601: the recorded one of a resumed run ("" if missing), else now."""
    if path.is_file():
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            return str(json.loads(path.read_bytes())["started"])
        return ""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def peak_memory() -> dict[str, int]:
    """Returns the peak memory of this process in bytes: "host", and "gpu" on a GPU."""
    peak = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if paddle.device.get_device().startswith("gpu"):
        peak["gpu"] = paddle.device.cuda.max_memory_allocated()
    return peak


def memory() -> dict[str, int]:
    """Returns the current memory like `peak_memory`; the peak where the system does not report it."""
    held = peak_memory()
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        held["host"] = pages * os.sysconf("SC_PAGE_SIZE")
    if "gpu" in held:
        held["gpu"] = paddle.device.cuda.memory_allocated()
    return held
