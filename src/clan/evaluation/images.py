"""Writing label maps, heat maps and pictures as image files."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clan.core import png
from clan.core.files import write_file
from clan.datasets.labels import LabelSpace
from clan.evaluation.overlays import heat_palette

LABEL_MAP = (".png", "_color.png")
"""Endings of the file names of a label map: ids, colours."""


def save_label_map(
    train_ids: np.ndarray, stem: Path, label_space: LabelSpace, *, table: np.ndarray | None = None
) -> None:
    """Writes `STEM.png`, ids as grey values, and `STEM_color.png`, trainIds with the class colours as palette.

    Args:
        train_ids: uint8 [H, W].
        stem: path of both files without their endings.
        label_space: the colours.
        table: uint8 [256], the id to write for every trainId; None: the trainId itself.

    Raises:
        DataError: a file cannot be written; no partial file remains.
    """
    palette = bytes(label_space.palette())
    grey, colored = png.encode_ids(train_ids, palette)
    if table is not None:
        grey, _ = png.encode_ids(table[train_ids], palette)
    for content, ending in zip((grey, colored), LABEL_MAP, strict=True):
        _save(content, stem.with_name(f"{stem.name}{ending}"))


def save_color(train_ids: np.ndarray, path: Path, label_space: LabelSpace) -> None:
    """Writes trainIds, uint8 [H, W], as a palette PNG in the class colours.

    Raises:
        DataError: the file cannot be written; no partial file remains.
    """
    _save(png.encode_ids(train_ids, bytes(label_space.palette()))[1], path)


def save_heat(values: np.ndarray, path: Path) -> None:
    """Writes uint8 [H, W] as a PNG with `heat_palette`; the palette index is the value.

    Raises:
        DataError: the file cannot be written; no partial file remains.
    """
    _save(png.encode_ids(values, heat_palette().tobytes())[1], path)


def save_jpeg(image: Image.Image, path: Path) -> None:
    """Writes a JPEG of quality 92.

    Raises:
        DataError: the file cannot be written; no partial file remains.
    """
    _save_as(image, path, format="JPEG", quality=92)


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG.

    Raises:
        DataError: the file cannot be written; no partial file remains.
    """
    _save_as(image, path, format="PNG", compress_level=3)


def _save_as(image: Image.Image, path: Path, **options: Any) -> None:
    content = BytesIO()
    image.save(content, **options)
    _save(content.getvalue(), path)


def _save(content: bytes, path: Path) -> None:
    write_file(path, content, "choose another folder or shorter names")
