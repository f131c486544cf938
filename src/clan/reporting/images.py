"""Label maps as PNG files: ids for machines, palette colours for eyes."""

from pathlib import Path

import numpy as np
from PIL import Image

from clan.labels import LabelSpace


def save_ids(ids: np.ndarray, path: Path) -> None:
    """Writes uint8 ids [H, W] as a grey PNG."""
    Image.fromarray(ids).save(path)


def save_color(train_ids: np.ndarray, path: Path, label_space: LabelSpace) -> None:
    """Writes uint8 trainIds [H, W] as a palette PNG in the classes' colours."""
    image = Image.fromarray(train_ids).convert("P")
    image.putpalette(label_space.palette())
    image.save(path)
