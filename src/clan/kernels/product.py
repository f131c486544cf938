"""Matrix products of float32 arrays, into memory that is already there, by the library that Paddle itself uses."""

import ctypes
import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112


def multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray, *, accumulate: bool = False) -> None:
    """`out` = a·b, or `out` += a·b: [M, K]·[K, N] → [M, N].

    NumPy brings its own BLAS, whose threads would compete with MKL's, and which is half as fast on some processors.

    Args:
        a: float32, C-contiguous or a transposed view of such an array.
        b: likewise.
        out: float32, C-contiguous.
        accumulate: add to what `out` holds.
    """
    mkl = _mkl()
    if mkl is None:
        np.add(out, a @ b, out=out) if accumulate else np.matmul(a, b, out=out)
        return
    (a_layout, a_stride), (b_layout, b_stride) = _layout(a), _layout(b)
    mkl.cblas_sgemm(
        _ROW_MAJOR, a_layout, b_layout, *out.shape, a.shape[1],
        1.0, a.ctypes.data, a_stride, b.ctypes.data, b_stride,
        1.0 if accumulate else 0.0, out.ctypes.data, out.shape[1],
    )  # fmt: skip


def multiply_each(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """`out`[i] = a[i]·b[i] for every i: [G, M, K]·[G, K, N] → [G, M, N].

    Args:
        a: float32; its matrices are C-contiguous, or transposed views of such.
        b: likewise.
        out: float32, C-contiguous.
    """
    mkl = _mkl()
    if mkl is None:
        np.matmul(a, b, out=out)
        return
    (a_layout, a_stride), (b_layout, b_stride) = _layout(a[0]), _layout(b[0])
    one = ctypes.c_int * 1
    pointers = [(ctypes.c_void_p * len(array))(*(each.ctypes.data for each in array)) for array in (a, b, out)]
    # One group of len(a) products, all alike.
    mkl.cblas_sgemm_batch(
        _ROW_MAJOR, one(a_layout), one(b_layout), one(out.shape[1]), one(out.shape[2]), one(a.shape[2]),
        (ctypes.c_float * 1)(1.0), pointers[0], one(a_stride), pointers[1], one(b_stride),
        (ctypes.c_float * 1)(0.0), pointers[2], one(out.shape[2]), 1, one(len(a)),
    )  # fmt: skip


def _layout(matrix: np.ndarray) -> tuple[int, int]:
    """Whether a matrix lies in memory as it is or transposed, and the length of a row there."""
    if matrix.flags.c_contiguous:
        return _PLAIN, matrix.shape[1]
    assert matrix.T.flags.c_contiguous, f"neither rows nor columns are contiguous: strides {matrix.strides}"
    return _TRANSPOSED, matrix.shape[0]


@functools.cache
def _mkl() -> ctypes.CDLL | None:
    """MKL from Paddle's wheels for x86 Linux; None where there is none."""
    paddle = find_spec("paddle")
    assert paddle is not None
    assert paddle.origin is not None
    path = Path(paddle.origin).parent / "libs" / "libmklml_intel.so"
    if not path.is_file():
        return None
    mkl = ctypes.CDLL(str(path))
    integer, number, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    mkl.cblas_sgemm.argtypes = [*[integer] * 6, number, pointer, integer, pointer, integer, number, pointer, integer]
    mkl.cblas_sgemm_batch.argtypes = [integer, *[pointer] * 13, integer, pointer]
    mkl.cblas_sgemm.restype = mkl.cblas_sgemm_batch.restype = None
    return mkl
