"""Evaluation: a segmenter's weights and a data set in, label maps as PNG files out (SPEC section 6)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clan.core.errors import ConfigError, WeightsError
from clan.core.runtime import import_paddle
from clan.data.dataset import Dataset
from clan.datasets import NAMED_CLASSES, Classes
from clan.datasets.labels import CITYSCAPES, CITYSCAPES_TO_TRAIN_ID
from clan.evaluation.images import LABEL_MAP, save_label_map
from clan.evaluation.inference import EvaluationOptions, each_label_map
from clan.evaluation.outputs import refuse_clashes
from clan.evaluation.scores_file import write_classes
from clan.models.normalization import SCHEMES, Scheme
from clan.models.options import BACKBONES, NetworkConfig
from clan.models.recognition import recognise
from clan.models.segmenter import Segmenter, build_segmenter
from clan.models.weights import has_projection_bias, load_weights, read_network
from clan.run.weights_config import RUN_FILE, config_of


def options_for(
    weights: Path,
    *,
    num_classes: int | None,
    upsampling: str | None,
    dataset: Dataset | None = None,
    input_normalization: Scheme | None = None,
    notify: Callable[[str], object] = lambda sentence: None,
    **others: Any,
) -> EvaluationOptions:
    """Options for weights: what is None is what their run's configuration says, or else what their arrays tell.

    Without it, the number of classes is that of the data set's.

    Args:
        weights: a file of weights; see `clan.run.weights_config.config_of`.
        num_classes: see `EvaluationOptions`.
        upsampling: likewise.
        dataset: what is evaluated; None: the run's target.
        input_normalization: how pixels become numbers.
        notify: takes a sentence about what was assumed for want of a configuration.
        others: further options.

    Raises:
        ClanError: the number of classes is not that of the run or the data set; or there is no configuration, and the
            arrays do not tell the network.
    """
    config = config_of(weights)
    classes = dataset.classes if dataset else config.classes if config else None
    if classes and num_classes is not None:
        classes.require_count(num_classes)
    given = {"num_classes": num_classes, "upsampling": upsampling, **others}
    if input_normalization:
        given["normalization"] = SCHEMES[input_normalization]
    given = {name: value for name, value in given.items() if value is not None}
    if config:
        known = EvaluationOptions.of_run(config, dataset.description if dataset else config.target.dataset)
        if classes:
            classes.require_count(known.num_classes)
        return known.changed(**given)
    options = EvaluationOptions().changed(**(_told_by_arrays(weights, given) | given))
    # Weights of other classes than the labels' would be scored against the wrong ones.
    if dataset and options.num_classes != dataset.classes.label_space.num_classes:
        raise WeightsError(
            f"{weights} was trained for {options.num_classes} classes, {dataset.name} has "
            f"{dataset.classes.label_space.num_classes}: {REMEDY}"
        )
    notify(_assumptions(weights, options, given, dataset))
    return options


REMEDY = f"put the {RUN_FILE} of its run beside it, or say --backbone and --num-classes"


def _told_by_arrays(weights: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    told = recognise(read_network(weights).arrays)
    if "backbone" not in given and told.backbone is None:
        raise WeightsError(
            f"{weights} has no {RUN_FILE} beside it, and its arrays are of none of the networks that are known: put "
            f"that file there, or name the network with --backbone {{{','.join(BACKBONES)}}}"
        )
    if "head_dilations" not in given and told.num_classes is not None and not told.usual_heads:
        raise WeightsError(
            f"{weights} has no {RUN_FILE} beside it, and heads of {told.branches} convolutions, whose dilations no "
            "array tells: put that file there, or say --head-dilations"
        )
    known = {"backbone": told.backbone, "num_classes": told.num_classes}
    return {name: value for name, value in known.items() if value is not None}


def _assumptions(weights: Path, options: EvaluationOptions, given: Mapping[str, Any], dataset: Dataset | None) -> str:
    network = options.network
    assumed = {
        "output_stride": f"--output-stride {network.output_stride}",
        "head_dilations": f"--head-dilations {' '.join(map(str, network.head_dilations))}",
        "normalization": "--input-normalization caffe-bgr",
    }
    names = f" ({', '.join(dataset.classes.classes)}, in this order)" if dataset else ""
    said = ", ".join(text for name, text in assumed.items() if name not in given)
    return (
        f"{weights} has no {RUN_FILE} beside it: it is taken for a {network.backbone} for {network.num_classes} "
        f"classes{names}" + (f"; assumed, since no array tells: {said}" if said else "")
    )


def load_segmenter(
    weights: Path, network: NetworkConfig, *, notify: Callable[[str], object] = lambda sentence: None
) -> Segmenter:
    """A segmenter in eval mode with weights from a file, its projection convolutions as the file has them.

    Args:
        weights: the file.
        network: what the weights are of.
        notify: takes sentences about where in the file the weights were found.

    Raises:
        WeightsError: the file cannot be read or does not fit completely.
    """
    import_paddle()  # again, for those who import this package without the command line
    biased = network.backbone.startswith("resnet") and has_projection_bias(read_network(weights).arrays)
    segmenter = build_segmenter(network.model_copy(update={"projection_bias": biased}))
    try:
        report = load_weights(segmenter, weights, strict=True)
    except WeightsError as error:
        if config_of(weights) is None and "another network" in str(error):
            raise WeightsError(f"{error} ({REMEDY})") from None
        raise
    for note in report.notes:
        notify(f"{weights}: {note}")
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
        ConfigError: Cityscapes ids are wanted of other classes; two images would have the same label map, or one would
            replace a file of the data set.
    """
    refuse_clashes_of(dataset, save)
    table = _label_id_table(dataset.classes) if options.label_ids else None
    write_classes(save, dataset.classes)

    def write(train_ids: np.ndarray, index: int) -> None:
        save_label_map(train_ids, save / dataset.stems[index], dataset.classes.label_space, table=table)

    each_label_map(segmenter, dataset, write, options=options, on_image=on_image)


def refuse_clashes_of(dataset: Dataset, save: Path) -> None:
    """Makes sure that every image has label maps of its own, and that they replace nothing of the data set.

    Raises:
        ConfigError: names the file, and both images or the input.
    """
    paths = [dataset.image_path(index) for index in range(len(dataset))]
    labels = [dataset.label_path(index) for index in range(len(dataset))] if dataset.labelled else []
    outputs = (
        (str(path), save / f"{stem}{ending}")
        for path, stem in zip(paths, dataset.stems, strict=True)
        for ending in LABEL_MAP
    )
    refuse_clashes(outputs, [*paths, *labels])


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
