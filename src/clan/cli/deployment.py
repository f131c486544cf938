"""`clan export`: one function per command, like in `main`."""

from pathlib import Path
from typing import Annotated, Literal

from clan.cli.flags import NetworkFlags
from clan.core import runtime
from clan.core.errors import ConfigError
from clan.core.output import speak
from clan.run.folder import require_weights


def export(  # noqa: PLR0913 (the signature is the command line)
    weights: Path,
    /,
    *,
    output: Annotated[Path | None, "-o"] = None,
    web: Path | None = None,
    web_runtime: Path | None = None,
    format: tuple[Literal["onnx", "paddle"], ...] = ("onnx", "paddle"),
    maps: Annotated[tuple[Literal["confidence", "discrepancy"], ...], "--with"] = (),
    size: tuple[int, int] | None = None,
    resize: bool = True,
    half: bool = False,
    int8: Path | None = None,
    classes: Path | None = None,
    network: NetworkFlags,
) -> None:
    """Write a network for other software: uint8 RGB images of any size in, label maps out; or a page that holds it.

    Args:
        weights: weights of a segmenter; a config.yaml beside or in them describes the network.
        output: output folder; an earlier export there is kept as FOLDER.before.
        web: HTML file to write, a page that segments pictures in a browser without a server or a network.
        web_runtime: folder of the npm package onnxruntime-web for the page; without it, npm fetches it once.
        format: onnx: model.onnx; paddle: model.json and model.pdiparams of Paddle Inference.
        maps: further outputs.
        size: width and height that images are resized to in the graph; without it, the run's.
        resize: resize images in the graph; otherwise the network sees them as they are.
        half: store the weights of model.onnx in float16, which halves the file.
        int8: folder of target images to calibrate model.onnx on, which then computes in 8 bits.
        classes: file or name of the classes, for weights without their run's config.yaml: cityscapes, synthia-16, …
        network: the network.
    """
    speak({"--input-size": "--size"})
    if output is None and web is None:
        raise ConfigError("there is nothing to write: give -o FOLDER, --web PAGE.html, or both")
    require_weights(weights)
    runtime.import_paddle()
    from clan.deployment.exporting import ExportOptions, export_weights
    from clan.serving.offline import write_page

    options = ExportOptions(format, size, resize, maps, half, int8)
    if output is None and options != ExportOptions(size=size):
        raise ConfigError("--format, --maps, --no-resize, --half and --int8 are for -o FOLDER: give it, or omit them")
    given = {name: value for name, value in network.given().items() if value is not None}
    given |= {"classes": classes, "device": "cpu"}
    if output is not None:
        card = export_weights(weights, output, options, **given)
        print(f"saved {', '.join(card.files.values())} and model.yaml in {output}")
    if web is not None:
        count = write_page(weights, web, runtime=web_runtime, input_size=size, **given)
        print(f"saved {web}, {count / 1e6:.1f} MB: open it in a browser")
