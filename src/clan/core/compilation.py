"""Compiling loops over pixels with Numba: vectorised, multi-threaded, cached on disk."""

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core import event

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(loop: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles a loop at its first call; `numba.prange` within it runs in parallel threads.

    Machine code is cached beside the source, or in the user's cache folder if the source folder is read-only.
    Additions may be reordered, which vectorisation needs; NaN and infinity are preserved.
    """
    decorate = numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    return cast(Callable[Arguments, Result], decorate(loop))


def compiled_part(loop: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles a function that a compiled loop calls within its threads."""
    decorate = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    return cast(Callable[Arguments, Result], decorate(loop))


def compiled_exactly(loop: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles a loop at its first call; the loop runs in the calling thread and releases the GIL.

    Operations are neither reordered nor fused, so results equal NumPy's or Paddle's bit for bit.
    """
    return cast(Callable[Arguments, Result], numba.njit(nogil=True, cache=True, error_model="numpy")(loop))


def compiled_evenly(loop: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles a loop over independent numbers, in parallel threads, with results like those of `compiled_exactly`."""
    return cast(Callable[Arguments, Result], numba.njit(parallel=True, cache=True, error_model="numpy")(loop))


class _Announcement(event.Listener):
    """Prints once that compilation takes a while; loading from the cache triggers no event."""

    said = False

    def on_start(self, event: Any) -> None:
        """Called before a loop is compiled."""
        if not self.said:
            print("compiling loops for this processor, once per installation (half a minute)", file=sys.stderr)
        self.said = True

    def on_end(self, event: Any) -> None:
        """Called after a loop is compiled."""


event.register("numba:compile", _Announcement())
