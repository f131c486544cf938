"""Tensors as arrays and arrays as tensors, on the same memory."""

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import paddle
from paddle import Tensor


def takes_over(x: Tensor) -> bool:
    """Whether a tensor is one for the kernels: float32 on the CPU, outside of automatic mixed precision and tracing."""
    return (
        paddle.in_dynamic_mode()
        and x.place.is_cpu_place()
        and x.dtype == paddle.float32
        and x.size > 0
        and not paddle.amp.is_autocast_enabled()
    )


@functools.cache
def missing() -> str | None:
    """What this package needs of Paddle and this Paddle lacks, and the remedy; None: nothing."""
    version = paddle.version.full_version  # pyright: ignore[reportAttributeAccessIssue]
    if not hasattr(paddle.amp, "is_autocast_enabled"):
        return f"PaddlePaddle {version} does not say whether mixed precision is on: upgrade it"
    lacks = f"PaddlePaddle {version} does not share its memory with NumPy"
    tensor = paddle.zeros([2, 3]).cpu()
    try:
        as_array(tensor)[...] = 1.0
        shared = bool((tensor == as_tensor(np.ones((2, 3), np.float32))).all())
    except Exception as error:  # what a version raises cannot be foreseen: 3.2.2 gives read-only memory, a ValueError
        return f"{lacks} ({type(error).__name__}: {str(error).partition(chr(10))[0]}): upgrade it"
    return None if shared else f"{lacks}: upgrade it"


def as_array(tensor: Tensor) -> np.ndarray:
    """A CPU tensor's memory as a C-contiguous array; copied only if it is not contiguous."""
    # Tensor.numpy() copies, 9 MB in 6 ms (Paddle 3.3.1).
    return np.ascontiguousarray(np.from_dlpack(tensor.detach()))  # pyright: ignore[reportArgumentType]


def as_tensor(array: np.ndarray) -> Tensor:
    """A writable array's memory as a CPU tensor, which keeps the array alive; copied only if it is not aligned.

    The array must not come from `as_array`: memory that goes from Paddle to NumPy and back is never freed
    (Paddle 3.3.1).
    """
    if array.ctypes.data % ALIGNMENT:
        array, unaligned = aligned(array.shape), array
        array[...] = unaligned
    return paddle.from_dlpack(array)


ALIGNMENT = 64
"""Bytes that the address of a tensor's memory is a multiple of, as that of Paddle's own."""


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array for `as_tensor`.

    Paddle's sums, such as those of a batch norm, begin at the first address that vector instructions like, so at
    NumPy's addresses, which are any, they are rounded differently from one process to the next.
    """
    size = 4 * math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def trained(tensors: Iterable[Tensor]) -> list[bool]:
    """Which tensors want a gradient."""
    return [not tensor.stop_gradient for tensor in tensors]


def as_gradients(arrays: Sequence[np.ndarray], wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """What a PyLayer's backward has to return: None where no gradient is wanted."""
    return tuple(as_tensor(array) if want else None for array, want in zip(arrays, wanted, strict=True))
