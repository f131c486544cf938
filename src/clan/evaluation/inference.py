"""From images to trainIds with a trained segmenter."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import Tensor
from PIL import Image

from clan.core.errors import ConfigError
from clan.core.precision import autocast
from clan.core.runtime import Precision, available_cores
from clan.core.schema import build, require_size
from clan.data import transforms
from clan.data.dataset import Dataset
from clan.datasets import Description
from clan.datasets.labels import IGNORE
from clan.evaluation.argmax import label_map
from clan.evaluation.finite import require_finite
from clan.evaluation.fusion import ViewFusion
from clan.evaluation.views import Views
from clan.models.normalization import CAFFE, Normalization
from clan.models.options import NetworkConfig, Upsampling
from clan.models.segmenter import Segmenter, upsample
from clan.run.config import Config


@dataclass(frozen=True)
class EvaluationOptions:
    """How images become label maps.

    Args:
        network: what the network is.
        input_size: width and height that the network sees.
        output_size: width and height of the label maps; None: those of the ground truth where there is
            one, else those of the image.
        upsampling: "bilinear" or "bicubic", of the logits.
        label_ids: write Cityscapes labelIds, as its benchmark server wants, instead of trainIds.
        excluded: a trainId that is never predicted.
        batch_size: images that the network sees at once; more than one can help on a GPU.
        normalization: how pixels become numbers.
        precision: what a GPU computes convolutions and matrix products in.
        views: the parts, scales and mirrorings in which the network sees an image.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    input_size: tuple[int, int] = (1024, 512)
    output_size: tuple[int, int] | None = None
    upsampling: Upsampling = "bilinear"
    label_ids: bool = False
    excluded: int | None = None
    normalization: Normalization = CAFFE
    batch_size: int = 1
    precision: Precision = "fp32"
    views: Views = field(default_factory=Views)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch size {self.batch_size} is no number of images: give at least 1")
        require_size(self.input_size, "--input-size")
        require_size(self.output_size, "--output-size")
        if self.excluded is not None and not 0 <= self.excluded <= IGNORE:
            raise ConfigError(f"--ignore-label {self.excluded} is no trainId: give 0 to {IGNORE}; {IGNORE} is no class")

    @classmethod
    def of_run(cls, config: Config, dataset: Description) -> "EvaluationOptions":
        """How a run's network sees the images of a data set."""
        network = config.network
        return cls(
            network=network,
            upsampling=network.evaluation_upsampling,
            input_size=config.target.size,
            normalization=network.normalization(dataset),
        )

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height at which the network sees a whole image of `size`: windows are cut from it as it is."""
        return size if self.views.window else self.input_size

    @property
    def num_classes(self) -> int:
        """C."""
        return self.network.num_classes

    def changed(self, **given: Any) -> "EvaluationOptions":
        """Other options, given by name; those of the network too. None leaves an option as it is.

        Raises:
            ConfigError: a value does not fit.
        """
        given = {name: value for name, value in given.items() if value is not None}
        network = {name: given.pop(name) for name in list(given) if name in NetworkConfig.model_fields}
        described = build(NetworkConfig, self.network.model_dump() | network) if network else self.network
        return replace(self, network=described, **given)


@contextmanager
def evaluating(segmenter: Segmenter, precision: Precision = "fp32") -> Iterator[None]:
    """Within the block the segmenter is in eval mode, records no gradients and computes at `precision` on a GPU."""
    modes = {layer: layer.training for layer in segmenter.sublayers(include_self=True)}
    segmenter.eval()
    try:
        with paddle.no_grad(), autocast(precision):
            yield
    finally:
        for layer, training in modes.items():
            layer.training = training


def predict(
    segmenter: Segmenter,
    planes: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    *,
    upsampling: Upsampling = "bilinear",
    excluded: int | None = None,
) -> list[Callable[[], np.ndarray]]:
    """Runs the network on a batch; what is left to do for each image needs no Paddle, so any thread can do it.

    Args:
        segmenter: in eval mode (see `evaluating`).
        planes: float32 [B, 3, h, w], normalised.
        sizes: height and width (H, W) of each image's result.
        upsampling: "bilinear" or "bicubic", of the sum of all heads' logits.
        excluded: a trainId that is never predicted.

    Returns:
        For each image a function that gives its trainIds, the largest of the sum of all heads' logits, uint8 [H, W].

    Raises:
        NotFinite: a logit is not finite.
    """
    how = _Upsampling(upsampling, segmenter.align_corners, excluded)
    return _label_maps(total(_logits(segmenter, planes)), sizes, how)


def each_label_map(
    segmenter: Segmenter,
    dataset: Dataset,
    use: Callable[[np.ndarray, int], None],
    *,
    options: EvaluationOptions,
    on_image: Callable[[str], None] = lambda name: None,
    on_view: Callable[[], object] = lambda: None,
) -> None:
    """Predicts every image of a data set, at the size of its ground truth or of `options.output_size`.

    Decoding, the network and all that follows it overlap: threads read ahead and use label maps behind, a few images
    each, so that memory does not depend on the number of images.

    Args:
        segmenter: the network; it is in eval mode meanwhile.
        dataset: the images.
        use: called in any thread with each label map, uint8 [H, W], and the index of its image.
        options: sizes, upsampling, batches.
        on_image: called in this thread with each image's name when the network has seen it.
        on_view: called in this thread when the network has seen a view of an image.

    Raises:
        DataError: an image cannot be read.
        NotFinite: a prediction is not finite; and whatever `use` or `on_image` raise.
    """
    using: deque[Future[None]] = deque()
    with ThreadPoolExecutor(available_cores()) as pool, evaluating(segmenter, options.precision):
        if options.views.plain:
            made = _plain(segmenter, dataset, options, pool, on_view)
        else:
            made = _fused(segmenter, dataset, options, pool, on_view)
        for indices, predictions in made:
            for index, train_ids in zip(indices, predictions, strict=True):
                using.append(pool.submit(lambda make, index: use(make(), index), train_ids, index))
                on_image(dataset.names[index])
            while len(using) > 2 * available_cores():
                using.popleft().result()
        for used in using:
            used.result()


LabelMaps = Iterator[tuple[range, list[Callable[[], np.ndarray]]]]
"""Indices of images, and what gives their label maps."""


def _plain(
    segmenter: Segmenter,
    dataset: Dataset,
    options: EvaluationOptions,
    pool: ThreadPoolExecutor,
    on_view: Callable[[], object],
) -> LabelMaps:
    """Every batch of images, each seen once."""
    for indices, planes in _read_ahead(pool, dataset, options):
        sizes = [options.output_size or dataset.stored_size(index) for index in indices]
        sizes = [(height, width) for width, height in sizes]
        yield indices, predict(segmenter, planes, sizes, upsampling=options.upsampling, excluded=options.excluded)
        for _ in indices:
            on_view()


def _fused(
    segmenter: Segmenter,
    dataset: Dataset,
    options: EvaluationOptions,
    pool: ThreadPoolExecutor,
    on_view: Callable[[], object],
) -> LabelMaps:
    """Every image, seen in `options.views`; the next one is read meanwhile."""

    def logits(images: np.ndarray) -> np.ndarray:
        planes = np.stack([transforms.normalize(Image.fromarray(one), options.normalization) for one in images])
        return paddle.stack(_logits(segmenter, planes), axis=1).numpy()

    fusion = ViewFusion(
        logits,
        options.views,
        upsampling=options.upsampling,
        align_corners=segmenter.align_corners,
        excluded=options.excluded,
        batch_size=options.batch_size,
    )
    following = pool.submit(dataset.read_image, 0) if len(dataset) else None
    for index in range(len(dataset)):
        assert following
        image = following.result()
        following = pool.submit(dataset.read_image, index + 1) if index + 1 < len(dataset) else None
        size = options.output_size or dataset.stored_size(index)
        labels = fusion(image, size, options.seen(image.size), on_view).labels
        yield range(index, index + 1), [partial(np.asarray, labels)]


def count_views(dataset: Dataset, options: EvaluationOptions) -> int:
    """How often the network looks at the images of a data set."""
    if options.views.plain:
        return len(dataset)
    return sum(
        len(
            options.views.of(options.output_size or dataset.stored_size(index), options.seen(dataset.image_size(index)))
        )
        for index in range(len(dataset))
    )


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


def total(logits: Sequence[Tensor]) -> Tensor:
    """The sum of all heads' logits."""
    return sum(logits[1:], start=logits[0])


def _logits(segmenter: Segmenter, planes: np.ndarray) -> list[Tensor]:
    """Every head's logits, float32 whatever the network computed in."""
    return [logits.astype("float32") for logits in segmenter(paddle.to_tensor(planes))]


class _Upsampling(NamedTuple):
    """How logits become label maps, and a trainId that is never predicted."""

    mode: Upsampling
    align_corners: bool
    excluded: int | None


def _label_maps(logits: Tensor, sizes: Sequence[tuple[int, int]], how: _Upsampling) -> list[Callable[[], np.ndarray]]:
    """What gives the label maps of logits [B, C, h, w], each at its size."""
    on_host = require_finite(logits.numpy())
    if how.mode == "bilinear" and how.align_corners:
        return [
            partial(label_map, coarse, size, excluded=how.excluded) for coarse, size in zip(on_host, sizes, strict=True)
        ]
    maps = [_label_map(logits[k : k + 1], size, how) for k, size in enumerate(sizes)]
    return [partial(np.asarray, labels) for labels in maps]


def _label_map(logits: Tensor, size: tuple[int, int], how: _Upsampling) -> np.ndarray:
    """TrainIds uint8 [H, W] from logits [1, C, h, w] by Paddle's own operations, which hold them at full size."""
    full = upsample(logits, size, how.mode, align_corners=how.align_corners)[0]
    if how.excluded is not None and how.excluded < len(full):
        full[how.excluded] = -float("inf")  # not before: infinity times a weight of zero is NaN
    return full.argmax(axis=0).astype("uint8").numpy()
