"""A network that looks at each image several times."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clan.core.errors import ConfigError, DataError
from clan.data.image_files import image_size
from clan.evaluation.fusion import Fused, ViewFusion
from clan.evaluation.model import Model, Prediction, as_picture
from clan.evaluation.model_card import ModelCard
from clan.evaluation.views import Views


class FusedPrediction(Prediction):
    """What views of an image say together.

    Args:
        image: uint8 RGB [H, W, 3].
        fused: of all views, at the image's size.
        card: the colours.
    """

    def __init__(self, image: np.ndarray, fused: Fused, card: ModelCard) -> None:
        super().__init__(image, np.empty(0, np.float32), (image.shape[0], image.shape[1]), card)
        self._fused = fused

    @property
    def labels(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleVariableOverride] (cached where it is computed)
        """TrainIds, uint8 [H, W]."""
        return self._fused.labels

    @property
    def confidence(self) -> np.ndarray:
        """The largest mean probability of a class, 0…1, float32 [H, W]."""
        assert self._fused.confidence is not None
        return self._fused.confidence

    @property
    def discrepancy(self) -> np.ndarray | None:
        """The mean of 1 − cosine of the two heads' probabilities, 0…1, float32 [H, W]; None: there are not two."""
        return self._fused.discrepancy


class ViewedModel(Model):
    """A model that sees images in windows, at scales and mirrored.

    Args:
        model: the network.
        views: how it looks.

    Raises:
        ConfigError: it takes images of one size alone.
    """

    def __init__(self, model: Model, views: Views) -> None:
        super().__init__(model.network, model.card, input_size=model.input_size)
        if model.card.input.resize and not model.card.input.any_size:
            width, height = model.card.input.size
            raise ConfigError(
                f"this network was exported for images of {width}x{height} alone: leave --window and --tta out, or "
                "take the weights of the run"
            )
        network = model.card.network
        self.views = views
        self.on_view: Callable[[], object] = lambda: None
        self._fusion = ViewFusion(
            self.logits,
            views,
            upsampling=network.upsampling,
            align_corners=network.align_corners,
            maps=True,
        )

    def count(self, paths: Iterable[Path]) -> int:
        """How often the network looks at some images; those that cannot be read are left out."""
        total = 0
        for path in paths:
            try:
                size = image_size(path)
            except DataError:
                continue
            total += len(self.views.of(size, self._whole(size)))
        return total

    def prepare(self, image: Image.Image) -> np.ndarray:
        """The image itself: views are cut from it one after the other."""
        return np.asarray(image)

    def predict(self, image: Image.Image, prepared: np.ndarray) -> Prediction:
        """Looks at an RGB image."""
        fused = self._fusion(image, image.size, self._whole(image.size), self.on_view)
        return FusedPrediction(prepared, fused, self.card)

    def __call__(self, images: Any) -> Any:
        """See `Model`."""
        if isinstance(images, Sequence) or (isinstance(images, np.ndarray) and images.ndim == 4):
            return [self(image) for image in images]
        picture = as_picture(images)
        return self.predict(picture, self.prepare(picture))

    def _whole(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the whole image as the network sees it or windows are cut from it."""
        return size if self.views.window else self.seen_size(size)
