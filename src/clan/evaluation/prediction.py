"""Prediction: images or a video in; label maps, colours, overlays and maps of confidence and discrepancy out."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clan.core.errors import ConfigError, DataError
from clan.core.output import progress
from clan.core.runtime import available_cores
from clan.data import transforms
from clan.data.domains import trained_classes
from clan.data.image_files import IMAGE_SUFFIXES, read_rgb
from clan.data.pairing import list_files
from clan.datasets import Classes
from clan.datasets.labels import CITYSCAPES, LabelSpace
from clan.evaluation.images import LABEL_MAP, save_heat, save_jpeg, save_label_map, save_png
from clan.evaluation.inference import Analysis, analyse, evaluating
from clan.evaluation.label_maps import EvaluationOptions, load_segmenter, options_for
from clan.evaluation.outputs import refuse_clashes
from clan.evaluation.overlays import CONFIDENCE, DISCREPANCY, Scale, heat_palette, legend, overlay
from clan.evaluation.video import PENDING_PIXELS, Stages, convert_video
from clan.models.segmenter import Segmenter

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")

SCALES = {"confidence": CONFIDENCE, "discrepancy": DISCREPANCY}

OVERLAY = "_overlay.jpg"
LEGEND = "legend.png"


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
        """The names of the videos that are made of a video, in the order of `Pictures.frames`."""
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
    classes: Path | None = None,
    on_damaged: Callable[[DataError], None] | None = None,
    **given: Any,
) -> int:
    """Runs a segmenter on an image, a folder of images or a video, showing progress.

    For an image NAME.jpg these are NAME.png (trainIds), NAME_color.png, NAME_overlay.jpg, NAME_confidence.png and
    NAME_discrepancy.png, all at its size; the last two are palette PNGs whose index is 255 times the number, or
    its root for the discrepancy, which is mostly small. For a video they are MP4s, whose
    sides are even: an odd one is a pixel longer. `legend.png` tells what the colours mean.

    Args:
        source: what to look at; of a folder all images, those in folders below it too.
        weights: a segmenter's weights; see `clan.run.weights_config.config_of` for what says which network it is.
        save: the folder for the results.
        products: what to write; None: everything.
        classes: see `label_space_of`.
        on_damaged: called with what is wrong with each image of a folder that cannot be read and is left out; without
            it, the first one ends everything.
        given: see `clan.evaluation.label_maps.options_for`. Without `input_size` the network sees each image in its own
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
    options = options_for(weights, **{"num_classes": None, "upsampling": None, "notify": print, **given})
    network = Predictor(weights, options, keep_proportions=given.get("input_size") is None, classes=classes)
    if products.discrepancy and options.network.num_heads != 2:
        print(f"{weights} is a network with one head: there is no discrepancy of two")
        products = replace(products, discrepancy=False)
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


class Predictor:
    """A segmenter and how images are made its input.

    Args:
        weights: its weights.
        options: what it is; see `clan.evaluation.label_maps.options_for`.
        keep_proportions: of each image, rather than resizing all to `options.input_size`.
        classes: file or name of the classes, for weights without their run's configuration.
    """

    def __init__(
        self, weights: Path, options: EvaluationOptions, *, keep_proportions: bool, classes: Path | None = None
    ) -> None:
        self.options = options
        self.keep_proportions = keep_proportions
        self.label_space = label_space_of(weights, options.num_classes, classes, print)
        self.segmenter: Segmenter = load_segmenter(weights, options.network, notify=print)

    def planes(self, image: Image.Image) -> np.ndarray:
        """What the network sees of an RGB image, float32 [3, h, w]; needs no Paddle, so any thread can make it."""
        size = self.options.input_size
        if self.keep_proportions:
            size = same_area(image.size, size)
        return transforms.normalize(transforms.resize_image(image, size), self.options.normalization)

    def __call__(self, image: Image.Image, planes: np.ndarray | None = None) -> Analysis:
        """What the network makes of an RGB image and its `planes`; the label map has the image's size."""
        planes = self.planes(image) if planes is None else planes
        with evaluating(self.segmenter, self.options.precision):
            return analyse(self.segmenter, planes, (image.height, image.width), upsampling=self.options.upsampling)


def label_space_of(
    weights: Path,
    num_classes: int,
    given: Path | None = None,
    notify: Callable[[str], object] = lambda sentence: None,
) -> LabelSpace:
    """The classes of the run that saved the weights; without its configuration, those given, Cityscapes' or numbers.

    Args:
        weights: the file.
        num_classes: how many it knows.
        given: file or name of the classes.
        notify: takes a sentence about what was assumed.

    Raises:
        ConfigError: there are others, or another number of them.
    """
    if known := trained_classes(weights, given):
        known.require_count(num_classes)
        return known.label_space
    nothing = f"nothing says which {num_classes} classes {weights} knows"
    if num_classes == CITYSCAPES.num_classes:
        notify(f"{nothing}: they are taken for those of Cityscapes; --classes names others")
        return CITYSCAPES
    notify(f"{nothing}: they are shown by number; --classes names them")
    return Classes(classes={f"class {train_id}": () for train_id in range(num_classes)}).label_space


def same_area(size: tuple[int, int], like: tuple[int, int]) -> tuple[int, int]:
    """Width and height in the proportions of `size` with about as many pixels as `like`, in multiples of 8."""
    area = like[0] * like[1]
    scale = math.sqrt(area / (size[0] * size[1]))
    width, height = (max(16, 8 * round(side * scale / 8)) for side in size)
    longest = max(16, area // 16 // 8 * 8)  # of a strip so thin that its shorter side had to grow
    return min(width, longest), min(height, longest)


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
    network: Predictor,
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

    def write(image: Image.Image, analysis: Analysis, stem: Path) -> None:
        pictures = Pictures(image, analysis, network.label_space, products)
        if products.labels:
            save_label_map(pictures.train_ids, stem, network.label_space)
        if products.overlay:
            save_jpeg(Image.fromarray(pictures.overlay()), stem.with_name(f"{stem.name}{OVERLAY}"))
        for name, values in pictures.maps().items():
            save_heat(values, stem.with_name(f"{stem.name}_{name}.png"))

    behind: deque[tuple[int, Future[None]]] = deque()
    count = 0
    with ThreadPoolExecutor(available_cores()) as pool, progress("predicting", len(stems)) as advance:
        for path, image in _readable(pool, stems, on_damaged):
            if image is not None:
                pixels = image.width * image.height
                while behind and sum(others for others, _ in behind) + pixels > PENDING_PIXELS:
                    behind.popleft()[1].result()
                behind.append((pixels, pool.submit(write, image, network(image), stems[path])))
                count += 1
            while len(behind) > 2 * available_cores():
                behind.popleft()[1].result()
            advance()
        for _, written in behind:
            written.result()
    return count


def _readable(
    pool: ThreadPoolExecutor, paths: Iterable[Path], on_damaged: Callable[[DataError], None] | None
) -> Iterator[tuple[Path, Image.Image | None]]:
    """Every image, two of them read ahead; None for one that cannot be read, of which `on_damaged` is told."""
    waiting, reading = iter(paths), deque[tuple[Path, Future[Image.Image]]]()
    while True:
        reading.extend((path, pool.submit(read_rgb, path)) for path in islice(waiting, 2 - len(reading)))
        if not reading:
            return
        path, image = reading.popleft()
        try:
            yield path, image.result()
        except DataError as error:
            if on_damaged is None:
                raise
            on_damaged(error)
            yield path, None


class Pictures:
    """What can be shown of one image.

    Args:
        image: RGB.
        analysis: what the network made of it.
        label_space: the colours.
        products: which maps are wanted.
    """

    def __init__(self, image: Image.Image, analysis: Analysis, label_space: LabelSpace, products: Products) -> None:
        self.image = image
        self.label_space = label_space
        self.products = products
        self.analysis = analysis
        self.train_ids = analysis.train_ids()

    def overlay(self) -> np.ndarray:
        """uint8 RGB [H, W, 3]."""
        return overlay(np.asarray(self.image), self.train_ids, self.label_space, opacity=self.products.opacity)

    def maps(self) -> dict[str, np.ndarray]:
        """The wanted maps by name, uint8 [H, W]; see `Scale`."""
        scales = self.products.scales()
        return {name: scale.quantize(getattr(self.analysis, name), self.image.size) for name, scale in scales.items()}

    def frames(self) -> Iterator[tuple[str, np.ndarray]]:
        """Everything wanted as uint8 RGB [H, W, 3], by name."""
        if self.products.labels:
            yield "color", self.label_space.colorize(self.train_ids)
        if self.products.overlay:
            yield "overlay", self.overlay()
        for name, values in self.maps().items():
            yield name, heat_palette()[values]


def predict_video(network: Predictor, path: Path, save: Path, products: Products) -> int:
    """Writes a video of each kind that `products` names, at the size and the rate of the one given."""

    def draw(image: Image.Image, analysis: Analysis) -> dict[str, np.ndarray]:
        return dict(Pictures(image, analysis, network.label_space, products).frames())

    targets = {name: save / f"{path.stem}_{name}.mp4" for name in products.frames()}
    return convert_video(path, targets, Stages(network.planes, network, draw))
