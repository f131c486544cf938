"""Prediction: images or a video in; label maps, colours, overlays and maps of confidence and discrepancy out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from clan.core.errors import ConfigError, DataError
from clan.core.output import progress
from clan.core.runtime import available_cores
from clan.data.image_files import IMAGE_SUFFIXES, read_rgb
from clan.data.pairing import list_files
from clan.evaluation.finite import of_network
from clan.evaluation.images import LABEL_MAP, save_heat, save_jpeg, save_label_map, save_png
from clan.evaluation.model import Model, Prediction, load
from clan.evaluation.outputs import refuse_clashes
from clan.evaluation.overlays import CONFIDENCE, DISCREPANCY, Scale, heat_palette, legend
from clan.evaluation.video import PENDING_PIXELS, Stages, convert_video
from clan.evaluation.viewed_model import ViewedModel
from clan.evaluation.views import Views

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")

SCALES = {"confidence": CONFIDENCE, "discrepancy": DISCREPANCY}

OVERLAY = "_overlay.jpg"
LEGEND = "legend.png"

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Products:
    """What is written for every image or frame.

    Args:
        labels: label maps and colour masks; of a video the masks alone.
        overlay: the colours over the image.
        confidence: the largest probability of a class, 0…1.
        discrepancy: 1 − cosine of the two heads' probabilities, 0…1.
        opacity: of the colours in the overlay, 0…1.
    """

    labels: bool = True
    overlay: bool = True
    confidence: bool = True
    discrepancy: bool = True
    opacity: float = 0.55

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ConfigError(f"--opacity {self.opacity:g} is no share: give 0…1")
        if not (self.labels or self.overlay or self.confidence or self.discrepancy):
            raise ConfigError("there is nothing to write: leave out one of the --no-… options")

    def endings(self) -> tuple[str, ...]:
        """How the names of an image's files end."""
        labels, overlay = LABEL_MAP if self.labels else (), (OVERLAY,) if self.overlay else ()
        return (*labels, *overlay, *(f"_{name}.png" for name in self.scales()))

    def frames(self) -> tuple[str, ...]:
        """The names of the videos that are made of a video, in the order of `drawn`."""
        return *("color",) * self.labels, *("overlay",) * self.overlay, *self.scales()

    def scales(self) -> dict[str, Scale]:
        """The scales of the wanted maps, by the name of what they show."""
        return {name: scale for name, scale in SCALES.items() if getattr(self, name)}


def predict(
    source: Path,
    weights: Path,
    save: Path,
    *,
    products: Products | None = None,
    on_damaged: Callable[[DataError], None] | None = None,
    views: Views | None = None,
    **given: Any,
) -> int:
    """Runs a segmenter on an image, a folder of images or a video, showing progress.

    For an image NAME.jpg these are NAME.png (trainIds), NAME_color.png, NAME_overlay.jpg, NAME_confidence.png and
    NAME_discrepancy.png, all at its size; the last two are palette PNGs whose index is 255 times the number, or
    its root for the discrepancy, which is mostly small. For a video they are MP4s, whose
    sides are even: an odd one is a pixel longer. `legend.png` tells what the colours mean.

    Args:
        source: what to look at; of a folder all images, those in folders below it too.
        weights: a segmenter's weights, see `clan.run.weights_config.config_of` for what says which network it is; or
            what `clan export` wrote.
        save: the folder for the results.
        products: what to write; None: everything.
        on_damaged: called with what is wrong with each image of a folder that cannot be read and is left out; without
            it, the first one ends everything.
        views: the windows, scales and mirrorings in which images are seen; None: each once, as a whole.
        given: see `clan.evaluation.model.load`. Without `input_size` the network sees each image in its own
            proportions, with as many pixels as the run's target images had.

    Returns:
        The number of images or frames that were predicted.

    Raises:
        ClanError: what cannot be read, written or computed.
    """
    products = products or Products()
    video = is_video(source)
    stems = {} if video else {path: stem_of(path, source, save) for path in find_images(source)}
    refuse_own_folder(source, save)
    endings = products.endings()
    outputs = [(str(path), stem.with_name(stem.name + end)) for path, stem in stems.items() for end in endings]
    refuse_clashes([("the legend", save / LEGEND), *outputs], stems)
    network = load(weights, **{"notify": print, **given})
    if views and not views.plain:
        network = ViewedModel(network, views)
    if products.discrepancy and network.card.network.num_heads != 2:
        print(f"{weights} is a network with one head: there is no discrepancy of two")
        products = replace(products, discrepancy=False)
    with of_network(weights):
        if video:
            count = predict_video(network, source, save, products)
        else:
            count = predict_images(network, stems, products, on_damaged if source.is_dir() else None)
    if count:
        save_png(legend(network.label_space, list(products.scales().values())), save / LEGEND)
    return count


def is_video(source: Path) -> bool:
    """Whether it is a file that is named as a video."""
    return source.suffix.lower() in VIDEOS and source.is_file()


def find_images(source: Path) -> list[Path]:
    """An image file, or all images of a folder and those below it, sorted, as in data sets: hidden ones are left out.

    Raises:
        DataError: there is none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source} does not exist: give an image, a folder of images or a video")
    images = [source / path for path in list_files(source)]
    if not images:
        raise DataError(f"{source} holds no image ({', '.join(IMAGE_SUFFIXES)}): is it the right folder?")
    return images


def stem_of(path: Path, source: Path, save: Path) -> Path:
    """Where the results of an image of a source go, up to what tells them apart."""
    return save / path.relative_to(source if source.is_dir() else source.parent).with_suffix("")


def refuse_own_folder(source: Path, save: Path) -> None:
    """Raises ConfigError if results would lie among, or replace, what they are made of."""
    folder = (source if source.is_dir() else source.parent).resolve()
    target = save.resolve()
    if target == folder or (source.is_dir() and folder in target.parents):
        raise ConfigError(f"the results in {save} would lie among the images of {folder}: choose another --output")


def predict_images(
    network: Model,
    stems: Mapping[Path, Path],
    products: Products,
    on_damaged: Callable[[DataError], None] | None = None,
) -> int:
    """Writes what `products` names for every image; reading and writing overlap with the network.

    Args:
        network: the segmenter.
        stems: each image, and where its results go up to what tells them apart.
        products: what to write.
        on_damaged: see `predict`.

    Returns:
        The number of images that could be read.
    """

    def write(prediction: Prediction, stem: Path) -> None:
        if products.labels:
            save_label_map(prediction.labels, stem, network.label_space)
        if products.overlay:
            picture = Image.fromarray(prediction.overlay(products.opacity))
            save_jpeg(picture, stem.with_name(f"{stem.name}{OVERLAY}"))
        for name, values in heat_maps(prediction, products).items():
            save_heat(values, stem.with_name(f"{stem.name}_{name}.png"))

    def read(path: Path) -> tuple[Image.Image, np.ndarray]:
        image = read_rgb(path)
        return image, network.prepare(image)

    count = 0
    viewed = network if isinstance(network, ViewedModel) else None
    steps = viewed.count(stems) if viewed else len(stems)
    with ThreadPoolExecutor(available_cores()) as pool, progress("predicting", steps) as advance:
        if viewed:
            viewed.on_view = advance  # a single image may take minutes
        writing = _Behind()
        for path, opened in _readable(pool, stems, on_damaged, read):
            if opened is not None:
                image, prepared = opened
                writing.wait(image.width * image.height)
                prediction = network.predict(image, prepared)
                writing.add(image.width * image.height, pool.submit(write, prediction, stems[path]))
                count += 1
            if not viewed:
                advance()
        writing.wait()
    return count


class _Behind:
    """Results that threads are writing, of a bounded number of pixels and images."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Future[None]]] = deque()

    def add(self, pixels: int, written: Future[None]) -> None:
        """Adds what is being written of an image of so many pixels."""
        self._waiting.append((pixels, written))

    def wait(self, pixels: int = 2 * PENDING_PIXELS) -> None:
        """Waits until there is room for an image of so many pixels; by default for everything."""
        while self._waiting and (
            sum(others for others, _ in self._waiting) + pixels > PENDING_PIXELS
            or len(self._waiting) > 2 * available_cores()
        ):
            self._waiting.popleft()[1].result()


def _readable(
    pool: ThreadPoolExecutor,
    paths: Iterable[Path],
    on_damaged: Callable[[DataError], None] | None,
    read: Callable[[Path], Opened],
) -> Iterator[tuple[Path, Opened | None]]:
    """What `read` makes of every image, two of them ahead; None for one that cannot be read; `on_damaged` is told."""
    waiting, reading = iter(paths), deque[tuple[Path, Future[Opened]]]()
    while True:
        reading.extend((path, pool.submit(read, path)) for path in islice(waiting, 2 - len(reading)))
        if not reading:
            return
        path, opened = reading.popleft()
        try:
            yield path, opened.result()
        except DataError as error:
            if on_damaged is None:
                raise
            on_damaged(error)
            yield path, None


def heat_maps(prediction: Prediction, products: Products) -> dict[str, np.ndarray]:
    """The wanted maps of an image by name, uint8 [H, W]; see `Scale`."""
    height, width = prediction.size
    return {
        name: scale.quantize(getattr(prediction, name), (width, height)) for name, scale in products.scales().items()
    }


def drawn(prediction: Prediction, products: Products) -> Iterator[tuple[str, np.ndarray]]:
    """Everything wanted of a frame as uint8 RGB [H, W, 3], by name."""
    if products.labels:
        yield "color", prediction.colors
    if products.overlay:
        yield "overlay", prediction.overlay(products.opacity)
    for name, values in heat_maps(prediction, products).items():
        yield name, heat_palette()[values]


def predict_video(network: Model, path: Path, save: Path, products: Products) -> int:
    """Writes a video of each kind that `products` names, at the size and the rate of the one given."""

    def draw(image: Image.Image, prediction: Prediction) -> dict[str, np.ndarray]:
        return dict(drawn(prediction, products))

    targets = {name: save / f"{path.stem}_{name}.mp4" for name in products.frames()}
    return convert_video(path, targets, Stages(network.prepare, network.predict, draw))
