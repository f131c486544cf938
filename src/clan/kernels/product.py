"""Matrix products into memory that is already there, by the libraries that Paddle itself uses.

Operands are float32, or bf16 (`halves`); what is computed of them is float32. Where one operand is bf16, the other is
rounded to it.
"""

import ctypes
import functools
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
    if a.dtype == b.dtype == BF16:
        _multiply_bf16(a, b, out, accumulate=False)
        return
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
    """`multiply` or, with three axes, `multiply_each`, by oneDNN's matrix product for any strides.

    It takes half of the time of `dnnl_gemm_bf16bf16f32` for many small products, which that one does not know together.
    Made anew for each call, in 45 µs: oneDNN keeps the code that it compiled for shapes and strides seen before.
    """
    library = _onednn()
    assert library is not None, "bf16 operands without a library for them"
    if not out.size:
        return
    engine, stream = _engine(), _stream()
    with _Made(library) as made:
        kinds = (_DNNL_BF16, _DNNL_BF16, _DNNL_F32)
        layouts = [made.layout(array, kind) for array, kind in zip((a, b, out), kinds, strict=True)]
        attributes = made.adding() if accumulate else None
        described = made.new(
            "primitive_desc", library.dnnl_matmul_primitive_desc_create,
            engine, layouts[0], layouts[1], None, layouts[2], attributes,
        )  # fmt: skip
        product = made.new("primitive", library.dnnl_primitive_create, described)
        memories = [
            made.new("memory", library.dnnl_memory_create, layout, engine, ctypes.c_void_p(array.ctypes.data))
            for layout, array in zip(layouts, (a, b, out), strict=True)
        ]
        arguments = (_Argument * 3)(*map(_Argument, _DNNL_ARGUMENTS, memories))
        _require(library.dnnl_primitive_execute(product, stream, 3, arguments))
        _require(library.dnnl_stream_wait(stream))


_DNNL_BF16, _DNNL_F32, _DNNL_CPU, _DNNL_IN_ORDER = 2, 3, 1, 1
_DNNL_ARGUMENTS = (1, 33, 17)
"""Numbers of oneDNN's header: of the left operand (source), the right one (weights) and the result (destination)."""


class _Argument(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("memory", ctypes.c_void_p))


def _require(status: int) -> None:
    """Raises RuntimeError unless a call of oneDNN succeeded."""
    if status:
        raise RuntimeError(f"oneDNN refused a product of bf16 matrices, status {status}")


class _Made:
    """Objects of oneDNN, which are destroyed at the end of the block, the last one first."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.objects: list[tuple[str, ctypes.c_void_p]] = []

    def __enter__(self) -> "_Made":
        return self

    def __exit__(self, *_: object) -> None:
        for kind, made in reversed(self.objects):
            getattr(self.library, f"dnnl_{kind}_destroy")(made)

    def new(self, kind: str, create: Any, *arguments: Any) -> ctypes.c_void_p:
        """Creates an object of a kind by one of oneDNN's functions."""
        made = ctypes.c_void_p()
        _require(create(ctypes.byref(made), *arguments))
        self.objects.append((kind, made))
        return made

    def layout(self, array: np.ndarray, kind: int) -> ctypes.c_void_p:
        """Describes where an array's numbers lie."""
        axes = ctypes.c_int64 * array.ndim
        strides = axes(*(stride // array.itemsize for stride in array.strides))
        create = self.library.dnnl_memory_desc_create_with_strides
        return self.new("memory_desc", create, array.ndim, axes(*array.shape), kind, strides)

    def adding(self) -> ctypes.c_void_p:
        """Attributes of a product that is added to what the result's memory holds."""
        steps = self.new("post_ops", self.library.dnnl_post_ops_create)
        _require(self.library.dnnl_post_ops_append_sum(steps, ctypes.c_float(1.0), 0, 0))
        attributes = self.new("primitive_attr", self.library.dnnl_primitive_attr_create)
        _require(self.library.dnnl_primitive_attr_set_post_ops(attributes, steps))
        return attributes


@functools.cache
def _engine() -> ctypes.c_void_p:
    engine, library = ctypes.c_void_p(), _onednn()
    assert library is not None
    _require(library.dnnl_engine_create(ctypes.byref(engine), _DNNL_CPU, ctypes.c_size_t(0)))
    return engine


_local = threading.local()


def _stream() -> ctypes.c_void_p:
    """The queue of work of the thread that calls, which is done in turn."""
    if not hasattr(_local, "stream"):
        stream, library = ctypes.c_void_p(), _onednn()
        assert library is not None
        _require(library.dnnl_stream_create(ctypes.byref(stream), _engine(), _DNNL_IN_ORDER))
        _local.stream = stream
    return _local.stream


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
    return library if library is not None and hasattr(library, "dnnl_matmul_primitive_desc_create") else None


def _library(name: str) -> ctypes.CDLL | None:
    """A library of the installed Paddle; None where it has none of that name."""
    paddle = find_spec("paddle")
    assert paddle is not None
    assert paddle.origin is not None
    path = Path(paddle.origin).parent / "libs" / name
    return ctypes.CDLL(str(path)) if path.is_file() else None
