"""Label maps as PNG files: ids for machines, palette colours for eyes."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from clan.errors import DataError
from clan.labels import LabelSpace


def save_ids(ids: np.ndarray, path: Path) -> None:
    """Writes uint8 ids [H, W] as a grey PNG.

    Raises:
        DataError: the file cannot be written; nothing is left half-written.
    """
    save_png(Image.fromarray(ids), path)


def save_color(train_ids: np.ndarray, path: Path, label_space: LabelSpace) -> None:
    """Writes uint8 trainIds [H, W] as a palette PNG in the classes' colours.

    Raises:
        DataError: the file cannot be written; nothing is left half-written.
    """
    image = Image.fromarray(train_ids)
    image.putpalette(label_space.palette())
    save_png(image, path)


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG aside and renames it, so that a reader never meets half of one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(aside, format="PNG", compress_level=3)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise DataError(f"cannot write {path} ({error}): choose a folder you may write to") from None
