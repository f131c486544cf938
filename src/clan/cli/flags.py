"""Groups of flags that several commands share: a parameter annotated with one of them becomes its flags."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from clan.core.runtime import Precision
from clan.models import OutputStride
from clan.models.normalization import Scheme

if TYPE_CHECKING:
    from clan.evaluation.views import Views


@dataclass(frozen=True)
class NetworkFlags:
    """The network of weights, where it differs from their run's config.yaml or there is none.

    Args:
        num_classes: number of classes; without it, the run's, else recognised from the weights.
        upsampling: of the logits; without it, the run's, else bilinear.
        backbone: name of the backbone; without it, the run's, else recognised from the weights.
        output_stride: input resolution / feature resolution; without it, the run's, else 8, or 32 for daformer heads.
        head_dilations: dilations of a head's convolutions; without it, the run's, else 6 12 18 24.
        input_normalization: input normalisation; without it, the run's, else caffe-bgr, of MiT and DINOv2 imagenet-rgb.
    """

    num_classes: int | None = None
    upsampling: Literal["bilinear", "bicubic"] | None = None
    backbone: str | None = None
    output_stride: OutputStride | None = None
    head_dilations: tuple[int, ...] | None = None
    input_normalization: Scheme | None = None

    def given(self) -> dict[str, Any]:
        """The values by name, as `clan.evaluation.label_maps.options_for` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class ViewFlags:
    """How often and in which parts the network looks at an image, whose results are averaged.

    Args:
        window: width and height of windows that slide over each image at its own size, or that of --input-size.
        overlap: share of a window's side that the next one sees too, 0 to 0.9; without it, 0.25.
        tta: views to average: flip, and scales such as 1 1.25 1.5.
        tta_average: what is averaged over windows and views.
    """

    window: tuple[int, int] | None = None
    overlap: float | None = None
    tta: tuple[str, ...] = ()
    tta_average: Literal["probabilities", "logits"] = "probabilities"

    def given(self, input_size: tuple[int, int] | None) -> "Views":
        """The views of images that are resized to `input_size`, if it is given.

        Raises:
            ConfigError: a value does not fit.
        """
        from clan.evaluation.views import Views

        return Views.given(
            window=self.window,
            overlap=self.overlap,
            tta=self.tta,
            tta_average=self.tta_average,
            input_size=input_size,
        )


@dataclass(frozen=True)
class DeviceFlags:
    """Where to compute.

    Args:
        device: device to compute on; auto: the GPU if Paddle finds one.
        gpu: index among the visible GPUs.
    """

    device: Literal["auto", "cpu", "gpu"] = "auto"
    gpu: int = 0

    def select(self, precision: Precision = "fp32") -> None:
        """Loads Paddle, chooses the device and prints what a user should know about the precision on it.

        Raises:
            ConfigError: there is no such device, or it does not have the precision.
        """
        from clan.core import runtime

        runtime.import_paddle()
        from clan.core.device import select_device
        from clan.core.precision import check_precision

        select_device(self.device, self.gpu)
        if remark := check_precision(precision):
            print(remark)
