"""Memory for what lives only within one layer: taken again and again instead of from the system each time."""

import threading

import numpy as np

_local = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: type[np.generic] = np.float32) -> np.ndarray:
    """An uninitialised array that is valid until this thread asks for the same name again.

    Fresh memory costs a page fault every 4 kB, which for large arrays takes as long as filling them.
    """
    buffers: dict[str, np.ndarray] = _local.__dict__.setdefault("buffers", {})
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if name not in buffers or buffers[name].size < size:
        buffers[name] = np.empty(size, np.uint8)
    return buffers[name][:size].view(dtype).reshape(shape)
