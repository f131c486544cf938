"""Updates of parameters and averages on the CPU, each in one pass through memory; equal to Paddle's bit for bit.

Paddle takes a pass for every product and sum, with a new tensor for each: 27 through all weights for a step of SGD.
"""

from collections.abc import Sequence

import numpy as np
from numba import prange
from paddle import Tensor

from clan.core.compilation import compiled_evenly
from clan.kernels.bridge import as_array, takes_over


def replaced_mix(y: Tensor, x: Tensor, keep: float, share: float) -> None:
    """`clan.core.fused.mix` as this module computes it."""
    y.scale_(keep).add_(x * share)


def replaced_follow(p: Tensor, v: Tensor, g: Tensor, change: Sequence[float], kept: Sequence[float]) -> None:
    """`clan.core.fused.follow` as this module computes it."""
    moved = p * change[0] + v * change[1] + g * change[2]
    v.scale_(kept[0]).add_(p * kept[1]).add_(g * kept[2])
    p.add_(moved)


def fits_mix(y: Tensor, x: Tensor, keep: float, share: float) -> bool:
    """Whether both lie in memory in one piece."""
    return _alike(y, x)


def fits_follow(p: Tensor, v: Tensor, g: Tensor, change: Sequence[float], kept: Sequence[float]) -> bool:
    """Whether all three lie in memory in one piece."""
    return _alike(p, v, g)


def _alike(*tensors: Tensor) -> bool:
    return all(one.is_contiguous() and takes_over(one) and one.shape == tensors[0].shape for one in tensors)


def mix(y: Tensor, x: Tensor, keep: float, share: float) -> None:
    """Instead of `clan.core.fused.mix`."""
    _mix(_flat(y), _flat(x), np.float32(keep), np.float32(share))


def follow(p: Tensor, v: Tensor, g: Tensor, change: Sequence[float], kept: Sequence[float]) -> None:
    """Instead of `clan.core.fused.follow`."""
    _follow(_flat(p), _flat(v), _flat(g), np.array(change, np.float32), np.array(kept, np.float32))


def _flat(tensor: Tensor) -> np.ndarray:
    return as_array(tensor).reshape(-1)


@compiled_evenly
def _mix(y: np.ndarray, x: np.ndarray, keep: np.float32, share: np.float32) -> None:
    for i in prange(len(y)):
        y[i] = y[i] * keep + x[i] * share


@compiled_evenly
def _follow(p: np.ndarray, v: np.ndarray, g: np.ndarray, change: np.ndarray, kept: np.ndarray) -> None:
    p_change, v_change, g_change = change
    v_kept, p_kept, g_kept = kept
    for i in prange(len(p)):
        moved = p[i] * p_change + v[i] * v_change + g[i] * g_change
        v[i] = v[i] * v_kept + p[i] * p_kept + g[i] * g_kept
        p[i] = p[i] + moved
