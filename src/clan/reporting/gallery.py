"""The report's gallery: worst and best images with ground truth, prediction and discrepancy."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from clan.core.errors import ClanError, DataError
from clan.core.output import progress
from clan.data.image_files import read_id_label
from clan.data.transforms import resize_image, resize_label
from clan.datasets.labels import LabelSpace
from clan.evaluation.model import Model, load
from clan.evaluation.overlays import DISCREPANCY, heat_palette
from clan.evaluation.scores_file import Evaluation, open_dataset
from clan.evaluation.tables import percent
from clan.reporting.html import Example, Layer, drawing_uri, photograph_uri

WIDTH = 640
"""Width of pictures in pixels."""


def examples(evaluated: Sequence[tuple[str, Evaluation]], count: int) -> list[Example]:
    """Draws the images with the lowest and highest mIoU of the first run, half of each, lowest first.

    Args:
        evaluated: names of runs and their evaluations.
        count: number of images.

    Raises:
        DataError: an image or a label map is missing.
    """
    first = evaluated[0][1]
    chosen = extremes(first, count)
    dataset, index_of = open_dataset(first)
    absent = [stem for stem in chosen if stem not in index_of]
    if absent:
        raise DataError(f"{dataset.image_root} no longer holds {absent[0]}: put the data set back or give --images 0")
    networks = [network_of(evaluation) for _, evaluation in evaluated]
    made = []
    with progress("drawing the gallery", len(chosen)) as advance:
        for stem in chosen:
            image, truth = dataset.read_image(index_of[stem]), dataset.read_label(index_of[stem])
            size = (WIDTH, max(1, round(WIDTH * image.height / image.width)))
            layers = [
                Layer("image", "image", photograph_uri(np.asarray(resize_image(image, size))), f"image {stem}"),
                label_layer("truth", "truth", truth, size, first.label_space),
            ]
            for number, ((name, evaluation), network) in enumerate(zip(evaluated, networks, strict=True)):
                layers += run_layers(number, name, evaluation, network, image, stem, size)
            remark = " · ".join(f"{name} {percent(one.images.get(stem, math.nan))}" for name, one in evaluated)
            rank = "worst" if chosen.index(stem) < (len(chosen) + 1) // 2 else "best"
            made.append(Example(stem, f"among the {rank}, mIoU {remark}", layers, size))
            advance()
    return made


def extremes(evaluation: Evaluation, count: int) -> list[str]:
    """Returns stems of the images with the lowest and highest mIoU, lowest first, at most `count`."""
    ranked = sorted((miou, stem) for stem, miou in evaluation.images.items() if not math.isnan(miou))
    stems = [stem for _, stem in ranked]
    if len(stems) <= count:
        return stems
    worst = (count + 1) // 2
    return stems[:worst] + stems[len(stems) - (count - worst) :]


def network_of(evaluation: Evaluation) -> Model | None:
    """Opens the evaluated network; None if its weights are missing or cannot be loaded."""
    if evaluation.weights is None or not evaluation.weights.is_file():
        return None
    try:
        model = load(evaluation.weights)
        return Model(model.network, model.card, input_size=model.card.input.size)
    except ClanError:  # another network without a config.yaml
        return None


def run_layers(
    number: int, name: str, evaluation: Evaluation, network: Model | None, image: Image.Image, stem: str,
    size: tuple[int, int],
) -> list[Layer]:  # fmt: skip
    """Returns a run's label map of an image and, if its network is available, the discrepancy map."""
    # NAME_color.png holds trainIds even if NAME.png holds other ids.
    predicted = read_id_label(evaluation.folder / f"{stem}_color.png")
    layers = [label_layer(f"prediction{number}", f"prediction, {name}", predicted, size, evaluation.label_space)]
    if network is not None:
        discrepancy = network(image).discrepancy
        if discrepancy is None:
            return layers
        steps = DISCREPANCY.quantize(discrepancy, size)
        title = f"discrepancy, {name}"
        layers.append(Layer(f"discrepancy{number}", title, drawing_uri(steps & 0xFC, heat_palette().tobytes()), title))
    return layers


def label_layer(key: str, name: str, train_ids: np.ndarray, size: tuple[int, int], space: LabelSpace) -> Layer:
    """Returns a label map in class colours; `size` is (width, height)."""
    return Layer(key, name, drawing_uri(resize_label(train_ids, size), bytes(space.palette())), name)
