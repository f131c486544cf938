"""How loops over pixels are compiled: to vector instructions, in all cores, once per installation."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

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
