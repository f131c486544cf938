"""Label maps as PNG files: ids for machines, palette colours for eyes."""

from pathlib import Path

import numpy as np
from PIL import Image

from clan.atomic import write_atomically
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
    """Writes a PNG as a whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: image.save(file, format="PNG", compress_level=3), sync=False)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror}): choose a folder you may write to") from None
