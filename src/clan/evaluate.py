"""Evaluation: a segmenter's weights and a data set in, label maps as PNG files out (SPEC section 6)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clan.config import load
from clan.data.datasets import Dataset
from clan.engine.inference import EvaluationOptions, each_label_map
from clan.labels import CITYSCAPES_TO_TRAIN_ID
from clan.models.deeplab import Segmenter, build_segmenter
from clan.models.options import NetworkConfig
from clan.models.weight_files import read_arrays
from clan.models.weights import has_projection_bias, load_weights
from clan.reporting.images import save_label_map


def options_for(
    weights: Path, *, num_classes: int | None, upsampling: str | None, dataset: Dataset | None = None, **others: Any
) -> EvaluationOptions:
    """Options for a snapshot: what is None is taken from the run's `config.yaml` beside it, if there is one.

    Args:
        weights: the snapshot.
        num_classes: see `EvaluationOptions`.
        upsampling: likewise.
        dataset: what is evaluated; None: the run's target.
        others: further options.
    """
    path = weights.parent / "config.yaml"
    known = EvaluationOptions()
    if path.is_file():
        config = load(path)
        known = EvaluationOptions.of_run(config, dataset.description if dataset else config.target.dataset)
    return known.changed(num_classes=num_classes, upsampling=upsampling, **others)


def load_segmenter(weights: Path, network: NetworkConfig) -> Segmenter:
    """A segmenter in eval mode with weights from a file, its projection convolutions as the file has them.

    Raises:
        WeightsError: the file cannot be read or does not fit completely.
    """
    biased = network.backbone.startswith("resnet") and has_projection_bias(read_arrays(weights))
    segmenter = build_segmenter(network.model_copy(update={"projection_bias": biased}))
    load_weights(segmenter, weights, strict=True)
    segmenter.eval()
    return segmenter


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    save: Path,
    *,
    options: EvaluationOptions,
    on_image: Callable[[str], None] = lambda name: None,
) -> None:
    """Writes `NAME.png` (ids) and `NAME_color.png` (palette) into `save` for every image.

    Args:
        segmenter: in eval mode.
        dataset: the images.
        save: the folder, created if need be.
        options: sizes and encoding.
        on_image: called with each image's name when the network has seen it.

    Raises:
        DataError: an image cannot be read or a label map cannot be written.
    """
    table = _label_id_table() if options.label_ids else None

    def write(train_ids: np.ndarray, index: int) -> None:
        save_label_map(train_ids, save / dataset.stems[index], dataset.classes.label_space, table=table)

    each_label_map(segmenter, dataset, write, options=options, on_image=on_image)


def _label_id_table() -> np.ndarray:
    """256 entries, uint8: the Cityscapes id of every trainId, 0 (unlabelled) for those without."""
    table = np.zeros(256, np.uint8)
    for label_id, train_id in CITYSCAPES_TO_TRAIN_ID.items():
        table[train_id] = label_id
    return table
