"""What Paddle computes for `clan.evaluation.model`: the weights of a run, or a program of Paddle Inference."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from clan.core.device import explained, select_device
from clan.core.errors import WeightsError
from clan.core.files import quoted
from clan.core.precision import check_precision
from clan.core.runtime import Precision
from clan.data import transforms
from clan.data.domains import trained_classes
from clan.datasets import Classes
from clan.datasets.description import MAX_CLASSES
from clan.datasets.labels import CITYSCAPES, LabelSpace
from clan.evaluation.inference import EvaluationOptions, evaluating
from clan.evaluation.label_maps import load_segmenter, options_for
from clan.evaluation.model_card import InputFacts, ModelCard, NetworkFacts, SourceFacts, colors_of
from clan.evaluation.onnx_network import LOGITS
from clan.models.normalization import Normalization
from clan.models.segmenter import Segmenter
from clan.run.folder import VALIDATION, snapshot_iteration
from clan.run.records import read_validations
from clan.run.weights_config import config_of

Notify = Callable[[str], object]


class PaddleNetwork:
    """A segmenter; one thread at a time may call it.

    Args:
        segmenter: the network.
        normalization: how pixels become numbers.
        precision: what a GPU computes in.
    """

    def __init__(self, segmenter: Segmenter, normalization: Normalization, precision: Precision = "fp32") -> None:
        self.segmenter, self.normalization = segmenter, normalization
        self.precision: Precision = precision

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Images as the network sees them, uint8 RGB [N, h, w, 3] → float32 [N, heads, C, a, b]."""
        planes = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
        for image, place in zip(images, planes, strict=True):
            transforms.normalize(image, self.normalization, out=place)
        with explained(), evaluating(self.segmenter, self.precision):
            return paddle.stack([one.astype("float32") for one in self.segmenter(paddle.to_tensor(planes))], 1).numpy()


class PaddleProgram:
    """A program of Paddle Inference, written by `clan export`.

    Args:
        folder: where it is.
        card: names its file.
        device: "auto", "cpu" or "gpu".

    Raises:
        WeightsError: it is missing or damaged.
    """

    def __init__(self, folder: Path, card: ModelCard, *, device: str = "auto") -> None:
        select_device(device)
        path = folder / card.files["paddle"]
        for file in (path, path.with_suffix(".pdiparams")):
            if not file.is_file():
                raise WeightsError(f"{file} does not exist: keep the files of clan export together")
        try:
            self.program: Any = paddle.jit.load(str(path.with_suffix("")))
        except Exception as error:  # Paddle's errors have no common class
            raise WeightsError(f"{path} cannot be loaded ({quoted(str(error))}): export it again") from None
        self.program.eval()
        self.place = card.outputs.index(LOGITS)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Images as the network sees them, uint8 RGB [N, h, w, 3] → float32 [N, heads, C, a, b]."""
        with explained(), paddle.no_grad():
            return self.program(paddle.to_tensor(images))[self.place].numpy()


def open_weights(
    weights: Path,
    *,
    input_size: tuple[int, int] | None = None,
    device: str = "auto",
    gpu: int = 0,
    precision: Precision = "fp32",
    classes: Path | str | None = None,
    notify: Notify = lambda sentence: None,
    **given: Any,
) -> tuple[PaddleNetwork, ModelCard]:
    """Loads the weights of a run.

    Args:
        weights: the file.
        input_size: width and height of the network's input; None: the run's.
        device: "auto", "cpu" or "gpu".
        gpu: index among the visible GPUs.
        precision: what a GPU computes in.
        classes: file or name of the classes, for weights without their run's configuration.
        notify: takes sentences about what was assumed.
        given: see `clan.evaluation.label_maps.options_for`.

    Raises:
        ClanError: they cannot be read, or nothing says what they are.
    """
    select_device(device, gpu)
    if remark := check_precision(precision):
        notify(remark)
    given = {"num_classes": None, "upsampling": None, "input_size": input_size, "precision": precision, **given}
    options = options_for(weights, notify=notify, **given)
    space = label_space_of(weights, options.num_classes, Path(classes) if classes else None, notify)
    segmenter = load_segmenter(weights, options.network, notify=notify)
    return PaddleNetwork(segmenter, options.normalization, options.precision), card_of(weights, options, space)


def card_of(weights: Path, options: EvaluationOptions, space: LabelSpace) -> ModelCard:
    """What is known of weights, as `model.yaml` tells it."""
    from clan import __version__

    config, network, how = config_of(weights), options.network, options.normalization
    iteration = snapshot_iteration(weights)
    return ModelCard(
        software=f"clan-paddle {__version__}",
        input=InputFacts(size=options.input_size, channels=how.channels, mean=how.mean, std=how.std),
        network=NetworkFacts(
            backbone=network.backbone,
            head=network.model,
            num_heads=network.num_heads,
            upsampling=options.upsampling,
            align_corners=network.align_corners,
        ),
        classes=list(space.names),
        colors=colors_of(space),
        source=SourceFacts(
            weights=weights.name,
            method=config.method.name if config else None,
            source=config.source.dataset.name if config else None,
            target=config.target.dataset.name if config else None,
            iteration=iteration or None,
        ),
        scores=_scores(weights.parent, iteration),
    )


def _scores(folder: Path, iteration: int | None) -> dict[str, float]:
    """The mean IoUs of a run's validation after an iteration."""
    found = [one.means for one in read_validations(folder / VALIDATION) if one.iteration == iteration]
    return {name: round(mean, 4) for name, mean in found[-1].items() if mean == mean} if found else {}


def label_space_of(
    weights: Path, num_classes: int, given: Path | None = None, notify: Notify = lambda sentence: None
) -> LabelSpace:
    """The classes of the run that saved the weights; without its configuration, those given, Cityscapes' or numbers.

    Args:
        weights: the file.
        num_classes: how many it knows.
        given: file or name of the classes.
        notify: takes a sentence about what was assumed.

    Raises:
        ConfigError: there are others, or another number of them.
        WeightsError: there are more than label maps can hold.
    """
    if known := trained_classes(weights, given):
        known.require_count(num_classes)
        return known.label_space
    if num_classes > MAX_CLASSES:
        raise WeightsError(f"{weights} knows {num_classes} classes, over the limit of {MAX_CLASSES}: train for fewer")
    nothing = f"nothing says which {num_classes} classes {weights} knows"
    if num_classes == CITYSCAPES.num_classes:
        notify(f"{nothing}: they are taken for those of Cityscapes; --classes names others")
        return CITYSCAPES
    notify(f"{nothing}: they are shown by number; --classes names them")
    return Classes(classes={f"class {train_id}": () for train_id in range(num_classes)}).label_space
