"""`clan export`: a run's weights as a folder that other software runs, compared with the network before."""

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from clan.core.errors import ConfigError, WeightsError
from clan.core.files import writing
from clan.core.runtime import import_paddle
from clan.evaluation.finite import of_network, require_finite
from clan.evaluation.model import Model, load
from clan.evaluation.model_card import CARD, Format, ModelCard, write_card
from clan.evaluation.onnx_network import LOGITS
from clan.evaluation.paddle_network import PaddleNetwork, PaddleProgram, open_weights
from clan.run.folder import BEFORE

STEM = "model"

MAPS = ("confidence", "discrepancy")

ONE_SIZE = ("dinov2",)
"""Beginnings of backbones' names whose position embedding is made for one size when they are traced."""

TOLERANCE = {"fp32": 1e-3, "fp16": 3e-2}
"""Difference of logits over their largest magnitude that an export may show on noise."""


@dataclass(frozen=True)
class ExportOptions:
    """What is written.

    Args:
        formats: "onnx", "paddle" or both.
        size: width and height of the network's input; None: the run's.
        resize: resize images in the graph; otherwise the network sees them as they are.
        maps: further outputs, "confidence" and "discrepancy".
        half: store the ONNX file's weights in float16.
        int8: folder of images to calibrate 8-bit arithmetic of the ONNX file on; None: none.
    """

    formats: Sequence[Format] = ("onnx", "paddle")
    size: tuple[int, int] | None = None
    resize: bool = True
    maps: Sequence[str] = ()
    half: bool = False
    int8: Path | None = None

    def __post_init__(self) -> None:
        if not self.formats:
            raise ConfigError("there is nothing to write: give --format onnx, paddle or both")
        if self.half and self.int8:
            raise ConfigError("--half and --int8 exclude each other: give one of them")
        if (self.half or self.int8) and "onnx" not in self.formats:
            raise ConfigError("--half and --int8 are for ONNX: add --format onnx")
        if self.size and not self.resize:
            raise ConfigError("--size and --no-resize exclude each other: give one of them")


def export_weights(
    weights: Path,
    folder: Path,
    options: ExportOptions | None = None,
    *,
    notify: Callable[[str], object] = print,
    **given: Any,
) -> ModelCard:
    """Writes a folder of `model.yaml`, and `model.onnx` or `model.json` with `model.pdiparams`, or all.

    The folder appears complete or not at all. An earlier export of its name is kept as FOLDER.before.

    Args:
        weights: a segmenter's weights.
        folder: where to; a folder that holds anything else is left alone.
        options: what to write.
        notify: takes sentences for the user.
        given: see `clan.evaluation.paddle_network.open_weights`.

    Raises:
        ClanError: the weights cannot be read, something is not installed, an operator cannot be converted, the folder
            is in use, or what was written computes something else.
    """
    options = options or ExportOptions()
    if "onnx" in options.formats:
        import_module("clan.deployment.conversion").require_tools()
    require_free(folder)
    network, card = open_weights(weights, input_size=options.size, notify=notify, **given)
    card = described(card, options)
    if not options.resize and not card.input.any_size:
        raise ConfigError(f"{card.network.backbone} is exported for one size: leave --no-resize out, or give --size")
    with replaced(folder, notify) as place:
        if "onnx" in options.formats:
            write_onnx(network, card, place, options)
        if "paddle" in options.formats:
            program = import_module("clan.deployment.program")
            layer = program.ImageProgram(network.segmenter, card)
            program.save_program(layer, place / STEM, program.image_spec())
        write_card(card, place)
        for format in options.formats:
            check(network, card, place, format, notify)
    return card


def described(card: ModelCard, options: ExportOptions) -> ModelCard:
    """The card of what will be written.

    Raises:
        ConfigError: the discrepancy of one head is wanted.
    """
    if "discrepancy" in options.maps and card.network.num_heads != 2:
        raise ConfigError("a network with one head has no discrepancy of two: leave discrepancy out of --maps")
    one_size = card.network.backbone.startswith(ONE_SIZE)
    names: dict[Format, str] = {"onnx": f"{STEM}.onnx", "paddle": f"{STEM}.json"}
    update = {
        "files": {format: name for format, name in names.items() if format in options.formats},
        "weights": "int8" if options.int8 else "fp16" if options.half else "fp32",
        "outputs": ("labels", LOGITS, *(name for name in MAPS if name in options.maps)),
        "input": card.input.model_copy(update={"resize": options.resize, "any_size": not one_size}),
    }
    return card.model_copy(update=update)


def write_onnx(network: PaddleNetwork, card: ModelCard, place: Path, options: ExportOptions) -> None:
    """Writes `model.onnx`, which onnx.checker has passed."""
    import onnx

    conversion, onnx_graph = (import_module(f"clan.deployment.{name}") for name in ("conversion", "onnx_graph"))
    body = conversion.body_of(network.segmenter, None if card.input.any_size else card.input.size[::-1])
    if options.int8:
        body = import_module("clan.deployment.quantization").quantized(body, card, options.int8)
    model = onnx_graph.surrounded(body, card)
    if options.half:
        model = onnx_graph.halved(model)
    path = place / card.files["onnx"]
    with writing(path, "free disk space"):
        onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def check(
    network: PaddleNetwork, card: ModelCard, place: Path, format: Format, notify: Callable[[str], object]
) -> None:
    """Compares what was written with the network on noise of a size of its own.

    Raises:
        WeightsError: the logits differ, or are not finite.
    """
    exported: Model = load(place / card.files["onnx"]) if format == "onnx" else _program_alone(place, card)
    width, height = card.input.size
    size = (width, height) if card.input.resize else (max(33, width // 4), max(33, height // 4))
    images = np.random.default_rng(0).integers(0, 256, (1, size[1], size[0], 3), dtype=np.uint8)
    with of_network(card.source.weights):
        expected = require_finite(network.logits(images))
    found = exported.network.logits(images)
    difference = float(np.abs(found - expected).max() / max(1e-12, float(np.abs(expected).max())))
    same = float((found.sum(axis=1).argmax(axis=1) == expected.sum(axis=1).argmax(axis=1)).mean())
    if not difference <= (TOLERANCE["fp32"] if format == "paddle" else TOLERANCE.get(card.weights, 1.0)):
        raise WeightsError(
            f"the {format} export computes other logits than {card.source.weights} (by {difference:.2g} of the "
            "largest): do not use it, and report the network"
        )
    notify(f"{card.files[format]}: logits within {difference:.1g} of the largest, {100 * same:.2f} % of cells alike")


def _program_alone(place: Path, card: ModelCard) -> Model:
    return Model(PaddleProgram(place, card), card)


def require_free(folder: Path) -> None:
    """Refuses a folder that holds anything but an earlier export.

    Raises:
        ConfigError: it does, or is a file, or the current folder.
    """
    if folder.resolve() == Path.cwd():
        raise ConfigError("the export would replace the folder that you are in: name one in it with -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file():
        raise ConfigError(f"{folder} is in use and holds no {CARD} of an earlier export: name another folder with -o")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a folder with -o")


@contextmanager
def replaced(folder: Path, notify: Callable[[str], object]) -> Iterator[Path]:
    """Within the block, a folder to write to, which becomes `folder` at its end, or is removed after an error."""
    place = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    with writing(folder, "choose another folder", ConfigError):
        place.mkdir(parents=True)
        import_paddle()
    try:
        yield place
        with writing(folder, "choose another folder", ConfigError):
            if folder.is_dir() and any(folder.iterdir()):
                names = (folder.with_name(f"{folder.name}{BEFORE}{number}") for number in ("", *range(2, 10**6)))
                former = next(name for name in names if not name.exists())
                folder.rename(former)
                notify(f"the earlier export is kept in {former}")
            elif folder.is_dir():
                folder.rmdir()
            place.rename(folder)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(place)
        raise
