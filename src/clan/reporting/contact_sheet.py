"""Contact sheets: images beside their label overlays, with a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from clan.core.errors import DataError
from clan.core.fonts import draw_text, text_width, writable
from clan.data.dataset import Dataset
from clan.data.transforms import resize_image, resize_label
from clan.datasets.labels import IGNORE, LabelSpace
from clan.evaluation.overlays import BACKGROUND, FAINT, INK, legend, overlay

TILE = 320
"""Width of a panel in pixels."""

COLUMNS = 4
"""Panels per row: two images, each beside its overlay."""

GAP, LINE = 10, 22
TEXT, TITLE = 13, 18


def draw_contact_sheet(dataset: Dataset, indices: Sequence[int], title: str) -> Image.Image:
    """Draws images, each beside its label overlay, with a title and a legend.

    Args:
        dataset: the data set; without labels, images are drawn without overlays.
        indices: images to draw; unreadable ones become grey panels.
        title: heading.
    """
    space = dataset.classes.label_space
    panels = [panel for index in indices for panel in _panels(dataset, index, space)]
    height = max((panel.height for _, panel in panels), default=TILE // 2)
    rows = -(-len(panels) // COLUMNS)
    width = COLUMNS * (TILE + GAP) + GAP
    colors = legend(space, width=width) if dataset.has_any_label else None
    top = 44
    sheet = Image.new("RGB", (width, top + rows * (height + LINE + GAP) + (colors.height if colors else 0)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (GAP, 12), title, TITLE, INK)
    for number, (caption, panel) in enumerate(panels):
        left = GAP + (TILE + GAP) * (number % COLUMNS)
        upper = top + (height + LINE + GAP) * (number // COLUMNS)
        sheet.paste(panel, (left, upper))
        draw_text(draw, (left, upper + panel.height + 3), _shortened(caption), TEXT, FAINT)
    if colors:
        sheet.paste(colors, (0, sheet.height - colors.height))
    return sheet


def _panels(dataset: Dataset, index: int, space: LabelSpace) -> list[tuple[str, Image.Image]]:
    name = dataset.names[index]
    try:
        image = dataset.read_image(index)
        size = (TILE, max(1, round(TILE * image.height / image.width)))
        panels = [(name, resize_image(image, size))]
        if dataset.has_label(index):
            train_ids = resize_label(dataset.train_ids(dataset.read_codes(index)), size)
            missing = np.count_nonzero(train_ids == IGNORE) / train_ids.size
            mixed = overlay(np.asarray(panels[0][1]), train_ids, space)
            panels.append((f"{missing:.0%} ignored", Image.fromarray(mixed)))
    except DataError:
        blank = Image.new("RGB", (TILE, TILE // 2), (200, 200, 200))
        return [(f"{name}: cannot be read", blank)] * (2 if dataset.labelled else 1)
    return panels


def _shortened(text: str) -> str:
    """Cuts the beginning of a text that is wider than a panel, since file names differ at the end."""
    text = writable(text)
    if text_width(text, TEXT) <= TILE:
        return text
    while text_width(f"…{text}", TEXT) > TILE:
        text = text[1:]
    return f"…{text}"
