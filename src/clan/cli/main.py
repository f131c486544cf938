"""`clan`: one function per command; its signature defines the arguments, its docstring the help."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from clan import __version__
from clan.cli.arguments import parse_call
from clan.cli.commandline import fail, ids_wording, run
from clan.cli.deployment import export
from clan.cli.flags import DeviceFlags, NetworkFlags, ViewFlags
from clan.cli.plan import plan_command
from clan.cli.selection import select
from clan.cli.server import serve
from clan.cli.show import convert, inspect, predict, report
from clan.cli.suggestion import suggest
from clan.cli.train import train_command
from clan.core import runtime
from clan.core.errors import LESS_MEMORY, ConfigError
from clan.core.output import speak
from clan.core.runtime import Precision

Size = tuple[int, int]

SUMMARY = f"""clan {__version__}: category-level adversarial domain adaptation for semantic segmentation.

usage: clan COMMAND [options]; clan COMMAND --help describes one.

  train     train from a preset or a config.yaml; every field is a flag
  plan      what such a run will take: steps, images, hours, memory, disk; and what makes it fit
  evaluate  label maps and scores of one snapshot, or of a folder of them
  iou       score a folder of label maps
  select    choose a snapshot, or a run, without labels of the target
  suggest   rank target images that are worth labelling, for clan train --target-labels
  report    scores, curves and pictures of runs as one HTML page
  inspect   discrepancy of the heads, accuracy of the discriminator, alignment of features
  predict   label maps, overlays and maps of confidence for images or a video
  serve     a page and an HTTP endpoint to try a network
  data      check: read every file of a data set; init: propose a description of a folder
  export    a network for other software: ONNX, Paddle Inference
  convert   rewrite weights: .pdparams, .safetensors, .pth
  doctor    this machine, its Paddle and its settings, and which of them are slow
  demo      draw two small worlds, adapt from one to the other, show the scores
"""


def evaluate_command(  # noqa: PLR0913 (the signature is the command line)
    weights: Path,
    /,
    *,
    domain: str | None = None,
    data_dir: Path | None = None,
    data_list: Path | None = None,
    split: str | None = None,
    save: Path = Path("result"),
    workbooks: Path = Path("mIoU_results"),
    input_size: Size | None = None,
    output_size: Size | None = None,
    classes: Path | None = None,
    network: NetworkFlags,
    label_ids: bool = False,
    batch_size: int = 1,
    views: ViewFlags,
    precision: Precision = "fp32",
    where: DeviceFlags,
) -> None:
    """Write label maps and score them; for a folder of snapshots also write a workbook and a CSV.

    Args:
        weights: weights of a segmenter, or a folder of snapshots.
        domain: data set, a description file or cityscapes; without it, the run's target, else cityscapes.
        data_dir: the data set's folder; without it, the run's or the description's, else data/Cityscapes.
        data_list: text file of image names, one per line; without it, the whole split.
        split: split to evaluate; without it, val, or test where there is no val.
        save: folder of label maps, one folder RUN_ITERATION per snapshot.
        workbooks: folder of the workbook and the CSV.
        input_size: width and height of the network's input; without it, the run's, else 1024 512.
        output_size: width and height of label maps; without it, the ground truth's, or the image's.
        classes: file or name of the classes, for weights without their run's config.yaml: cityscapes, synthia-16, …
        network: the network.
        label_ids: write Cityscapes labelIds, for its benchmark server.
        batch_size: images, or views of one, per forward pass; more than one can be faster on a GPU.
        views: how often the network looks.
        precision: precision of convolutions and matrix products on a GPU.
        where: the device.
    """
    speak(
        {"--root": "--data-dir", LESS_MEMORY: "lower --batch-size or --input-size, or give --precision bf16 on a GPU"}
    )
    given = {**network.given(), "input_size": input_size, "output_size": output_size, "views": views.given(input_size)}
    where.select(precision)
    from clan.data.domains import evaluation_dataset
    from clan.evaluation.bulk import evaluate_and_score

    dataset = evaluation_dataset(
        weights, domain=domain, data_dir=data_dir, data_list=data_list, split=split, classes=classes
    )
    given |= {"label_ids": label_ids, "batch_size": batch_size, "precision": precision}
    evaluate_and_score(weights, dataset, save, workbooks, **given)


def iou_command(
    truth: Path,
    predictions: Path,
    /,
    *,
    devkit_dir: Path | None = None,
    split: str | None = None,
    classes: Path | None = None,
    label_ids: bool = False,
) -> None:
    """Print the IoU of every class, and mIoU-19, mIoU-16 and mIoU-13, or the means of other classes.

    Args:
        truth: folder of ground truths, *_gtFine_labelIds.png, or a description file.
        predictions: folder of label maps, named like the images.
        devkit_dir: folder of val.txt, label.txt and info.json.
        split: split of a described data set; without it, val, or test where there is no val.
        classes: file of the classes of the label maps, or cityscapes, synthia-16, synthia-13; without it, classes.json
            beside the label maps, else the description's own, or Cityscapes'.
        label_ids: label maps have Cityscapes labelIds instead of trainIds.
    """
    from clan.data.dataset import Dataset
    from clan.data.domains import DESCRIPTION_SUFFIXES, choose_split, named_domain, require_names, require_splits
    from clan.evaluation.scores_file import read_classes
    from clan.evaluation.scoring import score_dataset, score_folders
    from clan.evaluation.tables import format_scores

    speak({"with --root": "as root in its description", **ids_wording(label_ids)})
    ids = "labelId" if label_ids else "trainId"
    if truth.suffix in DESCRIPTION_SUFFIXES:
        if devkit_dir:
            raise ConfigError(f"{truth} describes the data set itself: omit --devkit-dir {devkit_dir}")
        named = named_domain(str(truth))
        require_names(named.description)
        require_splits(named.description, split)
        split = split or choose_split(named.description, named.root, "val", "test")
        space = read_classes(predictions, classes, named.classes)
        dataset = Dataset(named.description, named.root, split=split, classes=space)
        scores = score_dataset(dataset, predictions, prediction_ids=ids)
    elif split:
        raise ConfigError(f"{truth} is no description file, whose splits have names: omit --split {split}")
    else:
        space = read_classes(predictions, classes)
        scores = score_folders(truth, predictions, devkit_dir=devkit_dir, prediction_ids=ids, classes=space)
    print(format_scores(scores))


def doctor_command(*, json: bool = False, selftest: bool = False) -> None:
    """Show this machine, its Paddle and its settings, and which of them make training slow.

    Args:
        json: print JSON.
        selftest: compute a small case at every precision, compare it with recorded numbers and time training steps, in
            one to two minutes; exit code 1 when something deviates or could not be computed.
    """
    from json import dumps

    from clan.cli.doctor import broken_gpu, complaints, examine, report
    from clan.core.files import finite

    facts = examine()
    found = {**facts, "complaints": complaints(facts)}
    text, deviates = report(facts), selftest
    if selftest and facts["paddle"]["version"]:
        from clan.cli import selftest as test

        results = test.run_selftest(broken=broken_gpu(facts["paddle"]))
        found["selftest"] = test.as_json(results)
        text += "\n" + test.report(results)
        deviates = any(result.deviations for result in results)
    print(dumps(finite(found), indent=2, allow_nan=False) if json else text)
    if deviates:
        raise SystemExit(1)


def demo_command(folder: Path = Path("demo"), /, *, steps: int = 300, seed: int = 0) -> None:
    """Draw a rendered and a camera world, train source-only and CLAN, score both on the camera's.

    Args:
        folder: output folder.
        steps: iterations of each of the two runs.
        seed: random seed of the worlds and of training.
    """
    speak(
        {
            "another --snapshot-dir": "another folder",
            "go on with --resume": "start the demo again",
            "or save less often (--save-every)": "or give fewer --steps",
            "lower the learning rates, look at these samples": "give another --seed",
            ", or go on without such steps (--resume --on-nonfinite skip)": "",
            "start without --resume": "name another folder",
            LESS_MEMORY: "stop other programs that use it",
            "--data-timeout sets how long to wait": "start the demo again",
        }
    )
    runtime.import_paddle()
    from clan.cli.demo import run_demo

    run_demo(folder, steps=steps, seed=seed)


def data_check(
    domain: str,
    /,
    *,
    split: str | None = None,
    root: Path | None = None,
    classes: Path | None = None,
    sheet: Path | None = None,
    json: bool = False,
) -> None:
    """Read every file of a data set; exit code 1 if a file cannot be used.

    Args:
        domain: description file, or synthia, gta5, cityscapes.
        split: split to read; without it, all.
        root: the data set's folder; without it, the description's.
        classes: file of the classes to merge into, or cityscapes, synthia-16, synthia-13; without it, the description's
            own.
        sheet: PNG of ten images and their overlays; without it, NAME_SPLIT.png.
        json: print JSON instead of text.
    """
    from clan.cli.data import check_data

    if not check_data(domain, split=split, root=root, classes=classes, sheet=sheet, as_json=json):
        raise SystemExit(1)


def data_init(
    folder: Path,
    /,
    *,
    output: Annotated[Path | None, "-o"] = None,
) -> None:
    """Propose a description of a folder.

    Args:
        folder: folder with images and possibly labels.
        output: file to write; without it, FOLDER.yaml.
    """
    from clan.cli.data import init_data

    init_data(folder, output)


COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate_command,
    "iou": iou_command,
    "select": select,
    "suggest": suggest,
    "predict": predict,
    "report": report,
    "inspect": inspect,
    "export": export,
    "serve": serve,
    "convert": convert,
    "doctor": doctor_command,
    "demo": demo_command,
}


FROM_CONFIGURATION: dict[str, Callable[[Sequence[str]], None]] = {"train": train_command, "plan": plan_command}
"""Commands with a flag for every option of the configuration."""

DATA_COMMANDS: dict[str, Callable[..., None]] = {"check": data_check, "init": data_init}


def data_command(arguments: Sequence[str]) -> None:
    """Runs `clan data COMMAND`."""
    command, *rest = arguments or ("--help",)
    if command in ("-h", "--help"):
        print("usage: clan data {check,init} …; clan data check --help describes one")
    elif command in DATA_COMMANDS:
        parse_call(DATA_COMMANDS[command], f"clan data {command}", rest)()
    else:
        fail(f"{command!r} is not a command on data: there are check and init")


def dispatch(arguments: Sequence[str]) -> None:
    """Runs the command named by the first argument."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(SUMMARY, end="")
        return
    command, *rest = arguments
    if command == "--version":
        print(f"clan {__version__}")
    elif command in FROM_CONFIGURATION:
        FROM_CONFIGURATION[command](rest)
    elif command == "data":
        data_command(rest)
    elif command in COMMANDS:
        parse_call(COMMANDS[command], f"clan {command}", rest)()
    else:
        fail(f"{command!r} is not a command: see clan --help")


COMPUTING = ("train", "plan", "evaluate", "select", "suggest", "inspect", "predict", "serve", "doctor", "demo")
"""Commands that run networks, or measure how fast they are."""


def main() -> None:
    """Entry point of the `clan` script."""
    run(lambda: dispatch(sys.argv[1:]), computes=any(command in COMPUTING for command in sys.argv[1:2]))
