"""Pictures of predictions: heat maps, overlays of label maps on images, and legends."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw

from clan.core.fonts import draw_text, text_width
from clan.datasets.labels import LabelSpace

BACKGROUND, INK, FAINT = (250, 250, 250), (30, 30, 30), (120, 120, 120)
GAP, LINE, SWATCH, BAR = 16, 26, 16, 256
TEXT, TITLE = 15, 17


@cache
def heat_palette() -> np.ndarray:
    """The viridis palette, uint8 RGB [256, 3]; its brightness increases with the value."""
    ramp = np.arange(256, dtype=np.uint8)[None]
    return cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)[0]


@dataclass(frozen=True)
class Scale:
    """Scale of a heat map with values 0…1.

    Args:
        title: name of the quantity.
        low: label of 0.
        high: label of 1.
        rooted: show the square root, for values that are mostly small.
    """

    title: str
    low: str
    high: str
    rooted: bool = False

    def quantize(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Resizes a map, float32 [h, w], to `size` (width, height) and scales to 0…255: uint8 [H, W]."""
        resized = np.clip(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), 0, 1)
        return np.rint(255 * (np.sqrt(resized) if self.rooted else resized)).astype(np.uint8)


CONFIDENCE = Scale("Confidence", "0 a guess", "1 sure")
DISCREPANCY = Scale("Discrepancy of the heads", "0 they agree", "1 they differ", rooted=True)


def overlay(image: np.ndarray, train_ids: np.ndarray, label_space: LabelSpace, *, opacity: float = 0.55) -> np.ndarray:
    """Blends an image with the class colours and draws light class borders.

    Args:
        image: uint8 RGB [H, W, 3].
        train_ids: uint8 [H, W]; pixels of no class keep the image's colour.
        label_space: the colours.
        opacity: opacity of the class colours, 0…1.

    Returns:
        uint8 RGB [H, W, 3].
    """
    mixed = cv2.addWeighted(label_space.colorize(train_ids), opacity, image, 1 - opacity, 0)
    border = np.zeros(train_ids.shape, bool)
    border[:, 1:] |= train_ids[:, 1:] != train_ids[:, :-1]
    border[1:] |= train_ids[1:] != train_ids[:-1]
    mixed[border] = 255 - (255 - mixed[border]) // 2
    unknown = train_ids >= label_space.num_classes
    mixed[unknown] = image[unknown]
    return mixed


def legend(label_space: LabelSpace, scales: Sequence[Scale] = (), *, width: int | None = None) -> Image.Image:
    """Draws a legend: a swatch for every class, a colour bar for every scale.

    Args:
        label_space: the classes.
        scales: the scales of heat maps.
        width: width of the picture in pixels; None: as needed for at least two columns of classes.
    """
    column = GAP + SWATCH + 8 + round(max(text_width(name, TEXT) for name in label_space.names))
    columns = max(1, (width - GAP) // column) if width else max(2, -(-label_space.num_classes // 10))
    rows = -(-label_space.num_classes // columns)
    bars = len(scales) * (3 * LINE + GAP)
    width = width or max(columns * column, BAR) + 2 * GAP
    sheet = Image.new("RGB", (width, 2 * GAP + LINE + rows * LINE + bars), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (GAP, GAP), "Classes", TITLE, INK)
    for train_id, (name, color) in enumerate(zip(label_space.names, label_space.colors, strict=True)):
        left, top = GAP + train_id // rows * column, GAP + LINE + train_id % rows * LINE
        draw.rectangle((left, top + 2, left + SWATCH, top + 2 + SWATCH), fill=color, outline=FAINT)
        draw_text(draw, (left + SWATCH + 8, top), name, TEXT, INK)
    for number, scale in enumerate(scales):
        _draw_scale(sheet, GAP + LINE + rows * LINE + GAP + number * (3 * LINE + GAP), scale)
    return sheet


def _draw_scale(sheet: Image.Image, top: int, scale: Scale) -> None:
    draw = ImageDraw.Draw(sheet)
    right = sheet.width - GAP
    draw_text(draw, (GAP, top), scale.title, TITLE, INK)
    bar = Image.fromarray(np.tile(heat_palette()[None], (LINE - 6, 1, 1)))
    sheet.paste(bar.resize((right - GAP, LINE - 6)), (GAP, top + LINE))
    middle = "0.25" if scale.rooted else "0.5"
    for share, text in ((0.0, scale.low), (0.5, middle), (1.0, scale.high)):
        left = GAP + round(share * (right - GAP - text_width(text, TEXT)))
        draw_text(draw, (left, top + 2 * LINE), text, TEXT, INK)
