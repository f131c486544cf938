"""Pictures for the report: the images that a run predicts worst and best, with truth, prediction and discrepancy."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from clan.core.errors import ClanError, DataError
from clan.core.output import progress
from clan.data.image_files import read_id_label
from clan.data.transforms import resize_image, resize_label
from clan.datasets.labels import LabelSpace
from clan.evaluation.label_maps import options_for
from clan.evaluation.overlays import DISCREPANCY, heat_palette
from clan.evaluation.prediction import Predictor
from clan.evaluation.scores_file import Evaluation, open_dataset
from clan.evaluation.tables import percent
from clan.reporting.html import Example, Layer, drawing_uri, photograph_uri

WIDTH = 640
"""Of pictures on the page: sharp on a phone, and a few of them stay below a megabyte."""


def examples(evaluated: Sequence[tuple[str, Evaluation]], count: int) -> list[Example]:
    """The images that the first run predicts worst and best, half of each, the worst first.

    Args:
        evaluated: names of runs and their evaluations.
        count: how many images.

    Raises:
        DataError: an image or a label map is gone.
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
    """Stems of the worst and the best images, the worst first; fewer than `count` if there are fewer."""
    ranked = sorted((miou, stem) for stem, miou in evaluation.images.items() if not math.isnan(miou))
    stems = [stem for _, stem in ranked]
    if len(stems) <= count:
        return stems
    worst = (count + 1) // 2
    return stems[:worst] + stems[len(stems) - (count - worst) :]


def network_of(evaluation: Evaluation) -> Predictor | None:
    """The network that was evaluated, if its weights are still there."""
    if evaluation.weights is None or not evaluation.weights.is_file():
        return None
    try:
        options = options_for(evaluation.weights, num_classes=None, upsampling=None)
        return Predictor(evaluation.weights, options, keep_proportions=False)
    except ClanError:  # of another shape than Cityscapes' usual, without a config.yaml beside them
        return None


def run_layers(
    number: int, name: str, evaluation: Evaluation, network: Predictor | None, image: Image.Image, stem: str,
    size: tuple[int, int],
) -> list[Layer]:  # fmt: skip
    """What one run makes of one image: its label map and, if its network is there, the discrepancy of its heads."""
    # The coloured label map holds trainIds whatever ids the grey one holds.
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
    """A label map in its colours."""
    return Layer(key, name, drawing_uri(resize_label(train_ids, size), bytes(space.palette())), name)
