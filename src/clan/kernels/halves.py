"""Numbers in bf16: the upper 16 bits of float32 numbers, in arrays of uint16, since NumPy has no such type.

Loops read with `wide` and write with `narrow`, so that the same loop is compiled for float32 and for bf16 arrays.
"""

import threading
import weakref

import numpy as np
from numba import prange, types
from numba.extending import overload

from clan.core.compilation import compiled
from clan.core.precision import bf16_on_cpu
from clan.kernels.scratch import scratch

BF16 = np.uint16
"""The type of the elements of an array of bf16 numbers."""


def operands() -> type[np.generic]:
    """The type that operands of products are to have: bf16 within `autocast("bf16")`, else float32."""
    return BF16 if bf16_on_cpu.get() else np.float32


_NAN = np.uint16(0x7FC0)


def wide(value: np.generic) -> np.float32:
    """In a compiled loop: an element of an array of either type, as float32."""
    raise NotImplementedError(value)


def narrow(value: np.float32, array: np.ndarray) -> np.generic:
    """In a compiled loop: a float32 number as an element of `array`, rounded to the nearest, ties to even."""
    raise NotImplementedError(value, array)


@overload(wide)
def _wide(value):
    if isinstance(value, types.Float):
        return lambda value: value
    return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)


@overload(narrow)
def _narrow(value, array):
    if isinstance(array.dtype, types.Float):
        return lambda value, array: value

    def rounded(value, array):
        bits = np.float32(value).view(np.uint32)
        even = np.uint32(bits + np.uint32(0x7FFF) + np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1)))
        # Rounding would carry a NaN's bits over into the sign.
        return np.uint16(np.uint32(even >> np.uint32(16))) if value == value else _NAN

    return rounded


def rounded(array: np.ndarray, name: str | None = None) -> np.ndarray:
    """A C-contiguous float32 array, or a transposed view of one, in bf16; what is in bf16 already, as it is.

    Args:
        array: of either type.
        name: of the scratch memory that the result goes to; None: fresh memory.
    """
    if array.dtype == BF16:
        return array
    if not array.flags.c_contiguous:
        return rounded(array.T, name).T
    result = np.empty(array.shape, BF16) if name is None else scratch(name, array.shape, BF16)
    _round(array.reshape(-1), result.reshape(-1))
    return result


def widened(array: np.ndarray) -> np.ndarray:
    """An array of either type in float32."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == BF16 else array


_local = threading.local()


def hand_on(array: np.ndarray, halves: np.ndarray) -> None:
    """Remembers what a fresh float32 array is in bf16, for whoever reads its memory next."""
    _local.last = weakref.ref(array), halves


def handed_on(array: np.ndarray) -> np.ndarray:
    """A float32 array in bf16: what `hand_on` remembered if it is the same memory, rounded otherwise."""
    last, _local.last = getattr(_local, "last", None), None
    if last is not None:
        # While the remembered array lives, no other can have its address.
        fresh, halves = last[0](), last[1]
        if fresh is not None and fresh.ctypes.data == array.ctypes.data and fresh.shape == array.shape:
            return halves
    return rounded(array)


@compiled
def _round(array: np.ndarray, result: np.ndarray) -> None:
    for i in prange(len(array)):
        result[i] = narrow(array[i], result)
