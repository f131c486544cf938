"""Evaluation: a segmenter's weights and a data set in, label maps as PNG files out (SPEC section 6)."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clan.config import load
from clan.data import transforms
from clan.data.datasets import Dataset
from clan.engine.inference import evaluating, predict
from clan.labels import CITYSCAPES_TO_TRAIN_ID, LabelSpace
from clan.models.deeplab import Segmenter, Upsampling
from clan.models.heads import DILATIONS
from clan.models.weight_files import read_arrays
from clan.models.weights import has_projection_bias, load_weights
from clan.normalization import CAFFE, Normalization
from clan.reporting.images import save_color, save_ids
from clan.runtime import available_cores


@dataclass(frozen=True)
class EvaluationOptions:
    """How images become label maps.

    Args:
        backbone: the trunk; a key of `clan.models.deeplab.BACKBONES`.
        num_classes: C.
        output_stride: see `clan.models.deeplab.Segmenter`.
        head_dilations: likewise.
        input_size: width and height that the network sees.
        output_size: width and height of the label maps; None: those of the ground truth where there is
            one, else those of the image.
        upsampling: "bilinear" or "bicubic", of the logits.
        label_ids: write Cityscapes labelIds, as its benchmark server wants, instead of trainIds.
        excluded: a trainId that is never predicted.
        normalization: how pixels become numbers.
    """

    backbone: str = "resnet101"
    num_classes: int = 19
    output_stride: int = 8
    head_dilations: tuple[int, ...] = DILATIONS
    input_size: tuple[int, int] = (1024, 512)
    output_size: tuple[int, int] | None = None
    upsampling: Upsampling = "bilinear"
    label_ids: bool = False
    excluded: int | None = None
    normalization: Normalization = CAFFE


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
    known: dict[str, Any] = {}
    if path.is_file():
        config = load(path)
        network = config.network
        known = {
            "backbone": network.backbone,
            "num_classes": network.num_classes,
            "output_stride": network.output_stride,
            "head_dilations": network.head_dilations,
            "upsampling": network.evaluation_upsampling,
            "input_size": config.target.size,
            "normalization": network.normalization(dataset.description if dataset else config.target.dataset),
        }
    given = {"num_classes": num_classes, "upsampling": upsampling, **others}
    return EvaluationOptions(**known | {name: value for name, value in given.items() if value is not None})


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

    Decoding, the network and PNG writing overlap: threads read ahead and write behind, a few images each.

    Args:
        segmenter: in eval mode.
        dataset: the images.
        save: the folder, created if need be.
        options: sizes and encoding.
        on_image: called with each image's name when it is done.

    Raises:
        DataError: an image cannot be read or a label map cannot be written.
    """
    writers: list[Future[None]] = []
    with ThreadPoolExecutor(available_cores()) as pool, evaluating(segmenter):
        for index, planes in _read_ahead(pool, dataset, options):
            width, height = options.output_size or dataset.stored_size(index)
            train_ids = predict(
                segmenter, planes, (height, width), upsampling=options.upsampling, excluded=options.excluded
            )
            stem = save / dataset.stems[index]
            writers.append(pool.submit(_write, train_ids, stem, options.label_ids, dataset.classes.label_space))
            if len(writers) > 2 * available_cores():
                writers.pop(0).result()
            on_image(dataset.names[index])
        for writer in writers:
            writer.result()


def _read_ahead(
    pool: ThreadPoolExecutor, dataset: Dataset, options: EvaluationOptions
) -> Iterator[tuple[int, np.ndarray]]:
    """Indices and network inputs of a data set, in order, a few of them prepared ahead."""

    def read(index: int) -> np.ndarray:
        image = transforms.resize_image(dataset.read_image(index), options.input_size)
        return transforms.normalize(image, options.normalization)

    ahead = available_cores() + 1
    pending = [pool.submit(read, index) for index in range(min(ahead, len(dataset)))]
    for index in range(len(dataset)):
        planes = pending.pop(0).result()
        if index + ahead < len(dataset):
            pending.append(pool.submit(read, index + ahead))
        yield index, planes


def _write(train_ids: np.ndarray, stem: Path, label_ids: bool, label_space: LabelSpace) -> None:
    ids = _label_id_table()[train_ids] if label_ids else train_ids
    save_ids(ids, stem.with_name(f"{stem.name}.png"))
    save_color(train_ids, stem.with_name(f"{stem.name}_color.png"), label_space)


def _label_id_table() -> np.ndarray:
    """256 entries, uint8: the Cityscapes id of every trainId, 0 (unlabelled) for those without."""
    table = np.zeros(256, np.uint8)
    for label_id, train_id in CITYSCAPES_TO_TRAIN_ID.items():
        table[train_id] = label_id
    return table
