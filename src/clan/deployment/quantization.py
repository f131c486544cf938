"""Networks in 8 bits, by ONNX Runtime's static quantisation."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from clan.core.output import progress
from clan.data import transforms
from clan.data.image_files import read_rgb
from clan.evaluation.model_card import ModelCard
from clan.evaluation.prediction import find_images

MOST_IMAGES = 32


class Calibration(CalibrationDataReader):
    """Images of the target, evenly spread over a folder, as the network sees them.

    Args:
        images: their folder.
        card: size and normalisation.
        name: of the network's input.
    """

    def __init__(self, images: Path, card: ModelCard, name: str) -> None:
        paths = find_images(images)
        chosen = np.linspace(0, len(paths) - 1, min(MOST_IMAGES, len(paths))).round().astype(int)
        self._paths = iter([paths[index] for index in chosen])
        self._card, self._name = card, name

    def get_next(self) -> Any:
        """The next image, float32 [1, 3, h, w]; None: there is none left."""
        path = next(self._paths, None)
        if path is None:
            return None
        image = transforms.resize_image(read_rgb(path), self._card.input.size)
        return {self._name: transforms.normalize(image, self._card.normalization)[None]}


def quantized(body: onnx.ModelProto, card: ModelCard, images: Path) -> onnx.ModelProto:
    """The network with convolutions and matrix products in 8 bits, but those of `kept_exact`.

    Args:
        body: from normalised planes to logits.
        card: what it is.
        images: folder of images to choose the ranges of activations by.

    Raises:
        DataError: there are no images, or one cannot be read.
    """
    with TemporaryDirectory() as folder, progress("calibrating"):
        plain, folded, result = (Path(folder) / f"{name}.onnx" for name in ("plain", "folded", "result"))
        onnx.save(body, plain)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            plain, options, providers=["CPUExecutionProvider"]
        )  # folds norms into convolutions
        model = onnx.load(folded)
        with _errors_alone():  # it recommends what was done above
            quantize_static(
                str(folded),
                str(result),
                Calibration(images, card, body.graph.input[0].name),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept_exact(model, card.num_classes),
            )
        return onnx.load(result)


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Within the block, less than errors is not logged."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def kept_exact(model: onnx.ModelProto, num_classes: int) -> list[str]:
    """The convolutions that lose most in 8 bits and cost least in float32: the first, depthwise and the last ones.

    The channels that a depthwise convolution reads differ much in range, but 8 bits have one range for all of them.
    """
    shapes = {one.name: list(one.dims) for one in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    kept = convolutions[:1]
    kept += [node for node in convolutions if any(one.name == "group" and one.i > 1 for one in node.attribute)]
    kept += [node for node in convolutions if shapes.get(node.input[1], [0])[0] == num_classes]
    return [node.name for node in kept]
