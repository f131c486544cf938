"""Reads files of weights in a process that reports everything that reading did besides.

The reading process is watched from three sides: Python's audit events, of which opening that one file for
reading is the only one allowed; the kernel's limits, under which no file can grow and memory is short; and the
parent, which notices that it died or hangs.
"""

import codecs
import math
import multiprocessing
import os
import resource
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from clan.core.errors import WeightsError
from clan.models import weight_files

Reader = Callable[[Path], dict[str, np.ndarray]]

TIME_LIMIT = 30.0  # seconds for one small file; an honest one takes 1 ms
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MEMORY_ROOM = 512 << 20  # bytes of address space beyond what Python and its libraries take


def memory_limit(size: int) -> int:
    """Bytes that reading a file of so many bytes may allocate: each of them may be an instruction."""
    return 300 * size + (4 << 20)


@dataclass(frozen=True)
class Outcome:
    """What came of reading one file; without `faults`, it was refused with `message` or read (None)."""

    message: str | None
    faults: tuple[str, ...]
    seconds: float = 0.0
    peak: int = 0


class Sandbox:
    """Reads files one after the other in a process of its own; to be used in a `with` statement."""

    def __init__(self, read_arrays: Reader = weight_files.read_arrays, time_limit: float = TIME_LIMIT) -> None:
        self._read_arrays = read_arrays
        self._time_limit = time_limit
        self._context = multiprocessing.get_context("spawn")  # a fork would inherit the threads of Paddle
        self._start()

    def _start(self) -> None:
        self._connection, other = self._context.Pipe()
        self._process = self._context.Process(target=_work, args=(self._read_arrays, other), daemon=True)
        self._process.start()
        other.close()
        self._connection.recv()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def read(self, path: Path) -> Outcome:
        """Reads a file; a process that died or had to be killed is replaced."""
        self._connection.send(path)
        with suppress(EOFError):
            if self._connection.poll(self._time_limit):
                return self._connection.recv()
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self._start()
        return Outcome(None, (f"the process hung, or died with code {code}",))


def _work(read_arrays: Reader, connection: Connection) -> None:
    for codec in ("cp437", "unicode_escape", "latin1", "ascii"):
        codecs.lookup(codec)  # loads modules, which the watch would report
    warnings.simplefilter("error")
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_ROOM,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = _Watch()
    sys.addaudithook(watch)
    connection.send("ready")
    while True:
        connection.send(_examine(read_arrays, connection.recv(), watch))


class _Watch:
    """An audit hook that records and prevents whatever is not the opening of `allowed` for reading."""

    def __init__(self) -> None:
        self.allowed: Path | None = None  # None: not watching
        self.events: list[str] = []

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.allowed is None:
            return
        if event == "open" and not arguments[2] & _WRITING:
            name = arguments[0]
            if name == str(self.allowed) or isinstance(name, int):  # an int is what has been opened already
                return
        self.events.append(f"{event} {arguments!r:.200}")
        raise _ForbiddenError


class _ForbiddenError(BaseException):
    """Passes through every `except Exception`."""


def _examine(read_arrays: Reader, path: Path, watch: _Watch) -> Outcome:
    size = path.stat().st_size
    tracemalloc.start()
    started = time.perf_counter()
    watch.allowed = path
    try:
        outcome = _read(read_arrays, path, size)
    except BaseException as error:  # a panic of Rust is no Exception
        outcome = Outcome(None, (f"{type(error).__name__}: {error}",))
    finally:
        watch.allowed = None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    faults, watch.events = [*outcome.faults, *watch.events], []
    if peak > memory_limit(size):
        faults.append(f"took {peak} bytes for a file of {size}")
    return replace(outcome, faults=tuple(faults), seconds=time.perf_counter() - started, peak=peak)


def _read(read_arrays: Reader, path: Path, size: int) -> Outcome:
    try:
        arrays = read_arrays(path)
    except WeightsError as error:
        message = str(error)
        fit = message.startswith(f"{path} ") and message.isprintable() and len(message) < len(str(path)) + 400
        return Outcome(message, () if fit else (f"message {message!r}",))
    return Outcome(None, tuple(_faults(arrays, size)))


def _faults(arrays: dict[str, np.ndarray], size: int) -> Iterator[str]:
    """How what was read from a file of so many bytes breaks the contract of `read_arrays`."""
    for name, array in arrays.items():
        array.tobytes()  # touches all of it
        if not isinstance(name, str) or array.dtype.kind not in "fiub" or not array.flags.c_contiguous:
            yield f"{name!r} is {array.dtype} {array.shape} {array.strides}"
        if array.dtype.kind == "b" and array.view("u1").max(initial=0) > 1:
            yield f"{name!r} holds a bool that is neither"
    total = sum(math.prod(array.shape) * array.itemsize for array in arrays.values())
    if total > 4 * size + (1 << 16) or not arrays:
        yield f"{len(arrays)} arrays of {total} bytes from a file of {size}"
