"""Computing in less than float32: what runs in it, and how small gradients survive it."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import numpy as np
import paddle
from paddle import Tensor
from paddle.base import core

from clan.core import fused
from clan.core.errors import ConfigError, TrainingError
from clan.core.runtime import Precision, has_bf16_kernels

CAPABILITIES: dict[Precision, tuple[int, int]] = {"tf32": (8, 0), "fp16": (7, 0)}
"""The compute capability from which on a GPU has TF32 (Ampere), and Paddle's autocast float16 (Volta): below, it turns
itself off, though `paddle.amp.is_float16_supported` holds from 5.3 on."""


def allow_tf32(allowed: bool) -> None:
    """Whether cuBLAS and cuDNN may compute products of float32 in TF32; Paddle's default is that they may."""
    if paddle.device.is_compiled_with_cuda() and hasattr(core, "set_cublas_switch"):
        core.set_cublas_switch(allowed)
        core.set_cudnn_switch(allowed)


def tf32_allowed() -> bool | None:
    """Whether products of float32 may be computed in TF32; None on the CPU, which has none."""
    if paddle.device.get_device() == "cpu" or not hasattr(core, "get_cublas_switch"):
        return None
    return bool(core.get_cublas_switch() or core.get_cudnn_switch())


def check_precision(precision: Precision) -> str | None:
    """What a user should know about computing at `precision` on the device chosen; None: nothing.

    TF32 is allowed for "tf32" from now on, and for everything else it is not.

    Raises:
        ConfigError: the GPU does not have it.
    """
    allow_tf32(precision == "tf32")
    if precision == "fp32":
        return None
    if paddle.device.get_device() == "cpu":
        return _on_the_cpu(precision)
    capability = paddle.device.cuda.get_device_capability()
    if not (paddle.amp.is_bfloat16_supported() if precision == "bf16" else capability >= CAPABILITIES[precision]):
        other = "fp16 or fp32" if precision == "bf16" and capability >= CAPABILITIES["fp16"] else "fp32"
        raise ConfigError(f"this GPU does not compute in {precision}: use --precision {other}")
    return None


def _on_the_cpu(precision: Precision) -> str | None:
    """What a user should know about a precision on the CPU."""
    if precision == "tf32":
        return "--precision tf32: only GPUs have TF32, so the CPU computes in float32"
    if precision == "bf16" and has_bf16_kernels():
        return (
            "--precision bf16: on the CPU the blocks of ResNet, the heads of DeepLab-v2, the 3×3 of DAFormer's head "
            "and the discriminator multiply in bf16; everything else computes in float32"
        )
    return f"--precision {precision}: Paddle's autocast acts on GPUs alone, so the CPU computes in float32"


def autocast(precision: Precision) -> AbstractContextManager[None]:
    """Within it convolutions and matrix products run at `precision`, and what is delicate in float32.

    Delicate are, by Paddle's lists: resizing, softmax, logarithms, squares, sums and means, so all of the losses.
    On the CPU, where Paddle's own autocast does nothing, bf16 is what `clan.kernels` multiplies in if it can.
    """
    if precision in ("fp32", "tf32"):
        return nullcontext()
    if paddle.device.get_device() == "cpu":
        return _bf16_kernels() if precision == "bf16" and has_bf16_kernels() else nullcontext()
    return paddle.amp.auto_cast(level="O1", dtype="float16" if precision == "fp16" else "bfloat16")


bf16_on_cpu: ContextVar[bool] = ContextVar("bf16_on_cpu", default=False)
"""Whether `clan.kernels` is to multiply in bf16; Paddle's autocast does nothing on the CPU."""


@contextmanager
def _bf16_kernels() -> Iterator[None]:
    token = bf16_on_cpu.set(True)
    try:
        yield
    finally:
        bf16_on_cpu.reset(token)


class LossScale:
    """Multiplies losses so that small gradients do not vanish in float16, and adapts the factor.

    A step whose gradients overflow is skipped and halves the factor; `GROWTH_INTERVAL` good ones in a row double
    it. Paddle's own scaler serves only Paddle's optimizers and turns itself off on the CPU, where this is tested.
    The factors are powers of two, so that scaling rounds nothing.
    """

    GROWTH_INTERVAL = 2000

    def __init__(self, factor: float = 2.0**16) -> None:
        self.factor: float = factor
        self.good_steps = 0
        self.skipped = 0

    def unscale(self, gradients: Iterable[Tensor]) -> bool:
        """Divides gradients by the factor in place and adapts it; False: they overflowed, skip this step.

        Raises:
            TrainingError: they overflow without any scaling too.
        """
        if not bool(fused.unscale(list(gradients), self.factor)):
            self.good_steps += 1
            if self.good_steps % self.GROWTH_INTERVAL == 0:
                self.factor *= 2.0
            return True
        if self.factor <= 1.0:
            raise TrainingError("gradients overflow float16 even unscaled: use --precision bf16 or fp32")
        self.factor /= 2.0
        self.good_steps = 0
        self.skipped += 1
        return False

    def state_dict(self) -> dict[str, Tensor]:
        """All that the next step depends on."""
        return {"counts": paddle.to_tensor([self.factor, self.good_steps, self.skipped], "float64")}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Takes what `state_dict` gave."""
        factor, good_steps, skipped = state["counts"]
        self.factor, self.good_steps, self.skipped = float(factor), int(good_steps), int(skipped)
