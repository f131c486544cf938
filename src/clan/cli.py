"""`clan`: the command line, one small function a command; what each takes is its signature."""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from clan import __version__, runtime
from clan.commandline import fail, run
from clan.recipes import PRESETS, Preset, Source

Size = tuple[int, int]

SUMMARY = f"""clan {__version__}: category-level adversarial domain adaptation for semantic segmentation.

usage: clan COMMAND [options]; clan COMMAND --help tells all about one.

  train     train from a preset or a config.yaml; every field is a flag
  evaluate  label maps and scores of one snapshot, or of a folder of them
  iou       score a folder of label maps
  report    scores, curves and pictures of runs as one HTML page
  predict   label maps, overlays and maps of confidence for images or a video
  convert   rewrite weights: .pdparams, .safetensors, .pth
  doctor    this machine, its Paddle and its settings, and what of them is slow
  demo      draw two small worlds, adapt from one to the other, show what it gave
"""


def evaluate(  # noqa: PLR0913 (the signature is the command line)
    weights: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    data_dir: Path = Path("data/Cityscapes"),
    data_list: Path | None = None,
    split: str = "val",
    save: Path = Path("result"),
    workbooks: Path = Path("mIoU_results"),
    input_size: Size = (1024, 512),
    output_size: Size | None = None,
    num_classes: int | None = None,
    upsampling: Literal["bilinear", "bicubic"] | None = None,
    label_ids: bool = False,
    batch_size: int = 1,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    gpu: int = 0,
) -> None:
    """Write label maps and score them; a folder of snapshots gives a workbook and a CSV too.

    Args:
        weights: weights of a segmenter, or a folder of snapshots.
        data_dir: folder of the Cityscapes data set.
        data_list: text file of image names, one a line; without it, the whole split.
        split: split to evaluate.
        save: folder of label maps, one folder RUN_ITERATION per snapshot.
        workbooks: folder of the workbook and the CSV.
        input_size: width and height that the network sees.
        output_size: width and height of label maps; without it, the ground truth's.
        num_classes: number of classes; without it, the run's, else 19.
        upsampling: of the logits; without it, the run's, else bilinear.
        label_ids: write Cityscapes labelIds, as its benchmark server wants.
        batch_size: images that the network sees at once; more than one can help on a GPU.
        device: where to compute.
        gpu: index of the GPU among the visible ones.
    """
    runtime.import_paddle()
    from clan.bulk import evaluate_and_score
    from clan.data.datasets import Dataset
    from clan.engine.device import select_device

    select_device(device, gpu)
    evaluate_and_score(
        weights,
        Dataset("cityscapes", data_dir, list_file=data_list, split=split),
        save,
        workbooks,
        num_classes=num_classes,
        upsampling=upsampling,
        input_size=input_size,
        output_size=output_size,
        label_ids=label_ids,
        batch_size=batch_size,
    )


def iou(
    truth: Annotated[Path, tyro.conf.Positional],
    predictions: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    devkit_dir: Path | None = None,
    label_ids: bool = False,
) -> None:
    """Print the IoU of every class, and mIoU-19, mIoU-16 and mIoU-13.

    Args:
        truth: folder of ground truths, *_gtFine_labelIds.png.
        predictions: folder of label maps, named like the images.
        devkit_dir: folder of val.txt, label.txt and info.json.
        label_ids: label maps hold Cityscapes labelIds instead of trainIds.
    """
    from clan.reporting.console import format_scores
    from clan.scoring import score_with_progress

    ids = "labelId" if label_ids else "trainId"
    print(format_scores(score_with_progress(truth, predictions, devkit_dir=devkit_dir, prediction_ids=ids)))


def predict(  # noqa: PLR0913 (the signature is the command line)
    source: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    weights: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("predictions"),
    labels: bool = True,
    overlay: bool = True,
    confidence: bool = True,
    discrepancy: bool = True,
    opacity: float = 0.55,
    input_size: Size | None = None,
    num_classes: int | None = None,
    upsampling: Literal["bilinear", "bicubic"] | None = None,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    gpu: int = 0,
) -> None:
    """Segment an image, a folder of images or a video, and show how sure the network is.

    Args:
        source: an image, a folder of images or a video.
        weights: weights of a segmenter; a run's config.yaml beside them says what network it is.
        output: folder of the results.
        labels: write label maps and colour masks.
        overlay: write the colours over the image.
        confidence: write maps of the largest class probability.
        discrepancy: write maps of where the two heads disagree.
        opacity: opacity of the colours in the overlay, 0 to 1.
        input_size: width and height that the network sees; without it, each image's proportions are kept.
        num_classes: number of classes; without it, the run's, else 19.
        upsampling: of the logits; without it, the run's, else bilinear.
        device: where to compute.
        gpu: index of the GPU among the visible ones.
    """
    runtime.import_paddle()
    from clan.engine.device import select_device
    from clan.predict import Products
    from clan.predict import predict as run_prediction

    select_device(device, gpu)
    products = Products(labels, overlay, confidence, discrepancy, opacity)
    given = {"num_classes": num_classes, "upsampling": upsampling, "input_size": input_size}
    count = run_prediction(source, weights, output, products=products, **given)
    print(f"{count} {'image' if count == 1 else 'images'} in {output}; legend.png tells what the colours mean")


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html"),
    results: tuple[Path, ...] = (Path("result"),),
    evaluations: tuple[Path, ...] = (),
    images: int = 6,
) -> None:
    """Show what runs learnt as one HTML page that needs no network: scores, curves, confusion, pictures, cost.

    Args:
        runs: folders of runs, finished or still going; differences are to the first.
        output: the HTML file.
        results: where clan evaluate wrote its folders of label maps; the folder "result" beside a run is searched too.
        evaluations: folders of label maps to show, one for every run in order, instead of searching.
        images: pictures in the gallery, half of them the worst, half the best.
    """
    runtime.import_paddle()
    from clan.report import make_report

    page = make_report(runs, output, results=results, evaluations=evaluations, images=images)
    for view in page.runs:
        for text, command in view.missing:
            print(f"{view.name}: {text} {command}")
    print(f"saved {output}")


def convert(source: Annotated[Path, tyro.conf.Positional], target: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Rewrite weights in the format of the target's suffix, under that format's usual names.

    Args:
        source: .pdparams, .pth, .pt or .safetensors; nothing that it holds is executed.
        target: .pdparams, .safetensors, .pth or .pt.
    """
    from clan.models.weights import convert as rewrite

    print(f"{rewrite(source, target)} arrays written to {target}")


def doctor(*, json: bool = False) -> None:
    """Tell what this machine, its Paddle and its settings are, and what of them makes training slow.

    Args:
        json: print it as JSON.
    """
    from json import dumps

    from clan.doctor import complaints, examine, report

    facts = examine()
    print(dumps({**facts, "complaints": complaints(facts)}, indent=2) if json else report(facts))


def demo(folder: Annotated[Path, tyro.conf.Positional] = Path("demo"), /, *, steps: int = 300, seed: int = 0) -> None:
    """Draw a rendered and a camera world, train source-only and CLAN, score both on the camera's.

    Args:
        folder: where everything is written.
        steps: iterations of each of the two runs.
        seed: seed of the worlds and of training.
    """
    runtime.import_paddle()
    from clan.demo.run import run_demo

    run_demo(folder, steps=steps, seed=seed)


def train(arguments: Sequence[str]) -> None:
    """Train from a preset or a config.yaml, with any field overridden."""
    from clan.commandline import Parser
    from clan.config import Config, load

    start = Parser(prog="clan train", add_help=False)
    start.add_argument("--preset", choices=PRESETS, default="official")
    start.add_argument("--source", choices=("synthia", "gta5"), default="synthia")
    start.add_argument("--config", type=Path)
    start.add_argument("--resume", action="store_true")
    flags, rest = start.parse_known_args(arguments)
    preset: Preset = flags.preset
    source: Source = flags.source
    base = load(flags.config) if flags.config else PRESETS[preset](source)
    config = parse(
        Config,
        prog="clan train",
        description=(
            "Train a segmenter. First choose where to start from: --preset {official,paper,seed,best} (official), "
            "--source {synthia,gta5} (synthia), or --config FILE, the config.yaml of another run; --resume "
            "continues the run in the snapshot folder. Then override any field; the defaults shown are those of "
            "what you chose."
        ),
        default=base,
        args=rest,
    )
    runtime.import_paddle()
    from clan.train import train as run_training

    run_training(config, resume=flags.resume)


def parse(target: Callable[..., Any], **options: Any) -> Any:
    """`tyro.cli`, with what it finds wrong as one sentence instead of a framed panel."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(target, **options)
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        fail(f"{_sentence(complaint.getvalue(), options['args'])}; see {options['prog']} --help")


def _sentence(panel: str, arguments: Sequence[str]) -> str:
    """What a panel of tyro's says, without its frame and pydantic's machinery, with the value it is about."""
    text = " ".join(re.sub(r"[─│╭╮╰╯]|-{3,}|\|", " ", panel).split())
    text = re.sub(r" \[type=\w+, input_value=(.*?), input_type=\w+\]", r", got \1", text)
    text = re.sub(r" For further information visit \S+| For full helptext.*| see helptext.*", "", text)
    flag = re.search(r"argument '(--[\w.-]+)'", text)
    if flag and flag[1] in arguments:
        text += f" Given: {' '.join(arguments[arguments.index(flag[1]) :][:2])}"
    text = re.sub(
        r" Argument helptext: .*|Error parsing (?!--)[^:]*: |Value error, |\d+ validation errors? for \S+ |, got \{.*",
        "",
        text,
    )
    title = r"^(Value error|Missing argument|Parsing error|Required options|Unrecognized options) "
    return re.sub(title, "", text).strip(" .")


COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate,
    "iou": iou,
    "predict": predict,
    "report": report,
    "convert": convert,
    "doctor": doctor,
    "demo": demo,
}


def dispatch(arguments: Sequence[str]) -> None:
    """Runs the command that the first argument names."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(SUMMARY, end="")
        return
    command, *rest = arguments
    if command == "--version":
        print(f"clan {__version__}")
    elif command == "train":
        train(rest)
    elif command in COMMANDS:
        parse(COMMANDS[command], prog=f"clan {command}", args=rest)
    else:
        fail(f"{command!r} is not a command: see clan --help")


def main() -> None:
    """What the `clan` script calls."""
    run(lambda: dispatch(sys.argv[1:]))
