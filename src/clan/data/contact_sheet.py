"""Ten images with their labels laid over them, and what the colours mean: one look shows what is wrong."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clan.data.datasets import Dataset
from clan.data.transforms import resize_image, resize_label
from clan.errors import DataError
from clan.labels import IGNORE, LabelSpace

TILE = 320
"""Width of an image on the sheet."""

COLUMNS = 4
"""Two images a row, each beside its overlay."""

GAP, LINE, SWATCH = 10, 22, 14
BACKGROUND, INK, FAINT = (250, 250, 250), (30, 30, 30), (110, 110, 110)


def contact_sheet(dataset: Dataset, indices: Sequence[int], title: str) -> Image.Image:
    """A sheet of images, each beside its overlay, under a title and above a legend.

    Args:
        dataset: the images; without labels, they are shown alone.
        indices: which; those that cannot be read are shown as grey panels.
        title: what stands at the top.
    """
    space, font = dataset.classes.label_space, ImageFont.load_default(13)
    panels = [panel for index in indices for panel in _panels(dataset, index, space)]
    height = max((panel.height for _, panel in panels), default=TILE // 2)
    rows = -(-len(panels) // COLUMNS)
    width = COLUMNS * (TILE + GAP) + GAP
    legend = _legend(space, width) if dataset.has_any_label else None
    top = 44
    sheet = Image.new("RGB", (width, top + rows * (height + LINE + GAP) + (legend.height if legend else 0)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 12), title, fill=INK, font=ImageFont.load_default(18))
    for number, (caption, panel) in enumerate(panels):
        left = GAP + (TILE + GAP) * (number % COLUMNS)
        upper = top + (height + LINE + GAP) * (number // COLUMNS)
        sheet.paste(panel, (left, upper))
        draw.text((left, upper + panel.height + 3), _shortened(caption, font), fill=FAINT, font=font)
    if legend:
        sheet.paste(legend, (0, sheet.height - legend.height))
    return sheet


def overlay(image: Image.Image, train_ids: np.ndarray, space: LabelSpace) -> Image.Image:
    """An image with its classes' colours over it and dark lines between them; ignored pixels stay as they are.

    Args:
        image: RGB.
        train_ids: uint8 [H, W] of the same size.
        space: the colours.
    """
    pixels, known = np.asarray(image, np.float32), (train_ids < space.num_classes)[:, :, None]
    mixed = np.where(known, 0.4 * pixels + 0.6 * space.colorize(train_ids), pixels)
    border = np.zeros(train_ids.shape, bool)
    border[:, 1:] |= train_ids[:, 1:] != train_ids[:, :-1]
    border[1:] |= train_ids[1:] != train_ids[:-1]
    mixed[border] *= 0.45
    return Image.fromarray(mixed.astype(np.uint8))


def _panels(dataset: Dataset, index: int, space: LabelSpace) -> list[tuple[str, Image.Image]]:
    name = dataset.names[index]
    try:
        image = dataset.read_image(index)
        size = (TILE, max(1, round(TILE * image.height / image.width)))
        panels = [(name, resize_image(image, size))]
        if dataset.has_label(index):
            train_ids = resize_label(dataset.train_ids(dataset.read_codes(index)), size)
            missing = np.count_nonzero(train_ids == IGNORE) / train_ids.size
            panels.append((f"{missing:.0%} ignored", overlay(panels[0][1], train_ids, space)))
    except DataError:
        blank = Image.new("RGB", (TILE, TILE // 2), (200, 200, 200))
        return [(f"{name}: cannot be read", blank)] * (2 if dataset.labelled else 1)
    return panels


def _legend(space: LabelSpace, width: int) -> Image.Image:
    """A swatch and a name for every class, in as many lines as it takes."""
    font = ImageFont.load_default(14)
    places: list[tuple[int, int]] = []
    left, line = GAP, 0
    for name in space.names:
        needed = SWATCH + 6 + round(font.getlength(name)) + 18
        if left > GAP and left + needed > width:
            left, line = GAP, line + 1
        places.append((left, line))
        left += needed
    legend = Image.new("RGB", (width, (line + 1) * LINE + GAP), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for (left, line), name, color in zip(places, space.names, space.colors, strict=True):
        upper = line * LINE
        draw.rectangle((left, upper + 2, left + SWATCH, upper + 2 + SWATCH), fill=color, outline=FAINT)
        draw.text((left + SWATCH + 6, upper), name, fill=INK, font=font)
    return legend


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The end of a text that is wider than a panel: names differ there."""
    if font.getlength(text) <= TILE:
        return text
    while font.getlength(f"…{text}") > TILE:
        text = text[1:]
    return f"…{text}"
