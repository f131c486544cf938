"""Evaluation: a segmenter's weights and a data set in, label maps as PNG files out (SPEC section 6)."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clan.config import Precision, load
from clan.data import transforms
from clan.data.datasets import Dataset
from clan.engine.inference import evaluating, predict
from clan.errors import ConfigError
from clan.labels import CITYSCAPES_TO_TRAIN_ID
from clan.models.deeplab import Segmenter, Upsampling
from clan.models.heads import DILATIONS
from clan.models.weight_files import read_arrays
from clan.models.weights import has_projection_bias, load_weights
from clan.normalization import CAFFE, Normalization
from clan.reporting.images import save_label_map
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
        batch_size: images that the network sees at once; more than one can help on a GPU.
        normalization: how pixels become numbers.
        precision: what a GPU computes convolutions and matrix products in.
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
    batch_size: int = 1
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch size {self.batch_size} is no number of images: give at least 1")


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

    Decoding, the network and all that follows it overlap: threads read ahead and write behind, a few images each,
    so that memory does not depend on the number of images.

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
    writing: deque[Future[None]] = deque()

    def write(labels: Callable[[], np.ndarray], index: int) -> None:
        save_label_map(labels(), save / dataset.stems[index], dataset.classes.label_space, table=table)

    with ThreadPoolExecutor(available_cores()) as pool, evaluating(segmenter, options.precision):
        for indices, planes in _read_ahead(pool, dataset, options):
            sizes = [options.output_size or dataset.stored_size(index) for index in indices]
            sizes = [(height, width) for width, height in sizes]
            predictions = predict(segmenter, planes, sizes, upsampling=options.upsampling, excluded=options.excluded)
            for index, labels in zip(indices, predictions, strict=True):
                writing.append(pool.submit(write, labels, index))
                on_image(dataset.names[index])
            while len(writing) > 2 * available_cores():
                writing.popleft().result()
        for written in writing:
            written.result()


def _read_ahead(
    pool: ThreadPoolExecutor, dataset: Dataset, options: EvaluationOptions
) -> Iterator[tuple[range, np.ndarray]]:
    """Indices and network inputs, float32 [B, 3, h, w], of every batch in order, some images prepared ahead."""
    width, height = options.input_size

    def read(index: int, place: np.ndarray) -> None:
        image = transforms.resize_image(dataset.read_image(index), options.input_size)
        transforms.normalize(image, options.normalization, out=place)

    def start(first: int) -> tuple[range, np.ndarray, list[Future[None]]]:
        indices = range(first, min(first + options.batch_size, len(dataset)))
        planes = np.empty((len(indices), 3, height, width), np.float32)
        return indices, planes, [pool.submit(read, index, place) for index, place in zip(indices, planes, strict=True)]

    ahead = 1 + -(-available_cores() // options.batch_size)  # the batch in hand, and work for every core
    firsts = iter(range(0, len(dataset), options.batch_size))
    pending = deque(start(first) for first in islice(firsts, ahead))
    while pending:
        indices, planes, reading = pending.popleft()
        for done in reading:
            done.result()
        pending.extend(start(first) for first in islice(firsts, 1))
        yield indices, planes


def _label_id_table() -> np.ndarray:
    """256 entries, uint8: the Cityscapes id of every trainId, 0 (unlabelled) for those without."""
    table = np.zeros(256, np.uint8)
    for label_id, train_id in CITYSCAPES_TO_TRAIN_ID.items():
        table[train_id] = label_id
    return table
