"""`clan predict`, `clan report`, `clan inspect` and `clan convert`: one function per command, like in `main`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from clan.cli.flags import DeviceFlags, NetworkFlags, ViewFlags
from clan.core import runtime
from clan.core.errors import LESS_MEMORY, ConfigError
from clan.core.output import speak
from clan.core.runtime import Precision
from clan.run.folder import require_weights

NO_GPU = "stop other programs that use it, or compute on the CPU by --device cpu"


def predict(  # noqa: PLR0913 (the signature is the command line)
    source: Path,
    /,
    *,
    weights: Path | None = None,
    model: Path | None = None,
    output: Annotated[Path, "-o"] = Path("predictions"),
    labels: bool = True,
    overlay: bool = True,
    confidence: bool = True,
    discrepancy: bool = True,
    opacity: float = 0.55,
    strict: bool = False,
    input_size: tuple[int, int] | None = None,
    classes: Path | None = None,
    network: NetworkFlags,
    views: ViewFlags,
    precision: Precision = "fp32",
    where: DeviceFlags,
) -> None:
    """Segment an image, a folder of images or a video, and show the network's confidence.

    Args:
        source: an image, a folder of images or a video.
        weights: weights of a segmenter; a config.yaml beside or in them describes the network.
        model: a folder or .onnx file of clan export, instead of weights; ONNX needs no Paddle.
        output: output folder.
        labels: write label maps and colour masks.
        overlay: write images with the colours over them.
        confidence: write maps of the largest class probability.
        discrepancy: write maps of the two heads' discrepancy.
        opacity: opacity of the colours in the overlay, 0 to 1.
        strict: stop at the first unreadable image of a folder; otherwise unreadable images are listed at the end.
        input_size: width and height of the network's input; without it, each image's aspect ratio is kept.
        classes: file or name of the classes, for weights without their run's config.yaml: cityscapes, synthia-16, …
        network: the network.
        views: how often the network looks.
        precision: precision of convolutions and matrix products on a GPU.
        where: the device.
    """
    speak({LESS_MEMORY: "lower --input-size, or give --precision bf16 on a GPU"})
    opened = _one_of(weights, model)
    from clan.evaluation.prediction import Products, is_video
    from clan.evaluation.prediction import predict as run_prediction

    products = Products(labels, overlay, confidence, discrepancy, opacity)
    given = {**network.given(), "input_size": input_size, "classes": classes, "views": views.given(input_size)}
    given |= {"device": where.device, "precision": precision if precision != "fp32" else None, "gpu": where.gpu or None}
    damaged: list[str] = []
    skip = None if strict else lambda error: damaged.append(str(error))
    count = run_prediction(source, opened, output, products=products, on_damaged=skip, **given)
    if count:
        kind = "frame" if is_video(source) else "image"
        print(f"{count} {kind}{'s' * (count != 1)} in {output}; legend.png tells what the colours mean")
    _end_with(damaged, count)


def _end_with(damaged: Sequence[str], count: int) -> None:
    """Ends with exit code 1 if images could not be read, which are listed."""
    if damaged:
        print(
            f"{len(damaged)} of {count + len(damaged)} images could not be read and have no results:", file=sys.stderr
        )
        print(*(f"  {sentence}" for sentence in damaged), sep="\n", file=sys.stderr)
        raise SystemExit(1)


def _one_of(weights: Path | None, model: Path | None) -> Path:
    """The network to predict with.

    Raises:
        ClanError: it does not exist, or not exactly one is given.
    """
    if (weights is None) == (model is None):
        raise ConfigError("give one network: --weights of a run, or --model from clan export")
    if weights is not None:
        require_weights(weights)
        return weights
    from clan.evaluation.model import require_exported

    assert model is not None
    require_exported(model)
    return model


def report(
    runs: tuple[Path, ...],
    /,
    *,
    output: Annotated[Path, "-o"] = Path("report.html"),
    results: tuple[Path, ...] = (Path("result"),),
    evaluations: tuple[Path, ...] = (),
    images: int = 6,
) -> None:
    """Write one self-contained HTML page about runs: scores, curves, confusion, pictures, cost.

    Args:
        runs: folders of runs, finished or running; differences are relative to the first.
        output: the HTML file.
        results: output folders of clan evaluate; the folder "result" beside a run is searched too.
        evaluations: folders of label maps to show, one for every run in order, instead of searching.
        images: pictures in the gallery, half of them the worst, half the best.
    """
    speak({"or name its folder with --root": "or give --images 0"})
    if images < 0:
        raise ConfigError(f"--images {images} is no number of images: give 0 or more")
    runtime.import_paddle()
    from clan.reporting.page import make_report

    page = make_report(runs, output, results=results, evaluations=evaluations, images=images)
    for notice in page.notices:
        print(notice)
    for view in page.runs:
        for text, command in view.missing:
            print(f"{view.name}: {text} {command}")
    print(f"saved {output}")


def inspect(  # noqa: PLR0913 (the signature is the command line)
    run: Path,
    /,
    *,
    output: Annotated[Path | None, "-o"] = None,
    split: str | None = None,
    images: int = 20,
    snapshots: int = 8,
    points: int = 50,
    against: Path | None = None,
    data_dir: Path | None = None,
    data_dir_target: Path | None = None,
    seed: int = 0,
    where: DeviceFlags,
) -> None:
    """Draw the heads' discrepancy, the discriminator's accuracy and the alignment of features of both domains.

    Args:
        run: folder of a run, finished or running; its files are not changed.
        output: folder of figures and inspect.json; without it, the run's folder inspect, which clan report reads.
        split: split of the target; without it, val, or test where there is no val.
        images: number of images of each domain.
        snapshots: maximum number of snapshots, evenly chosen, including the first and the last.
        points: number of cells per class and domain in the feature maps.
        against: folder of another run, such as source-only, whose last features are shown beside this run's.
        data_dir: the source's folder; without it, the run's.
        data_dir_target: the target's folder; without it, the run's.
        seed: random seed of the choice of images and cells.
        where: the device.
    """
    speak(
        {
            "--source.root": "--data-dir",
            "--target.root": "--data-dir-target",
            "--root": "--data-dir-target",
            LESS_MEMORY: NO_GPU,
        }
    )
    where.select()
    from clan.reporting.inspection.run import inspect_run
    from clan.reporting.inspection.subject import Options

    options = Options(split, images, snapshots, points, against, data_dir, data_dir_target, seed)
    for remark in inspect_run(run, output, options=options).remarks:
        print(remark)
    print(f"saved {output or run / 'inspect'}")


def convert(
    source: Path,
    target: Path,
    /,
    *,
    take: str | None = None,
    overwrite: bool = False,
) -> None:
    """Convert weights to the format of the target's suffix, together with their run's config.yaml.

    Args:
        source: .pdparams, .pth, .pt or .safetensors; no code in it is executed.
        target: .pdparams, .safetensors, .pth or .pt.
        take: key or prefix of the network to take, such as ema, from a file with several.
        overwrite: replace files that exist.
    """
    from clan.run.weights_config import convert as rewrite

    found, kept = rewrite(source, target, take=take, overwrite=overwrite)
    for note in found.notes:
        print(f"{source}: {note}")
    print(f"{len(found.arrays)} arrays written to {target}")
    print(f"classes and options kept in {kept}" if kept else f"no config.yaml beside {source}: classes are not kept")
