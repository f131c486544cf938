"""Matrix products into memory that is already there, by the libraries that Paddle itself uses.

Operands are float32, or bf16 (`halves`); what is computed of them is float32. Where one operand is bf16, the other is
rounded to it.
"""

import ctypes
import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from clan.kernels.halves import BF16, rounded

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112

_BF16_INSTRUCTIONS = 0xE7
"""Bits of oneDNN's `dnnl_cpu_isa_avx512_core_bf16`, which later sets of instructions contain."""


def multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray, *, accumulate: bool = False) -> None:
    """`out` = a·b, or `out` += a·b: [M, K]·[K, N] → [M, N].

    NumPy brings its own BLAS, whose threads would compete with MKL's, and which is half as fast on some processors.

    Args:
        a: float32 or bf16, C-contiguous or a transposed view of such an array.
        b: likewise.
        out: float32, C-contiguous.
        accumulate: add to what `out` holds.
    """
    if BF16 in (a.dtype, b.dtype):
        _multiply_bf16(rounded(a, "left operand"), rounded(b, "right operand"), out, accumulate=accumulate)
        return
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
        a: float32 or bf16; its matrices are C-contiguous, or transposed views of such.
        b: likewise.
        out: float32, C-contiguous.
    """
    if BF16 in (a.dtype, b.dtype):
        for each in zip(a, b, out, strict=True):
            multiply(*each)
        return
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


def multiplies_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers, and Paddle has a library that makes it do so."""
    library = _onednn()
    return library is not None and library.dnnl_get_effective_cpu_isa() & _BF16_INSTRUCTIONS == _BF16_INSTRUCTIONS


def _multiply_bf16(a: np.ndarray, b: np.ndarray, out: np.ndarray, *, accumulate: bool) -> None:
    library = _onednn()
    assert library is not None, "bf16 operands without a library for them"
    (a_layout, a_stride), (b_layout, b_stride) = _layout(a), _layout(b)
    library.dnnl_gemm_bf16bf16f32(
        b"T" if a_layout == _TRANSPOSED else b"N", b"T" if b_layout == _TRANSPOSED else b"N", *out.shape, a.shape[1],
        1.0, a.ctypes.data, a_stride, b.ctypes.data, b_stride,
        1.0 if accumulate else 0.0, out.ctypes.data, out.shape[1],
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
    mkl = _library("libmklml_intel.so")
    if mkl is None:
        return None
    integer, number, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    mkl.cblas_sgemm.argtypes = [*[integer] * 6, number, pointer, integer, pointer, integer, number, pointer, integer]
    mkl.cblas_sgemm_batch.argtypes = [integer, *[pointer] * 13, integer, pointer]
    mkl.cblas_sgemm.restype = mkl.cblas_sgemm_batch.restype = None
    return mkl


@functools.cache
def _onednn() -> ctypes.CDLL | None:
    """The library oneDNN from the same wheels."""
    library = _library("libdnnl.so.3")
    if library is None or not hasattr(library, "dnnl_gemm_bf16bf16f32"):
        return None
    flag, length, number, pointer = ctypes.c_char, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
    library.dnnl_gemm_bf16bf16f32.argtypes = [
        flag, flag, length, length, length, number, pointer, length, pointer, length, number, pointer, length,
    ]  # fmt: skip
    return library


def _library(name: str) -> ctypes.CDLL | None:
    """A library of the installed Paddle; None where it has none of that name."""
    paddle = find_spec("paddle")
    assert paddle is not None
    assert paddle.origin is not None
    path = Path(paddle.origin).parent / "libs" / name
    return ctypes.CDLL(str(path)) if path.is_file() else None
