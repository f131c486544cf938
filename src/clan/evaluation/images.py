"""Label maps as PNG files: ids for machines, palette colours for eyes."""

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
"""How the names of the files of a label map end."""


def save_label_map(
    train_ids: np.ndarray, stem: Path, label_space: LabelSpace, *, table: np.ndarray | None = None
) -> None:
    """Writes `STEM.png`, the ids in grey, and `STEM_color.png`, the trainIds with the classes' colours as palette.

    Args:
        train_ids: uint8 [H, W].
        stem: path of both files up to what tells them apart.
        label_space: the colours.
        table: uint8 [256], the id to write for every trainId; without it, the trainId itself.

    Raises:
        DataError: a file cannot be written; nothing is left half-written.
    """
    palette = bytes(label_space.palette())
    grey, colored = png.encode_ids(train_ids, palette)
    if table is not None:
        grey, _ = png.encode_ids(table[train_ids], palette)
    for content, ending in zip((grey, colored), LABEL_MAP, strict=True):
        _save(content, stem.with_name(f"{stem.name}{ending}"))


def save_color(train_ids: np.ndarray, path: Path, label_space: LabelSpace) -> None:
    """Writes uint8 trainIds [H, W] as a palette PNG in the classes' colours.

    Raises:
        DataError: the file cannot be written; nothing is left half-written.
    """
    _save(png.encode_ids(train_ids, bytes(label_space.palette()))[1], path)


def save_heat(values: np.ndarray, path: Path) -> None:
    """Writes uint8 [H, W] as a palette PNG: the index is the number, the colour is for eyes.

    Raises:
        DataError: the file cannot be written; nothing is left half-written.
    """
    _save(png.encode_ids(values, heat_palette().tobytes())[1], path)


def save_jpeg(image: Image.Image, path: Path) -> None:
    """Writes a JPEG, nearly without loss, as a whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    _save_as(image, path, format="JPEG", quality=92)


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG as a whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    _save_as(image, path, format="PNG", compress_level=3)


def _save_as(image: Image.Image, path: Path, **options: Any) -> None:
    """Encoded in memory first: what cannot be encoded leaves no file."""
    content = BytesIO()
    image.save(content, **options)
    _save(content.getvalue(), path)


def _save(content: bytes, path: Path) -> None:
    write_file(path, content, "choose another folder or shorter names")
