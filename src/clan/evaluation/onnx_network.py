"""An exported network in ONNX, computed by ONNX Runtime; no Paddle is needed."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from clan.core.errors import LESS_MEMORY, ConfigError, DeviceError, WeightsError
from clan.core.files import quoted
from clan.core.runtime import available_cores

INPUT, INPUT_SIZE, LOGITS = "image", "input_size", "logits"
"""Names in the graph: the image, what it is resized to (height, width), and every head's logits."""

RUNTIME = "ONNX Runtime is not installed: run `python -m pip install 'clan-paddle[onnx]'`"


class OnnxNetwork:
    """A session of ONNX Runtime; several threads may call it.

    Args:
        path: the `.onnx` file.
        device: "auto" and "gpu" take CUDA where this ONNX Runtime has it.

    Raises:
        ConfigError: ONNX Runtime is not installed, or has no CUDA for device "gpu".
        WeightsError: the file is damaged, has an operator that ONNX Runtime does not know, or is not from
            `clan export`.
    """

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError(RUNTIME) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 3
        found = onnxruntime.get_available_providers()
        if device == "gpu" and "CUDAExecutionProvider" not in found:
            raise ConfigError("this ONNX Runtime computes on the CPU: install onnxruntime-gpu, or give --device cpu")
        wanted = ["CUDAExecutionProvider"] * (device != "cpu") + ["CPUExecutionProvider"]
        if not path.is_file():
            raise WeightsError(f"{path} does not exist: keep the files of clan export together")
        try:
            self.session: Any = onnxruntime.InferenceSession(
                path, options, providers=[name for name in wanted if name in found]
            )
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise WeightsError(_sentence(path, str(error))) from None
        inputs = {one.name: one for one in self.session.get_inputs()}
        outputs = [one.name for one in self.session.get_outputs()]
        if list(inputs) != [INPUT] or LOGITS not in outputs:
            raise WeightsError(
                f"{path} has the inputs {quoted(', '.join(inputs))} and the outputs {quoted(', '.join(outputs))}, not "
                f"{INPUT} and {LOGITS}: it is not from clan export"
            )
        if len(inputs[INPUT].shape) != 4:
            raise WeightsError(
                f"{path} takes images of rank {len(inputs[INPUT].shape)}, not of 4: it is not from clan export"
            )
        self.path = path
        self.sized = INPUT_SIZE in [one.name for one in self.session.get_overridable_initializers()]
        self.device = "gpu" if "CUDAExecutionProvider" in self.session.get_providers() else "cpu"
        self._wanted = onnxruntime.RunOptions()
        self._wanted.only_execute_path_to_fetches = True  # not the label map at full size
        self._wanted.log_severity_level = 4  # what fails is told in a sentence

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Images as the network sees them, uint8 RGB [N, h, w, 3] → float32 [N, heads, C, a, b].

        Raises:
            DeviceError: there is not enough memory.
            WeightsError: ONNX Runtime fails otherwise.
        """
        feed = {INPUT: images}
        if self.sized:
            feed[INPUT_SIZE] = np.array(images.shape[1:3], np.int64)
        try:
            return self.session.run([LOGITS], feed, self._wanted)[0]
        except Exception as error:
            if re.search("allocate memory|out of memory|bad_alloc", str(error), re.IGNORECASE):
                raise DeviceError(f"the memory of {self.device} is used up: {LESS_MEMORY}") from error
            height, width = images.shape[1:3]
            raise WeightsError(
                f"{self.path} cannot be computed for an image of {width}x{height} ({_reason(str(error))}): give "
                "another --input-size, or export it again"
            ) from error


def _reason(error: str) -> str:
    """The end of a message, where it tells what went wrong."""
    text = " ".join(error.split())
    return quoted(text if len(text) <= 120 else "..." + text[-117:])


def _sentence(path: Path, error: str) -> str:
    reason = _reason(error)
    if re.search("not a registered function|No Op registered|Could not find an implementation", error):
        return f"{path} has an operator that this ONNX Runtime does not compute ({reason}): install a newer onnxruntime"
    return f"{path} cannot be loaded ({reason}): export or copy it again"
