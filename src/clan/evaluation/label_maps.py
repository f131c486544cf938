"""Evaluation: predicts the label maps of a data set with a segmenter's weights and writes them as PNG files."""

from collections import Counter
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
from clan.evaluation.scores_file import write_classes, write_views
from clan.models.normalization import SCHEMES, Scheme
from clan.models.options import BACKBONES, NetworkConfig, patches_of
from clan.models.recognition import recognise
from clan.models.segmenter import Segmenter, build_segmenter
from clan.models.weights import has_projection_bias, load_weights, read_network
from clan.run.folder import CONFIG
from clan.run.weights_config import config_of


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
    """The options to evaluate weights with.

    Options that are None are taken from the run's configuration, or else recognised from the arrays of the weights.

    Args:
        weights: a file of weights; see `clan.run.weights_config.config_of`.
        num_classes: number of classes C.
        upsampling: see `EvaluationOptions`.
        dataset: the data set to evaluate on; None: the run's target.
        input_normalization: name of the input normalisation.
        notify: called with a sentence about assumptions made without a configuration.
        others: further fields of `EvaluationOptions`.

    Raises:
        ClanError: the number of classes differs from that of the run or the data set; or there is no configuration,
            and the arrays do not identify the network.
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
    options = EvaluationOptions().changed(**(_recognised_options(weights, given) | given))
    # Weights for other classes would be scored against the wrong labels.
    if dataset and options.num_classes != dataset.classes.label_space.num_classes:
        raise WeightsError(
            f"{weights} was trained for {options.num_classes} classes, {dataset.name} has "
            f"{dataset.classes.label_space.num_classes}: {REMEDY}"
        )
    notify(_assumptions(weights, options, given, dataset))
    return options


REMEDY = f"put the {CONFIG} of its run beside it, or pass --backbone and --num-classes"


def _recognised_options(weights: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the arrays of weights determine."""
    network = recognise(read_network(weights).arrays)
    if "backbone" not in given and network.backbone is None:
        raise WeightsError(
            f"{weights} has no {CONFIG} beside it, and its arrays match no known network: put that file there, or "
            f"name the network with --backbone {{{','.join(BACKBONES)}}}"
        )
    if "head_dilations" not in given and network.num_classes is not None and not network.usual_heads:
        raise WeightsError(
            f"{weights} has no {CONFIG} beside it, and heads of {network.branches} convolutions with unknown "
            "dilations: put that file there, or pass --head-dilations"
        )
    names = ("backbone", "num_classes", "model", "head_channels")
    recognised = {name: getattr(network, name) for name in names}
    if network.num_classes is not None:
        recognised |= {"num_heads": network.num_heads, "align_corners": network.model == "deeplab"}
    if patches_of(given.get("backbone") or network.backbone or ""):
        recognised["normalization"] = SCHEMES["imagenet-rgb"]
    return {name: value for name, value in recognised.items() if value is not None}


def _assumptions(weights: Path, options: EvaluationOptions, given: Mapping[str, Any], dataset: Dataset | None) -> str:
    """A sentence about the options that neither a configuration nor the arrays determine."""
    network = options.network
    scheme = next(name for name, scheme in SCHEMES.items() if scheme == options.normalization)
    assumed = {
        "output_stride": f"--output-stride {network.stride}",
        "head_dilations": f"--head-dilations {' '.join(map(str, network.head_dilations))}",
        "normalization": f"--input-normalization {scheme}",
    }
    if network.model != "deeplab":
        del assumed["head_dilations"]
    if patches_of(network.backbone):
        del assumed["output_stride"]
    names = f" ({', '.join(dataset.classes.classes)}, in this order)" if dataset else ""
    flags = ", ".join(text for name, text in assumed.items() if name not in given)
    return (
        f"{weights} has no {CONFIG} beside it: recognised as {network.backbone} for {network.num_classes} "
        f"classes{names}" + (f"; assumed: {flags}" if flags else "")
    )


def load_segmenter(
    weights: Path, network: NetworkConfig, *, notify: Callable[[str], object] = lambda sentence: None
) -> Segmenter:
    """Builds a segmenter in eval mode and loads weights, with projection biases if the file has them.

    Args:
        weights: the file of weights.
        network: the network of the weights.
        notify: called with sentences about the location of the weights in the file.

    Raises:
        WeightsError: the file cannot be read, or its arrays do not match the network completely.
    """
    import_paddle()  # applies the settings for callers that do not use the command line
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
    on_view: Callable[[], object] = lambda: None,
) -> None:
    """Writes `NAME.png` (ids) and `NAME_color.png` (palette) for every image.

    For classes other than the 19 of Cityscapes, `classes.json` is written too, and `views.json` for other views than
    one of the whole image. Scores that the folder holds are removed: they would be those of other label maps.

    Args:
        segmenter: in eval mode.
        dataset: the images.
        save: the folder to write to; created if missing.
        options: sizes and encoding.
        on_image: called with each image's name after its prediction.
        on_view: called after each view of an image.

    Raises:
        DataError: an image cannot be read, or a label map cannot be written.
        ConfigError: label ids are requested for other classes than those of Cityscapes; two images have the same
            label map, or a label map would overwrite a file of the data set.
        NotFinite: a prediction is not finite.
    """
    refuse_clashes_of(dataset, save)
    table = _label_id_table(dataset.classes) if options.label_ids else None
    write_classes(save, dataset.classes)
    write_views(save, options.views)

    def write(train_ids: np.ndarray, index: int) -> None:
        save_label_map(train_ids, save / dataset.stems[index], dataset.classes.label_space, table=table)

    each_label_map(segmenter, dataset, write, options=options, on_image=on_image, on_view=on_view)


def refuse_clashes_of(dataset: Dataset, save: Path) -> None:
    """Refuses label maps that would overwrite each other or files of the data set.

    Raises:
        ConfigError: a file would be overwritten, or an image is listed twice.
    """
    paths = [dataset.image_path(index) for index in range(len(dataset))]
    for path, times in Counter(paths).items():  # none at all: a process without a share of the images
        if times > 1:
            raise ConfigError(f"{path} is listed {times} times, and has one label map: list it once in --data-list")
    labels = [dataset.label_path(index) for index in range(len(dataset))] if dataset.labelled else []
    outputs = (
        (str(path), save / f"{stem}{ending}")
        for path, stem in zip(paths, dataset.stems, strict=True)
        for ending in LABEL_MAP
    )
    refuse_clashes(outputs, [*paths, *labels])


def _label_id_table(classes: Classes) -> np.ndarray:
    """uint8 [256]: the Cityscapes labelId of every trainId; 0 (unlabelled) for other trainIds.

    Raises:
        ConfigError: the classes are not a built-in selection of Cityscapes' classes.
    """
    if classes not in NAMED_CLASSES.values():
        raise ConfigError(
            "--label-ids writes the labelIds of Cityscapes, but these weights have other classes: omit --label-ids"
        )
    table = np.zeros(256, np.uint8)
    for label_id, train_id in CITYSCAPES_TO_TRAIN_ID.items():
        name = CITYSCAPES.names[train_id]
        if name in classes.owners:
            table[classes.owners[name]] = label_id
    return table
