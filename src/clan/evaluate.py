"""Evaluation: a segmenter's weights and a data set in, label maps as PNG files out (SPEC section 6)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clan.config import load
from clan.data.datasets import Dataset
from clan.domains import NAMED_CLASSES, Classes
from clan.engine.inference import EvaluationOptions, each_label_map
from clan.errors import ConfigError
from clan.evaluations import write_classes
from clan.labels import CITYSCAPES, CITYSCAPES_TO_TRAIN_ID
from clan.models.deeplab import Segmenter
from clan.models.heads import DILATIONS
from clan.models.weight_files import read_arrays
from clan.models.weights import has_projection_bias, load_weights
from clan.reporting.images import save_label_map


def options_for(
    weights: Path, *, num_classes: int | None, upsampling: str | None, dataset: Dataset | None = None, **others: Any
) -> EvaluationOptions:
    """Options for a snapshot: what is None is taken from the run's `config.yaml` beside it, if there is one.

    Without it, the number of classes is that of the data set's.

    Args:
        weights: the snapshot.
        num_classes: see `EvaluationOptions`.
        upsampling: likewise.
        dataset: what is evaluated; None: the run's target.
        others: further options.

    Raises:
        ConfigError: the number of classes is not that of the run, or of the data set.
    """
    path = weights.parent / "config.yaml"
    known, classes = EvaluationOptions(), dataset.classes if dataset else None
    if path.is_file():
        config = load(path)
        known = EvaluationOptions.of_run(config, dataset.description if dataset else config.target.dataset)
        classes = config.classes
    if classes:
        known = replace(known, num_classes=len(classes.classes))
        classes.require_count(num_classes or known.num_classes)
    given = {"num_classes": num_classes, "upsampling": upsampling, **others}
    return replace(known, **{name: value for name, value in given.items() if value is not None})


def load_segmenter(
    weights: Path, *, backbone: str, num_classes: int, output_stride: int = 8,
    head_dilations: tuple[int, ...] = DILATIONS,
) -> Segmenter:  # fmt: skip
    """A segmenter in eval mode with weights from a file, its projection convolutions as the file has them.

    Raises:
        WeightsError: the file cannot be read or does not fit completely.
    """
    segmenter = Segmenter(
        backbone,
        num_classes,
        output_stride=output_stride,
        head_dilations=head_dilations,
        projection_bias=has_projection_bias(read_arrays(weights)),
    )
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

    Of other classes than Cityscapes' 19, `classes.json` there says which they are.

    Args:
        segmenter: in eval mode.
        dataset: the images.
        save: the folder, created if need be.
        options: sizes and encoding.
        on_image: called with each image's name when the network has seen it.

    Raises:
        DataError: an image cannot be read or a label map cannot be written.
        ConfigError: Cityscapes ids are wanted of other classes.
    """
    table = _label_id_table(dataset.classes) if options.label_ids else None

    write_classes(save, dataset.classes)

    def write(train_ids: np.ndarray, index: int) -> None:
        save_label_map(train_ids, save / dataset.stems[index], dataset.classes.label_space, table=table)

    each_label_map(segmenter, dataset, write, options=options, on_image=on_image)


def _label_id_table(classes: Classes) -> np.ndarray:
    """256 entries, uint8: the Cityscapes id of every trainId, 0 (unlabelled) for those without.

    Raises:
        ConfigError: the classes are not those of Cityscapes, or some of them.
    """
    if classes not in NAMED_CLASSES.values():
        raise ConfigError(
            "--label-ids writes the ids of Cityscapes, but these weights have classes of their own: leave it out"
        )
    table = np.zeros(256, np.uint8)
    for label_id, train_id in CITYSCAPES_TO_TRAIN_ID.items():
        name = CITYSCAPES.names[train_id]
        if name in classes.owners:
            table[classes.owners[name]] = label_id
    return table
