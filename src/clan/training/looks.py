"""Looks at what a self-training run learns from: how right its pseudo-labels are, and pictures of a pass.

Nothing that is trained, drawn or saved in a state depends on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import paddle
from PIL import Image, ImageDraw

from clan.core.errors import DataError
from clan.core.fonts import draw_text
from clan.core.precision import autocast
from clan.data.loader import Batch, DomainSampler
from clan.data.sampling import Sampling
from clan.data.transforms import denormalize, resize_image, resize_label
from clan.evaluation.confusion import confusion_matrix
from clan.evaluation.images import save_png
from clan.evaluation.overlays import BACKGROUND, INK
from clan.methods.base import Domain, Method
from clan.run.config import Config
from clan.run.folder import SHEET
from clan.run.observer import PseudoLabels

LOOKED_AT = 16
"""Number of target images, the last that were trained on, whose pseudo-labels are compared with their labels."""

TILE, GAP, LINE, TEXT = 224, 6, 20, 13
"""Width of a sheet's pictures, distances, height of its titles and size of their letters, in pixels."""

TITLES = {
    "source": "source",
    "source_labels": "its labels",
    "target": "target",
    "pseudo_labels": "pseudo-labels",
    "truth": "its labels, not used",
    "mixed": "mixed",
    "mixed_labels": "labels of the mixture",
    "masked": "masked",
}
"""Titles of `Method.views` in the order of the columns, and of the target's labels."""


class _AsTrained:
    """The images of a strategy, and the crops that it takes of images without labels: the first drawn."""

    def __init__(self, sampling: Sampling) -> None:
        self.index = sampling.index

    def accepts(self, position: int, label: np.ndarray) -> bool:
        return True


class Looks:
    """Looks at a run from outside, on the rank that writes.

    Args:
        config: the run.
        method: computes pseudo-labels and has the views of the last pass.
        target: the run's target images.
    """

    def __init__(self, config: Config, method: Method, target: DomainSampler) -> None:
        self.config, self.method, self.target = config, method, target
        self.space = config.classes.label_space
        augmentation = target.augmentation.model_copy(update={"crop_class_share": 1.0})
        self.labelled = replace(target, labelled=True, augmentation=augmentation)
        self.labelled.sampling = _AsTrained(target.sampling)

    @property
    def batches(self) -> int:
        """Number of batches to look at."""
        return -(-LOOKED_AT // self.target.batch_size)

    @cached_property
    def _has_labels(self) -> bool:
        return not self.target.labelled and self.target.dataset.has_any_label

    def batch(self, number: int) -> Batch | None:
        """Returns a target batch that was trained on, with labels; None unless all of them can be read."""
        if number < 0 or not self._has_labels:
            return None
        size, dataset = self.target.batch_size, self.target.dataset
        chosen = [self.target.index(number * size + place) for place in range(size)]
        if not all(dataset.has_label(index) and dataset.names[index] not in self.target.bad for index in chosen):
            return None
        try:
            return self.labelled.batch(number)
        except DataError:  # of a label, which the run does without
            self.labelled.bad.clear()
            return None

    def compare(self, iteration: int, numbers: Sequence[int]) -> PseudoLabels | None:
        """Compares the labels that the teacher now makes with those of the ground truth.

        Args:
            iteration: iterations done.
            numbers: target batches, those of which all images have labels are compared.

        Returns:
            The shares; None if the method makes no labels, or the images have none.
        """
        count = self.space.num_classes
        total, images = np.zeros((count, count), np.int64), 0
        with undisturbed(self.method), paddle.no_grad(), autocast(self.config.precision):
            for batch in filter(None, map(self.batch, numbers)):
                made = self.method.pseudo_labels(Domain(paddle.to_tensor(batch.images), batch.size))
                if made is None or batch.labels is None:
                    return None
                total += confusion_matrix(batch.labels, made.numpy().astype(np.uint8), count)
                images += len(batch.names)
        return pseudo_label_scores(iteration, images, total, self.space.names) if images else None

    def sheet(self, iteration: int, number: int, prefix: str) -> Mapping[str, Path]:
        """Draws the views of the last pass into the run's folder.

        Args:
            iteration: iterations done.
            number: the pair of this pass.
            prefix: begins the file's name.

        Returns:
            The file by its title; empty if the method has no views, or no images are to be saved.

        Raises:
            DataError: the file cannot be written.
        """
        rows = min(self.config.save_images, self.target.batch_size)
        # As float32, since NumPy has no bfloat16 and would be given its bits.
        views = {name: tensor[:rows].astype("float32").numpy() for name, tensor in self.method.views.items() if rows}
        if not views:
            return {}
        truth = self.batch(number)
        if truth is not None and truth.labels is not None:
            views["truth"] = truth.labels[:rows]
        columns = [(TITLES[name], [self._tile(name, one) for one in views[name]]) for name in TITLES if name in views]
        path = self.config.snapshot_dir / "images" / f"{prefix}_{iteration}_{SHEET}.png"
        save_png(draw_sheet(columns), path)
        return {SHEET: path}

    def _tile(self, name: str, view: np.ndarray) -> Image.Image:
        """A picture of a view, labels [H, W] or a normalised image [3, H, W], as wide as a tile."""
        size = (TILE, max(1, round(TILE * view.shape[-2] / view.shape[-1])))
        if view.ndim == 2:
            return Image.fromarray(self.space.colorize(resize_label(view.astype(np.uint8), size)))
        domain = self.config.source if name == "source" else self.config.target
        how = self.config.network.normalization(domain.dataset)
        return resize_image(Image.fromarray(denormalize(view.astype(np.float32), how)), size)


def pseudo_label_scores(iteration: int, images: int, confusion: np.ndarray, names: Sequence[str]) -> PseudoLabels:
    """Returns the shares of right labels.

    Args:
        iteration: iterations done.
        images: number of images counted.
        confusion: int64 [C, C]; rows are the ground truth, columns the labels made.
        names: of the classes.
    """
    right = confusion.diagonal()
    with np.errstate(invalid="ignore"):
        precision, recall = right / confusion.sum(0), right / confusion.sum(1)
        share = right.sum() / confusion.sum()
    precision, recall = (dict(zip(names, map(float, of_class), strict=True)) for of_class in (precision, recall))
    return PseudoLabels(iteration, images, float(share), precision, recall)


def draw_sheet(columns: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """Draws pictures of one width in columns with titles."""
    heights = [max(row) for row in zip(*([tile.height for tile in tiles] for _, tiles in columns), strict=True)]
    size = (GAP + len(columns) * (TILE + GAP), LINE + GAP + sum(height + GAP for height in heights))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (title, tiles) in enumerate(columns):
        left, top = GAP + number * (TILE + GAP), GAP + LINE
        draw_text(draw, (left, GAP), title, TEXT, INK)
        for tile, height in zip(tiles, heights, strict=True):
            sheet.paste(tile, (left, top))
            top += height + GAP
    return sheet


@contextmanager
def undisturbed(method: Method) -> Iterator[None]:
    """Restores all running statistics after the block."""
    tensors = [tensor for network in method.networks.values() for tensor in network.running_statistics()]
    before = [tensor.clone() for tensor in tensors]
    try:
        yield
    finally:
        for tensor, value in zip(tensors, before, strict=True):
            tensor.set_value(value)
