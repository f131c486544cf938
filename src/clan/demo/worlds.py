"""Two small street worlds that need no download: one looks rendered, one looks photographed.

Both draw the same kinds of things by the same geometry, so every label is exact. What differs is what
differs between SYNTHIA and Cityscapes: streets, paints, light, textures and the camera's faults. A network
that has only seen the first world does poorly in the second, and adaptation has something to win.

The files have the formats and folders of the two real data sets, so all of CLAN's code reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from clan.demo.look import Look, photograph, shade
from clan.demo.scene import rasterize, rgb
from clan.demo.street import Layout, Palette, build_street, colors
from clan.labels import CITYSCAPES_TO_TRAIN_ID, SYNTHIA_TO_TRAIN_ID

OVERSAMPLING = 2


@dataclass(frozen=True)
class World:
    """A kind of street and how it looks."""

    layout: Layout
    palette: Palette
    look: Look


class Picture(NamedTuple):
    """An image, uint8 RGB [H, W, 3], with trainIds and instance numbers, uint8 [H, W]."""

    image: np.ndarray
    train_ids: np.ndarray
    instances: np.ndarray


RENDERED = World(
    Layout(
        focal=(0.8, 0.95),
        horizon=(0.42, 0.5),
        camera_height=(1.5, 2.1),
        road=(5.2, 7.0),
        sidewalk=(3.0, 4.5),
        storeys=(2, 6),
        yards=0.22,
        pitched=0.15,
        crossing=0.5,
        tree_spacing=(13, 22),
        parking=0.35,
        vehicles=(1, 4),
        cyclists=(1, 3),
        walkers=(3, 8),
        signs=(1, 2),
        sun=((0.1, 0.35), (-0.2, 0.1)),
    ),
    Palette(
        road=colors("#5d6068", "#676a72", "#77777a", "#6a6664"),
        paving=colors("#b9a68d", "#c4b49c", "#ad9a86"),
        marking=colors("#f4f4f4"),
        houses=colors("#d8764a", "#e0b15a", "#8fb2c9", "#c9574f", "#dcc9a2", "#7f9d78", "#b98fb0", "#9c8a78"),
        roofs=colors("#a8452f", "#7a4a3a", "#4f5a68"),
        trims=colors("#f3ead8", "#e8e8e8", "#d9c6a5"),
        windows=colors("#3d6f94", "#4d88b0", "#2f5878"),
        shops=colors("#c9302c", "#2a7f62", "#2d5aa8", "#e3a21a", "#7a3f8f"),
        walls=colors("#c7b58f", "#b7a48c", "#b98a6a"),
        fences=colors("#8a5a34", "#e6e6e0", "#3f7a4f"),
        metal=colors("#8f979f", "#5a6670"),
        leaves=colors("#4fa834", "#3e9130", "#6cb83e"),
        bark=colors(
            "#6b4a2e",
        ),
        vehicles=colors("#d42020", "#1f5fd0", "#f2f2f2", "#f0b400", "#2aa04a", "#8a8f96", "#e06a1a"),
        buses=colors("#f0a800", "#d23a2a", "#2a8fd0"),
        clothes=colors("#d83a3a", "#2f6fd6", "#f1c232", "#35a36a", "#f0f0f0", "#7d4fb0", "#333a44"),
        sky=colors("#4a93e6", "#5aa2ea", "#8abbe8", "#b9d2e8"),
    ),
    Look(
        ambient=(0.55, 0.75),
        sunlight=(0.4, 0.5),
        sun=(0.45, 0.75, -0.5),
        shadow=(0.4, 0.5),
        softness=0.6,
        sight=(260, 420),
        haze=rgb("#cfe4f7"),
        clouds=(0.2, 0.7),
        grain=(0.0, 0.04, 0.04, 0.05, 0.2, 0.0),
        joints=(0.0, 0.0, 0.14, 0.08, 0.0, 0.0),
        balance=((0.96, 1.04), (1, 1), (0.94, 1.04)),
        saturation=(0.85, 1.15),
        gamma=(0.85, 1.15),
        vignette=(0, 0),
        blur=(0, 0),
        motion=(0, 0),
        noise=(0, 0.006),
        jpeg=(100, 100),
    ),
)
"""The source: wide, tidy, saturated streets at noon."""

CAMERA = World(
    Layout(
        focal=(0.92, 1.1),
        horizon=(0.38, 0.48),
        camera_height=(1.15, 1.45),
        road=(4.2, 5.6),
        sidewalk=(2.0, 3.2),
        storeys=(3, 5),
        yards=0.32,
        pitched=0.6,
        crossing=0.35,
        tree_spacing=(7, 14),
        parking=0.38,
        vehicles=(1, 4),
        cyclists=(1, 3),
        walkers=(3, 8),
        signs=(1, 3),
        sun=((0.3, 0.9), (-0.6, 0.3)),
    ),
    Palette(
        road=colors("#6c6a68", "#75726e", "#5f5e5e"),
        paving=colors("#8a8580", "#938b83", "#7d7a78"),
        marking=colors("#b9b6ae", "#a5a29b"),
        houses=colors("#8f6a58", "#a89a86", "#c2b8a3", "#7d746c", "#9c8468", "#b5aaa0", "#86665a"),
        roofs=colors("#6a4a40", "#56504e", "#7a5546"),
        trims=colors("#b9b0a2", "#8c857c", "#cfc8bb"),
        windows=colors("#3a3e40", "#4c5152", "#2d2f31", "#6a7072"),
        shops=colors("#6a3432", "#3d5548", "#3f4a5e", "#8c7444", "#4a4048"),
        walls=colors("#8b8175", "#78706a", "#86604f"),
        fences=colors("#5a4d40", "#6e716c", "#39423c"),
        metal=colors("#5c5f5f", "#464a48", "#767a78"),
        leaves=colors("#547a30", "#47682c", "#6d8236", "#887c3a"),
        bark=colors("#453c34", "#544a40"),
        vehicles=colors("#2c2f34", "#8e9194", "#d4d5d2", "#34507c", "#9a2f2c", "#5c6064", "#3b5546"),
        buses=colors("#b9a03c", "#8f3a34", "#a9aba6"),
        clothes=colors("#2c3038", "#4a4440", "#6a3a38", "#3d4a5e", "#86807a", "#4d5642", "#b0a898"),
        sky=colors("#9dbbdc", "#8ab0de", "#b4c8dc"),
    ),
    Look(
        ambient=(0.75, 0.95),
        sunlight=(0.15, 0.6),
        sun=(-0.7, 0.4, -0.3),
        shadow=(0.2, 0.5),
        softness=2.5,
        sight=(110, 260),
        haze=rgb("#d0d6da"),
        clouds=(0.2, 0.8),
        grain=(0.0, 0.08, 0.08, 0.1, 0.32, 0.02),
        joints=(0.0, 0.0, 0.1, 0.22, 0.0, 0.0),
        balance=((0.99, 1.05), (0.99, 1.01), (0.91, 1.0)),
        saturation=(0.8, 1.05),
        gamma=(0.8, 1.1),
        vignette=(0.1, 0.35),
        blur=(0.3, 0.65),
        motion=(0, 1.8),
        noise=(0.004, 0.014),
        jpeg=(60, 90),
    ),
)
"""The target: narrow, leafy streets in the haze of an afternoon, through an ordinary camera."""


def write_worlds(
    root: Path,
    *,
    source_images: int,
    target_train_images: int,
    target_val_images: int,
    size: tuple[int, int] = (320, 160),
    seed: int,
) -> None:
    """Write both worlds in the formats of SYNTHIA-RAND-CITYSCAPES and Cityscapes.

    An image depends on nothing but the seed, its split and its number: a larger data set begins with the
    images of a smaller one. The target is labelled for validation only.

    Args:
        root: folder that gets `SYNTHIA/RAND_CITYSCAPES` and `Cityscapes`.
        source_images: images of the rendered world.
        target_train_images: images of the photographed world to adapt to.
        target_val_images: labelled images of the photographed world to score.
        size: width and height.
        seed: of all chance.
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
    """One picture of a world.

    Args:
        world: `RENDERED` or `CAMERA`.
        key: what the picture depends on; the same key gives the same picture.
        size: width and height.
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
    """Write an image and its label, whose 16-bit red channel is the class and green the instance."""
    label = np.zeros((*picture.train_ids.shape, 3), np.uint16)
    label[..., 2] = _inverse(SYNTHIA_TO_TRAIN_ID)[picture.train_ids]  # OpenCV writes blue first
    label[..., 1] = picture.instances
    _write(root / "RGB" / name, picture.image[..., ::-1])
    _write(root / "GT/LABELS" / name, label)


def _inverse(id_to_train_id: Mapping[int, int]) -> np.ndarray:
    """The data set's id of every trainId: uint8 [19]."""
    return np.array(sorted(id_to_train_id, key=id_to_train_id.__getitem__), np.uint8)


def _write(path: Path, image: np.ndarray) -> None:
    """Write a PNG, BGR or grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise OSError(f"OpenCV could not write {path}")
