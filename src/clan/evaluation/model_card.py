"""`model.yaml`: what an exported network is, written beside it and read before it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from clan.core.errors import ConfigError, WeightsError
from clan.core.files import write_file
from clan.core.output import encoded
from clan.core.schema import PositiveInt, Section, Size, load_section, refuse
from clan.core.yaml_file import to_yaml_text
from clan.datasets import Classes
from clan.datasets.colors import to_hex
from clan.datasets.labels import LabelSpace
from clan.models.normalization import ORDERS, Channels, Normalization
from clan.models.options import Upsampling

CARD = "model.yaml"

FORMAT = 1
"""The version of the file; readers refuse later ones."""

Weights = Literal["fp32", "fp16", "int8"]
Format = Literal["onnx", "paddle"]

LICENCE = (
    "The licences of the initial weights and of the training data hold for what was trained with them; "
    "many data sets of streets allow research only."
)


class InputFacts(Section):
    """What the network is given: RGB images, uint8 [N, H, W, 3], of any size."""

    size: Size
    """Width and height that images are resized to, bicubically with antialiasing."""
    resize: bool = True
    """Whether images are resized; otherwise the network sees them as they are."""
    any_size: bool = True
    """Whether `input_size`, height and width, may be given with an image in place of `size`."""
    channels: Channels
    """Order of the network's channels, after red, green and blue were normalised."""
    mean: tuple[float, float, float]
    """Of red, green and blue, in 0…255."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    """Standard deviation of red, green and blue."""


class NetworkFacts(Section):
    """What the network is."""

    backbone: str
    head: str
    num_heads: Annotated[int, Field(ge=1, le=2)]
    upsampling: Upsampling = "bilinear"
    """Interpolation of logits to the image's size."""
    align_corners: bool = True


class SourceFacts(Section):
    """The run that the weights are from."""

    weights: str
    """Name of their file."""
    method: str | None = None
    source: str | None = None
    target: str | None = None
    iteration: PositiveInt | None = None


class ModelCard(Section):
    """The content of `model.yaml`."""

    format: Literal[1] = FORMAT
    software: str
    """What wrote the file."""
    files: dict[Format, str] = Field(default={})
    """Format: name of the file in this folder; paddle: of the program, with weights in `.pdiparams` beside it."""
    weights: Weights = "fp32"
    """What the weights of the ONNX file are stored in."""
    outputs: tuple[str, ...] = ("labels", "logits")
    """Names of the outputs, in their order; see docs/export.md."""
    input: InputFacts
    network: NetworkFacts
    classes: Annotated[list[str], Field(min_length=1, max_length=254)]
    """Names in the order of their trainIds."""
    colors: dict[str, Any]
    """Class name: its display colour."""
    source: SourceFacts
    scores: dict[str, float] = Field(default={})
    """Mean IoUs on the validation images of the run, 0…1, if they are known."""
    licence: str = LICENCE

    @model_validator(mode="after")
    def _consistent(self) -> "ModelCard":
        if len(set(self.classes)) < len(self.classes):
            refuse("a class is named twice", "classes")
        for name in self.files.values():
            if Path(name).name != name:
                refuse(f"{name!r} is not the name of a file in this folder", "files")
        self.label_space  # noqa: B018 (refuses colours that are none)
        return self

    @property
    def label_space(self) -> LabelSpace:
        """Names and colours of the classes."""
        return Classes.model_validate({"classes": dict.fromkeys(self.classes, ()), "colors": self.colors}).label_space

    @property
    def normalization(self) -> Normalization:
        """How pixels become numbers."""
        return Normalization(ORDERS[self.input.channels], self.input.mean, self.input.std)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)


def colors_of(space: LabelSpace) -> dict[str, str]:
    """Class name → colour as "#rrggbb"."""
    return {name: to_hex(color) for name, color in zip(space.names, space.colors, strict=True)}


def read_card(folder: Path) -> ModelCard:
    """Reads the `model.yaml` of a folder.

    Raises:
        WeightsError: there is none.
        ConfigError: it is damaged, or of a later format.
    """
    path = folder / CARD
    if not path.is_file():
        raise WeightsError(
            f"{folder} has no {CARD}, which tells the classes and sizes of an exported network: keep the files of "
            "clan export together"
        )
    try:
        return load_section(ModelCard, path)
    except ConfigError as error:
        if "format:" in str(error):
            raise ConfigError(f"{error}: update clan-paddle, or export the network again") from None
        raise


def write_card(card: ModelCard, folder: Path) -> None:
    """Writes the `model.yaml` of a folder.

    Raises:
        DataError: it cannot be written.
    """
    text = to_yaml_text(card.model_dump(mode="json", exclude_none=True))
    write_file(folder / CARD, encoded(text), "choose another folder")
