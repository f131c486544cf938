"""Two small drawn data sets that need no download: one looks rendered, one photographed.

Both draw the same kinds of objects with exact labels. Layout, colours, light, textures and camera imperfections differ,
as between SYNTHIA and Cityscapes, so that a network trained on the first scores poorly on the second.

Files have the formats and folders of SYNTHIA-RAND-CITYSCAPES and Cityscapes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from clan.core.yaml_file import read_yaml
from clan.datasets.labels import CITYSCAPES_TO_TRAIN_ID, SYNTHIA_TO_TRAIN_ID
from clan.streets.look import Look, photograph, shade
from clan.streets.scene import rasterize, rgb
from clan.streets.street import Layout, Palette, build_street

OVERSAMPLING = 2


@dataclass(frozen=True)
class World:
    """Layout, colours and appearance of one data set."""

    layout: Layout
    palette: Palette
    look: Look


class Picture(NamedTuple):
    """An image with its label."""

    image: np.ndarray  # uint8 RGB [H, W, 3]
    train_ids: np.ndarray  # uint8 [H, W]
    instances: np.ndarray  # uint8 [H, W], from 1; 0: none


def _world(name: str) -> World:
    """Reads NAME.yaml beside this module."""
    parts = read_yaml(Path(__file__).with_name(f"{name}.yaml")).values
    palette: Palette = {surface: tuple(map(rgb, hexes)) for surface, hexes in parts["palette"].items()}
    look = parts["look"] | {"haze": rgb(parts["look"]["haze"])}
    return World(Layout(**parts["layout"]), palette, Look(**look))


RENDERED, CAMERA = _world("rendered"), _world("camera")
"""The source and the target."""


def write_worlds(
    root: Path,
    *,
    source_images: int,
    target_train_images: int,
    target_val_images: int,
    size: tuple[int, int] = (320, 160),
    seed: int,
) -> None:
    """Writes both data sets in the formats of SYNTHIA-RAND-CITYSCAPES and Cityscapes.

    An image depends only on the seed, its split and its number: a larger data set begins with the images of a smaller
    one. Only the target's val split has labels.

    Args:
        root: `SYNTHIA/RAND_CITYSCAPES` and `Cityscapes` are written below it.
        source_images: number of rendered images.
        target_train_images: number of target training images.
        target_val_images: number of labelled target images.
        size: width and height, pixels.
        seed: random seed.

    Raises:
        OSError: a file cannot be written.
    """
    synthia, cityscapes = root / "SYNTHIA/RAND_CITYSCAPES", root / "Cityscapes"
    for index in range(source_images):
        _write_synthia(synthia, f"{index:07d}.png", draw(RENDERED, (seed, 0, index), size))
    for stream, split, city, count in (
        (1, "train", "lindenau", target_train_images),
        (2, "val", "brueckstadt", target_val_images),
    ):
        for index in range(count):
            name = f"{split}/{city}/{city}_{index:06d}_000000"
            picture = draw(CAMERA, (seed, stream, index), size)
            _write(cityscapes / f"leftImg8bit/{name}_leftImg8bit.png", picture.image[..., ::-1])
            if split == "val":
                label_ids = _inverse(CITYSCAPES_TO_TRAIN_ID)[picture.train_ids]
                _write(cityscapes / f"gtFine/{name}_gtFine_labelIds.png", label_ids)


def draw(world: World, key: tuple[int, ...], size: tuple[int, int] = (320, 160)) -> Picture:
    """Draws one image with its label.

    Args:
        world: `RENDERED` or `CAMERA`.
        key: random seed.
        size: width and height, pixels.
    """
    rng = np.random.default_rng(key)
    width, height = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
    scene = build_street(world.layout, world.palette, width, height, rng)
    surfaces = rasterize(scene.camera, scene.parts(), width, height)
    colors = cv2.resize(shade(world.look, scene, surfaces, rng), size, interpolation=cv2.INTER_AREA)
    number = surfaces.number[::OVERSAMPLING, ::OVERSAMPLING]
    image = photograph(world.look, colors, rng)
    return Picture(image, surfaces.train_id[number], surfaces.instance[number])


def _write_synthia(root: Path, name: str, picture: Picture) -> None:
    """Writes an image and its 16-bit label: class in red, instance in green."""
    label = np.zeros((*picture.train_ids.shape, 3), np.uint16)
    label[..., 2] = _inverse(SYNTHIA_TO_TRAIN_ID)[picture.train_ids]  # OpenCV writes blue first
    label[..., 1] = picture.instances
    _write(root / "RGB" / name, picture.image[..., ::-1])
    _write(root / "GT/LABELS" / name, label)


def _inverse(id_to_train_id: Mapping[int, int]) -> np.ndarray:
    """Returns the data set's id of every trainId, uint8 [19]."""
    return np.array(sorted(id_to_train_id, key=id_to_train_id.__getitem__), np.uint8)


def _write(path: Path, image: np.ndarray) -> None:
    """Writes a PNG from BGR or grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise OSError(f"OpenCV could not write {path}")
