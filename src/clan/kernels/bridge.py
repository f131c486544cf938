"""Tensors as arrays and arrays as tensors, on the same memory."""

import functools
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
    """What this package needs of Paddle and this Paddle lacks, as a sentence; None: nothing."""
    version = paddle.version.full_version  # pyright: ignore[reportAttributeAccessIssue]
    if not hasattr(paddle.amp, "is_autocast_enabled"):
        return f"PaddlePaddle {version} does not say whether mixed precision is on (paddle.amp.is_autocast_enabled)"
    lacks = f"PaddlePaddle {version} does not share its memory with NumPy (DLPack)"
    try:
        tensor, array = paddle.zeros([2, 3]).cpu(), np.zeros((2, 3), np.float32)
        as_array(tensor)[...] = 1.0
        as_tensor(array.T).add_(paddle.ones([3, 2]).cpu())
    except Exception as error:  # what a version raises cannot be foreseen: ValueError for read-only memory in 3.2.2
        return f"{lacks}: {error}"
    return None if tensor.numpy().all() and array.all() else lacks


def as_array(tensor: Tensor) -> np.ndarray:
    """A CPU tensor's memory as a C-contiguous array; copied only if it is not contiguous."""
    # Tensor.numpy() copies, 9 MB in 6 ms (Paddle 3.3.1).
    return np.ascontiguousarray(np.from_dlpack(tensor.detach()))  # pyright: ignore[reportArgumentType]


def as_tensor(array: np.ndarray) -> Tensor:
    """A writable array's memory as a CPU tensor, which keeps the array alive.

    The array must not come from `as_array`: memory that goes from Paddle to NumPy and back is never freed
    (Paddle 3.3.1).
    """
    return paddle.from_dlpack(array)


def trained(tensors: Iterable[Tensor]) -> list[bool]:
    """Which tensors want a gradient."""
    return [not tensor.stop_gradient for tensor in tensors]


def as_gradients(arrays: Sequence[np.ndarray], wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """What a PyLayer's backward has to return: None where no gradient is wanted."""
    return tuple(as_tensor(array) if want else None for array, want in zip(arrays, wanted, strict=True))
