"""How loops over pixels are compiled: to vector instructions, in all cores, once per installation."""

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core import event

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(loop: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles a loop at its first call; `numba.prange` within it is shared among threads.

    The machine code is kept beside the source, or in the user's cache folder where that is read-only. Additions
    may be reordered within a vector, which is how they become vector instructions; NaN and infinity stay what they are.
    """
    decorate = numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    return cast(Callable[Arguments, Result], decorate(loop))


def compiled_part(loop: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles what a compiled loop calls from within its threads."""
    decorate = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    return cast(Callable[Arguments, Result], decorate(loop))


def compiled_exactly(loop: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles a loop at its first call to run in the calling thread, without Python's lock.

    Every operation is rounded as it is written, so that the loop equals NumPy's or Paddle's bit for bit.
    """
    return cast(Callable[Arguments, Result], numba.njit(nogil=True, cache=True, error_model="numpy")(loop))


class _Announcement(event.Listener):
    """Says, once, why nothing seems to happen; loading compiled loops from the cache is no such event."""

    said = False

    def on_start(self, event: Any) -> None:
        """Before a loop is compiled."""
        if not self.said:
            print("compiling loops for this processor, once per installation (half a minute)", file=sys.stderr)
        self.said = True

    def on_end(self, event: Any) -> None:
        """After it."""


event.register("numba:compile", _Announcement())
