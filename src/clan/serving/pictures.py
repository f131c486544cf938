"""Pictures that clients send: opened strictly and within limits; and what is sent back."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from PIL import Image

from clan.core import png
from clan.core.errors import ConfigError, DataError
from clan.data.image_files import image_size, read_rgb
from clan.datasets.colors import to_hex
from clan.evaluation.model import Prediction
from clan.evaluation.overlays import CONFIDENCE, heat_palette

Product = Literal["all", "labels", "colors", "overlay", "confidence"]
"""What a client wants of a picture."""

QUALITY = 92
"""Of overlays, which are JPEGs."""


class Refused(Exception):
    """A request that cannot be served.

    Args:
        status: of the HTTP answer.
        sentence: why, and what to do.
        retry_after: seconds after which another attempt may succeed; None: no use.
    """

    def __init__(self, status: int, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after = status, sentence, retry_after


@dataclass(frozen=True)
class RequestLimits:
    """What a client may ask for.

    Args:
        megabytes: of a file.
        megapixels: of a picture.
        waiting: pictures that are read, wait or are predicted at once.
        seconds: within which a request must have arrived.

    Raises:
        ConfigError: a value allows nothing, or more than can be held.
    """

    megabytes: float = 20
    megapixels: float = 16
    waiting: int = 16
    seconds: float = 30

    def __post_init__(self) -> None:
        for name, value, most in (
            ("megabytes", self.megabytes, 1024),
            ("megapixels", self.megapixels, png.MOST_PIXELS / 1e6),
            ("waiting", self.waiting, 1024),
            ("seconds", self.seconds, 3600),
        ):
            if not 0 < value <= most:
                raise ConfigError(f"--max-{name} {value:g} is no limit: give more than 0 and at most {most:g}")

    @property
    def most_bytes(self) -> int:
        """Of a file."""
        return int(self.megabytes * 1e6)


def open_picture(content: bytes, limits: RequestLimits) -> Image.Image:
    """Decodes a picture; its size is checked before its pixels are.

    Args:
        content: a file of a kind that `clan predict` reads.
        limits: the most that is decoded.

    Returns:
        Upright RGB.

    Raises:
        Refused: it is too large, damaged or no picture.
    """
    if not content:
        raise Refused(400, "the request has no content: send the bytes of a picture as its body")
    with TemporaryDirectory(prefix="clan-serve-") as folder:  # the strict readers take files
        path = Path(folder) / "picture"
        path.write_bytes(content)
        try:
            width, height = image_size(path)
            if width * height > limits.megapixels * 1e6:
                raise Refused(
                    413, f"the picture has {width}x{height} pixels, over the limit of {limits.megapixels:g} megapixels"
                )
            return read_rgb(path)
        except DataError as error:
            raise Refused(415, _sentence(str(error).replace(str(path), "the picture"))) from None


def _sentence(error: str) -> str:
    """What is wrong with a file, for one who has sent it and knows of no data set."""
    if "cannot identify" in error or "not a supported" in error:
        return "the file is no picture, or a damaged one: send PNG, JPEG, WebP, BMP or TIFF"
    return error.replace("copy it again from the data set", "send it again")


def product(prediction: Prediction, wanted: Product) -> tuple[bytes, str]:
    """One picture of a prediction: the bytes of its file, and their kind."""
    if wanted == "overlay":
        return _encoded(Image.fromarray(prediction.overlay()), format="JPEG", quality=QUALITY), "image/jpeg"
    if wanted == "confidence":
        return png.encode_ids(_confidence(prediction), heat_palette().tobytes())[1], "image/png"
    grey, colored = png.encode_ids(prediction.labels, bytes(prediction.card.label_space.palette()))
    return (colored if wanted == "colors" else grey), "image/png"


def everything(prediction: Prediction) -> dict[str, Any]:
    """What the page shows, as JSON has it; pictures are PNGs in base 64."""
    height, width = prediction.size
    return {
        "width": width,
        "height": height,
        "labels": b64encode(product(prediction, "labels")[0]).decode(),
        "confidence": b64encode(_grey(_confidence(prediction))).decode(),
        "classes": list(shares(prediction)),
    }


def shares(prediction: Prediction) -> Iterator[dict[str, Any]]:
    """Every class, and its share of the pixels, 0…1."""
    space = prediction.card.label_space
    counts = np.bincount(prediction.labels.ravel(), minlength=space.num_classes)
    for train_id, (name, color) in enumerate(zip(space.names, space.colors, strict=True)):
        share = round(float(counts[train_id]) / prediction.labels.size, 6)
        yield {"id": train_id, "name": name, "color": to_hex(color), "share": share}


def _confidence(prediction: Prediction) -> np.ndarray:
    """uint8 [H, W], 255 times the largest probability."""
    return CONFIDENCE.quantize(prediction.confidence, (prediction.size[1], prediction.size[0]))


def _grey(values: np.ndarray) -> bytes:
    return _encoded(Image.fromarray(values), format="PNG", compress_level=1)


def _encoded(image: Image.Image, **options: Any) -> bytes:
    content = BytesIO()
    image.save(content, **options)
    return content.getvalue()
