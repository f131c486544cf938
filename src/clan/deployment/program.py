"""Networks as programs of Paddle: from images of any size to label maps of that size; and what ONNX is made of."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from clan.core.errors import WeightsError
from clan.core.files import quoted
from clan.core.runtime import plain_operators
from clan.deployment.onnx_graph import CONFIDENCE, DISCREPANCY, PRECISION
from clan.evaluation.model_card import ModelCard
from clan.evaluation.onnx_network import INPUT
from clan.losses.adversarial import discrepancy_map
from clan.losses.segmentation import class_probabilities
from clan.models.normalization import Normalization
from clan.models.options import Upsampling
from clan.models.segmenter import Segmenter, upsample

PLANES = "planes"


class Stacked(nn.Layer):
    """A segmenter whose heads' logits are one tensor."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, planes: Tensor) -> Tensor:
        """Float32 [N, 3, h, w] → [N, heads, C, a, b]."""
        return paddle.stack(list(self.segmenter(planes)), axis=1)


class ImageProgram(nn.Layer):
    """All from the image to the label map; see `clan.deployment.onnx_graph` for how images are resized.

    Args:
        segmenter: the network.
        card: what it is.
    """

    def __init__(self, segmenter: Segmenter, card: ModelCard) -> None:
        super().__init__()
        self.stacked = Stacked(segmenter)
        self.size = card.input.size[::-1] if card.input.resize else None
        how: Normalization = card.normalization
        self.order = list(how.order)
        for name, numbers in (("mean", how.mean), ("factor", [1.0 / one for one in how.std])):
            values = paddle.to_tensor([numbers[index] for index in how.order], "float32").reshape([1, 3, 1, 1])
            self.register_buffer(name, values, persistable=True)
        self.mode: Upsampling = card.network.upsampling
        self.align_corners = card.network.align_corners
        self.wants_confidence, self.wants_discrepancy = (name in card.outputs for name in (CONFIDENCE, DISCREPANCY))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Uint8 RGB [N, H, W, 3] → the card's outputs."""
        whole: Any = paddle.shape(image)[1:3].astype("int32")
        values = image.astype("float64").transpose([0, 3, 1, 2])
        if self.size is not None:
            values = paddle.matmul(values, pillow_weights(whole[1], self.size[1]), transpose_y=True)
            values = rounded(values)
            values = rounded(paddle.matmul(pillow_weights(whole[0], self.size[0]), values))
        planes = values.astype("float32").index_select(paddle.to_tensor(self.order), axis=1)
        planes = (planes - self.mean) * self.factor
        logits = self.stacked(planes)
        full = upsample(logits.sum(axis=1), whole, self.mode, align_corners=self.align_corners)
        outputs = [full.argmax(axis=1).astype("uint8"), logits]
        if self.wants_confidence or self.wants_discrepancy:
            outputs = outputs + self.maps(logits, paddle.shape(planes)[2:4].astype("int32"), whole)
        return outputs

    def maps(self, logits: Tensor, seen: Any, whole: Any) -> list[Tensor]:
        """Confidence and discrepancy, as far as they are wanted, [N, H, W]."""
        heads = [upsample(one, seen, align_corners=self.align_corners) for one in logits.unbind(axis=1)]
        maps = []
        if self.wants_confidence:
            maps.append(class_probabilities(sum(heads[1:], start=heads[0])).max(axis=1, keepdim=True))
        if self.wants_discrepancy:
            maps.append(discrepancy_map(class_probabilities(heads[0]), class_probabilities(heads[1])))
        return [upsample(one, whole, align_corners=False).squeeze(1) for one in maps]


def pillow_weights(old: Tensor, new: int) -> Tensor:
    """Pillow's bicubic weights times `PRECISION`, whole numbers, float64 [new, old]."""
    scale = old.astype("float64") / paddle.full([], new, "float64")  # a number would be rounded to float32
    stretch = paddle.maximum(scale, paddle.ones_like(scale))
    centers = (paddle.arange(new, dtype="float64") + 0.5) * scale
    places = paddle.arange(0, old, 1, dtype="int64").astype("float64")
    x = ((places.unsqueeze(0) - centers.unsqueeze(1) + 0.5) * (1.0 / stretch)).abs()
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    raw = paddle.where(x < 1.0, near, paddle.where(x < 2.0, far, paddle.zeros_like(x)))
    exact = raw / raw.sum(axis=1, keepdim=True) * PRECISION
    return exact.sign() * (exact.abs() + 0.5).floor()


def rounded(weighted: Tensor) -> Tensor:
    """Sums of weights times values as Pillow rounds them, 0…255."""
    return ((weighted + PRECISION / 2) / PRECISION).floor().clip(0.0, 255.0)


def save_program(layer: nn.Layer, path: Path, inputs: Sequence[InputSpec]) -> None:
    """Writes PATH.json and PATH.pdiparams; kernels of this project have no place in them.

    Raises:
        WeightsError: the network computes something that Paddle cannot trace.
    """
    layer.eval()
    with plain_operators(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            paddle.jit.save(layer, str(path), input_spec=list(inputs))
        except Exception as error:  # whatever tracing meets
            text = str(error).strip().splitlines() or [type(error).__name__]
            raise WeightsError(
                f"Paddle cannot make a program of this network ({quoted(text[-1])}): its layers must be such as "
                "paddle.jit.to_static takes"
            ) from error


def planes_spec(size: tuple[int, int] | None) -> list[InputSpec]:
    """What `Stacked` takes: any batch, and planes of `size` (height, width), or of any."""
    return [InputSpec([None, 3, *(size or (None, None))], "float32", PLANES)]


def image_spec() -> list[InputSpec]:
    """What `ImageProgram` takes: any batch and size."""
    return [InputSpec([None, None, None, 3], "uint8", INPUT)]
