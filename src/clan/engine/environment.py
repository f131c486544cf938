"""`environment.json`: what a run was computed with, and the most memory that it took."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from clan import __version__
from clan.atomic import write_atomically
from clan.runtime import available_cores, processor

NAME = "environment.json"


class RunRecord:
    """Writes `environment.json` into a run's folder when the run starts, and again at every update.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        build: Any = paddle.version  # pyright: ignore[reportAttributeAccessIssue]
        self._path = folder / NAME
        self._facts: dict[str, Any] = {
            "clan": __version__,
            "paddle": build.full_version,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "system": platform.platform(),
            "processor": processor().get("model name") or platform.processor() or platform.machine(),
            "cores": available_cores(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
            "device": paddle.device.get_device(),
        }
        self.update()

    def update(self) -> None:
        """Writes the file with the peak memory of now."""
        self._facts["peak_memory_bytes"] = peak_memory()
        text = json.dumps(self._facts, indent=2, ensure_ascii=False)
        write_atomically(self._path, lambda file: file.write(text.encode()), sync=False)


def peak_memory() -> dict[str, int]:
    """The most memory this process has held, in bytes: of the machine ("host") and of the GPU if it computes there."""
    peak = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if paddle.device.get_device().startswith("gpu"):
        peak["gpu"] = paddle.device.cuda.max_memory_allocated()
    return peak
