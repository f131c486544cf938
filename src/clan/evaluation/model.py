"""A trained network to call from scripts: exported, which needs no Paddle if it is in ONNX, or weights of a run."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, overload

import cv2
import numpy as np
from PIL import Image

from clan.core.errors import ConfigError, DataError, WeightsError
from clan.core.runtime import import_paddle
from clan.core.schema import find, require_size
from clan.data import transforms
from clan.datasets.labels import LabelSpace
from clan.evaluation import overlays
from clan.evaluation.finite import require_finite
from clan.evaluation.model_card import CARD, ModelCard, read_card
from clan.evaluation.onnx_network import OnnxNetwork
from clan.evaluation.resampling import labels_of, sureness

Picture = np.ndarray | Image.Image


class Engine(Protocol):
    """What computes logits, whatever with."""

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Images as the network sees them, uint8 RGB [N, h, w, 3] → float32 [N, heads, C, a, b]."""
        ...


class Prediction:
    """What a network makes of one image; maps are computed when they are first asked for, in any thread.

    Args:
        image: uint8 RGB [H, W, 3].
        logits: float32 [heads, C, a, b], at the resolution of the heads or any other.
        seen: height and width (h, w) of what the network saw; confidence and discrepancy are computed at that size.
        card: says how logits are interpolated, and the colours.

    Raises:
        NotFinite: a logit is not finite.
    """

    def __init__(self, image: np.ndarray, logits: np.ndarray, seen: tuple[int, int], card: ModelCard) -> None:
        self.image, self.logits, self.seen, self.card = image, require_finite(logits), seen, card

    @property
    def size(self) -> tuple[int, int]:
        """Height and width (H, W) of the image."""
        return self.image.shape[0], self.image.shape[1]

    @cached_property
    def labels(self) -> np.ndarray:
        """TrainIds, uint8 [H, W]."""
        network = self.card.network
        total = self.logits.sum(axis=0)
        return labels_of(total, self.size, mode=network.upsampling, align_corners=network.align_corners)

    @property
    def confidence(self) -> np.ndarray:
        """The largest probability of a class, 0…1, float32 [H, W]."""
        return self._resized(self._maps[0])

    @property
    def discrepancy(self) -> np.ndarray | None:
        """1 − cosine of the two heads' probabilities, 0…1, float32 [H, W]; None: there are not two."""
        return None if self._maps[1] is None else self._resized(self._maps[1])

    @property
    def colors(self) -> np.ndarray:
        """The label map in the colours of the classes, uint8 RGB [H, W, 3]."""
        return self.card.label_space.colorize(self.labels)

    def overlay(self, alpha: float = 0.55) -> np.ndarray:
        """The colours over the image, uint8 RGB [H, W, 3].

        Args:
            alpha: opacity of the colours, 0…1.
        """
        return overlays.overlay(self.image, self.labels, self.card.label_space, opacity=alpha)

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray | None]:
        return sureness(self.logits, self.seen, align_corners=self.card.network.align_corners)

    def _resized(self, values: np.ndarray) -> np.ndarray:
        return np.clip(cv2.resize(values, self.size[::-1], interpolation=cv2.INTER_LINEAR), 0, 1)


class Model:
    """A network and how images are made its input.

    Args:
        network: computes logits.
        card: what the network is.
        input_size: width and height that every image is resized to; None: in each image's own proportions, with about
            as many pixels as `card.input.size`, or as the exported network has it if that has one size alone.

    Raises:
        ConfigError: the size is none, or the exported network has another one alone.
    """

    def __init__(self, network: Engine, card: ModelCard, *, input_size: tuple[int, int] | None = None) -> None:
        require_size(input_size, "--input-size")
        self.network, self.card = network, card
        fixed = card.input.resize and not card.input.any_size
        if fixed and input_size not in (None, card.input.size):
            width, height = card.input.size
            raise ConfigError(
                f"this network was exported for images of {width}x{height} alone: leave --input-size out, or take "
                "the weights of the run"
            )
        self.input_size = card.input.size if fixed else input_size

    @property
    def label_space(self) -> LabelSpace:
        """Names and colours of the classes."""
        return self.card.label_space

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that the network sees of an image of `size` (width, height)."""
        if self.input_size:
            return self.input_size
        return same_area(size, self.card.input.size) if self.card.input.resize else size

    def prepare(self, image: Image.Image) -> np.ndarray:
        """What the network sees of an RGB image, uint8 [h, w, 3]; any thread can make it."""
        return np.asarray(transforms.resize_image(image, self.seen_size(image.size)))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Images as the network sees them, uint8 RGB [N, h, w, 3] → float32 [N, heads, C, a, b].

        Raises:
            WeightsError: the network has other heads or classes than its card tells of.
        """
        logits = self.network.logits(images)
        told = (self.card.network.num_heads, self.card.num_classes)
        if logits.shape[1:3] != told:
            raise WeightsError(
                f"the network has {logits.shape[1]} heads of {logits.shape[2]} classes, but its {CARD} tells of "
                f"{told[0]} of {told[1]}: keep the files of one clan export together"
            )
        return logits

    def predict(self, image: Image.Image, prepared: np.ndarray) -> Prediction:
        """Runs the network on what `prepare` made of an RGB image."""
        logits = self.logits(prepared[None])[0]
        return Prediction(np.asarray(image), logits, (prepared.shape[0], prepared.shape[1]), self.card)

    @overload
    def __call__(self, images: Picture) -> Prediction: ...
    @overload
    def __call__(self, images: Sequence[Picture]) -> list[Prediction]: ...
    def __call__(self, images: Any) -> Any:
        """Segments an image, or several.

        Args:
            images: uint8 RGB [H, W, 3] or an image of Pillow's; or a list of them, or a batch [N, H, W, 3]. What the
                network sees at one size, it sees at once.

        Returns:
            A `Prediction`, or a list of them.

        Raises:
            DataError: an array has another shape or type.
            NotFinite: a prediction is not finite.
        """
        if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim != 4):
            return self([images])[0]
        pictures = [as_picture(image) for image in images]
        prepared = [self.prepare(picture) for picture in pictures]
        if len({one.shape for one in prepared}) > 1:
            return [self.predict(picture, one) for picture, one in zip(pictures, prepared, strict=True)]
        if not prepared:
            return []
        logits = self.logits(np.stack(prepared))
        seen = (prepared[0].shape[0], prepared[0].shape[1])
        return [
            Prediction(np.asarray(picture), one, seen, self.card) for picture, one in zip(pictures, logits, strict=True)
        ]


def as_picture(image: Picture) -> Image.Image:
    """An image of Pillow's in RGB.

    Raises:
        DataError: an array has another shape or type, or an image more than 8 bits a channel.
    """
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):  # Pillow would clip, not scale
            raise DataError(
                f"an image of mode {image.mode} has more than 8 bits a channel: scale its values to 0…255 first"
            )
        return image.convert("RGB")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise DataError(
            f"an image is uint8 RGB [H, W, 3], this array is {array.dtype} {list(array.shape)}: convert it, such as by "
            "np.asarray(PIL.Image.open(file).convert('RGB'))"
        )
    return Image.fromarray(array)


def same_area(size: tuple[int, int], like: tuple[int, int]) -> tuple[int, int]:
    """Width and height in the proportions of `size` with about as many pixels as `like`, in multiples of 8."""
    area = like[0] * like[1]
    scale = math.sqrt(area / (size[0] * size[1]))
    width, height = (max(16, 8 * round(side * scale / 8)) for side in size)
    longest = max(16, area // 16 // 8 * 8)  # of a strip so thin that its shorter side had to grow
    return min(width, longest), min(height, longest)


def is_exported(path: Path) -> bool:
    """Whether a path names what `clan export` writes, rather than the weights of a run."""
    return path.suffix.lower() == ".onnx" or (path / CARD).is_file()


def require_exported(path: Path) -> None:
    """Checks early that an exported network is there.

    Raises:
        WeightsError: it is not.
    """
    if not path.exists():
        raise WeightsError(f"{path} does not exist: name a folder or an .onnx file of clan export")
    if not is_exported(path):
        raise WeightsError(f"{path} is not from clan export, which writes folders with a {CARD}: or give --weights")


def load(
    path: Path | str,
    *,
    input_size: tuple[int, int] | None = None,
    device: str = "auto",
    notify: Callable[[str], object] = lambda sentence: None,
    **given: Any,
) -> Model:
    """Opens a network.

    Args:
        path: a folder or an `.onnx` file of `clan export`, with its `model.yaml` beside it, or a run's weights.
        input_size: see `Model`.
        device: "auto", "cpu" or "gpu".
        notify: takes sentences about what was assumed.
        given: for weights without their run's configuration, see `clan.evaluation.label_maps.options_for`, and
            `classes`, the file or name of the classes.

    Raises:
        ClanError: it cannot be read, or lacks what it needs.
    """
    path, given = Path(path), {name: value for name, value in given.items() if value is not None}
    if not is_exported(path):
        import_paddle()
        opened = find("clan.evaluation.paddle_network:open_weights")
        network, card = opened(path, input_size=input_size, device=device, notify=notify, **given)
        return Model(network, card, input_size=input_size)
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"{options} is for weights, and {path} tells itself what it is: leave the option out")
    folder = path if path.is_dir() else path.parent
    card = read_card(folder)
    if path.is_dir() and "onnx" not in card.files:
        import_paddle()
        program = find("clan.evaluation.paddle_network:PaddleProgram")(folder, card, device=device)
        card = card.model_copy(update={"input": card.input.model_copy(update={"any_size": False})})
        return Model(program, card, input_size=input_size)
    file = path if path.is_file() or not path.is_dir() else folder / card.files["onnx"]
    return Model(OnnxNetwork(file, device=device), card, input_size=input_size)
