"""`CLAN_evaluate.py` and `CLAN_evaluate_bulk.py`: label maps of one snapshot, or of every one."""

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import get_args

from clan.cli.commandline import Parser, model, run, size
from clan.cli.port import RESULTS, SNAPSHOTS
from clan.core import runtime
from clan.core.errors import LESS_MEMORY, WeightsError
from clan.core.output import speak
from clan.datasets import CITYSCAPES_CLASSES
from clan.models import OutputStride
from clan.models.normalization import Scheme
from clan.run.folder import require_weights, run_folders


def add_flags(given: argparse.ArgumentParser) -> None:
    """The flags that both commands have."""
    add = given.add_argument
    add("--model", default="deeplab", type=model, help="kind of network; there is DeepLab")
    add("--data-dir", type=Path, default=Path("./data/Cityscapes"), help="the data set's folder")
    add("--data-list", type=Path, help="text file of image names, one a line")
    add("--set", default="val", help="split to evaluate")
    add("--num-classes", type=int, help="number of classes; another one than that of the classes is refused")
    add("--classes", type=Path, help="classes of weights without a config.yaml: cityscapes, synthia-16, … or a file")
    add("--ignore-label", type=int, default=255, help="trainId that is never predicted")
    add("--input-size", type=size, default=(1024, 512), help="WIDTH,HEIGHT that the network sees")
    add(
        "--output-size",
        type=size,
        help="WIDTH,HEIGHT of label maps; default: the ground truth's, else 2048,1024",
    )
    add(
        "--upsampling",
        choices=("bilinear", "bicubic"),
        help="of the logits; default: the run's, else bilinear",
    )
    add("--backbone", help="the backbone; default: the run's, else what the weights tell")
    add(
        "--output-stride",
        type=int,
        choices=get_args(OutputStride),
        help="input's resolution over the features'; default: the run's",
    )
    add("--head-dilations", type=int, nargs="+", help="dilations of a head's convolutions; default: the run's")
    add(
        "--input-normalization",
        choices=get_args(Scheme),
        help="how pixels become numbers; default: the run's, else caffe-bgr (MiT, DINOv2: imagenet-rgb)",
    )
    add("--label-ids", action="store_true", help="write Cityscapes labelIds instead of trainIds")
    add("--batch-size", type=int, default=1, help="images that the network sees at once")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="where to compute")
    add("--gpu", type=int, default=0, help="index of the GPU among the visible ones")


def evaluate_snapshots(snapshots: Sequence[tuple[Path, Path]], flags: argparse.Namespace) -> None:
    """Writes the label maps of every snapshot into its folder.

    Args:
        snapshots: pairs of weights and result folder.
        flags: see `add_flags`.
    """
    speak({"--root": "--data-dir", "--split": "--set", LESS_MEMORY: "lower --batch-size or --input-size"})
    for weights, _ in snapshots:
        require_weights(weights)
    runtime.import_paddle()
    from clan.core.device import select_device
    from clan.core.ranks import connect
    from clan.data.dataset import Dataset
    from clan.data.domains import trained_classes
    from clan.evaluation.bulk import write_label_maps

    print(f"computing on {select_device(flags.device, flags.gpu)}")
    for _, of_run in groupby(snapshots, key=lambda pair: pair[0].parent):
        pairs = list(of_run)
        classes = trained_classes(pairs[0][0], flags.classes) or CITYSCAPES_CLASSES
        write_label_maps(
            pairs,
            Dataset("cityscapes", flags.data_dir, list_file=flags.data_list, split=flags.set, classes=classes),
            connect(),
            num_classes=flags.num_classes,
            upsampling=flags.upsampling,
            backbone=flags.backbone,
            output_stride=flags.output_stride,
            head_dilations=flags.head_dilations,
            input_normalization=flags.input_normalization,
            input_size=flags.input_size,
            output_size=flags.output_size,
            label_ids=flags.label_ids,
            excluded=flags.ignore_label,
            batch_size=flags.batch_size,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """`CLAN_evaluate.py`."""
    given = Parser(prog="CLAN_evaluate.py", description="Write the label maps of one snapshot.")
    given.add_argument(
        "--restore-from",
        type=Path,
        default=SNAPSHOTS / "SYS2Cityscapes/SYS_100000.pdparams",
        help="weights of the segmenter (.pdparams, .pth, .pt, .safetensors)",
    )
    given.add_argument("--save", type=Path, default=RESULTS / "SYS2Cityscapes_100000", help="folder of label maps")
    add_flags(given)
    flags = given.parse_args(arguments)
    evaluate_snapshots([(flags.restore_from, flags.save)], flags)


def main_bulk(arguments: Sequence[str] | None = None) -> None:
    """`CLAN_evaluate_bulk.py`."""
    given = Parser(prog="CLAN_evaluate_bulk.py", description="Write the label maps of every snapshot.")
    given.add_argument(
        "--snapshot-dir", type=Path, help=f"folder of snapshots; default: every folder below {SNAPSHOTS}"
    )
    given.add_argument("--save", type=Path, default=RESULTS, help="folder of one folder RUN_ITERATION each")
    add_flags(given)
    flags = given.parse_args(arguments)
    evaluate_snapshots(_results(flags.snapshot_dir, flags.save), flags)


def _results(folder: Path | None, save: Path) -> list[tuple[Path, Path]]:
    """Every snapshot, of one run's folder or of all below `SNAPSHOTS`, and the folder of its label maps."""
    runtime.import_paddle()
    from clan.evaluation.bulk import result_folders

    folders = [folder] if folder else run_folders(SNAPSHOTS)
    if not folders:
        raise WeightsError(f"no snapshots below {SNAPSHOTS}: train first or name a folder with --snapshot-dir")
    return [pair for run_folder in folders for pair in result_folders(run_folder, save)]


def entry() -> None:
    """What `CLAN_evaluate.py` calls."""
    run(main, computes=True)


def entry_bulk() -> None:
    """What `CLAN_evaluate_bulk.py` calls."""
    run(main_bulk, computes=True)
