"""Choosing where to compute."""

import paddle

from clan.core.errors import ConfigError
from clan.core.ranks import launched


def select_device(device: str = "auto", gpu: int = 0) -> str:
    """Makes Paddle compute on `device` ("auto", "cpu" or "gpu") and returns its name, such as "gpu:0".

    Under Paddle's launcher with several processes, the launcher says which GPU is whose, and `gpu` must stay 0.

    Raises:
        ConfigError: a GPU is asked for that this Paddle or this machine does not have.
    """
    visible = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if device == "gpu" and not visible:
        why = "no GPU is visible" if paddle.device.is_compiled_with_cuda() else "this PaddlePaddle is a CPU build"
        raise ConfigError(f"--device gpu, but {why}: use --device cpu, or see README.md on GPU set-up")
    if device != "cpu" and gpu >= max(visible, 1):
        raise ConfigError(f"--gpu {gpu}, but {visible} GPUs are visible: count from 0, or use --device cpu")
    if launched() and device != "cpu" and visible:
        if gpu:
            raise ConfigError(f"--gpu {gpu} under Paddle's launcher: choose GPUs by its --devices, and leave out --gpu")
        gpu = paddle.distributed.ParallelEnv().device_id
    name = f"gpu:{gpu}" if visible and device != "cpu" else "cpu"
    paddle.device.set_device(name)
    return name
