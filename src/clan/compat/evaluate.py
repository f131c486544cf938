"""`CLAN_evaluate.py` and `CLAN_evaluate_bulk.py`: label maps of one snapshot, or of every one."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from clan import runtime
from clan.compat.flags import Parser, model, run, size
from clan.errors import WeightsError

SNAPSHOTS = Path("./snapshots")
RESULTS = Path("./result")


def add_flags(given: argparse.ArgumentParser) -> None:
    """The flags that both commands have."""
    add = given.add_argument
    add("--model", default="deeplab", type=model, help="kind of network; there is DeepLab")
    add("--data-dir", type=Path, default=Path("./data/Cityscapes"), help="the data set's folder")
    add("--data-list", type=Path, help="text file of image names, one a line")
    add("--set", default="val", help="split to evaluate")
    add("--num-classes", type=int, help="number of classes; default: that of the run, else 19")
    add("--ignore-label", type=int, default=255, help="trainId that is never predicted")
    add("--input-size", type=size, default=(1024, 512), help="WIDTH,HEIGHT that the network sees")
    add("--output-size", type=size, help="WIDTH,HEIGHT of label maps; default: the ground truth's, else 2048,1024")
    add("--upsampling", choices=("bilinear", "bicubic"), help="of the logits; default: the run's, else bilinear")
    add("--label-ids", action="store_true", help="write Cityscapes labelIds instead of trainIds")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="where to compute")
    add("--gpu", type=int, default=0, help="index of the GPU among the visible ones")


def evaluate_snapshots(snapshots: Sequence[tuple[Path, Path]], flags: argparse.Namespace) -> None:
    """Writes the label maps of every snapshot into its folder.

    Args:
        snapshots: pairs of weights and result folder.
        flags: see `add_flags`.
    """
    runtime.import_paddle()
    from clan.data.datasets import Dataset
    from clan.engine.device import select_device
    from clan.evaluate import evaluate, load_segmenter, options_for
    from clan.reporting.console import progress

    print(f"computing on {select_device(flags.device, flags.gpu)}")
    dataset = Dataset("cityscapes", flags.data_dir, list_file=flags.data_list, split=flags.set)
    for weights, save in snapshots:
        options = options_for(
            weights,
            num_classes=flags.num_classes,
            upsampling=flags.upsampling,
            input_size=flags.input_size,
            output_size=flags.output_size,
            label_ids=flags.label_ids,
            excluded=flags.ignore_label,
        )
        segmenter = load_segmenter(weights, backbone=options.backbone, num_classes=options.num_classes)
        with progress(f"evaluating {weights.stem}", len(dataset)) as advance:
            evaluate(segmenter, dataset, save, options=options, on_image=lambda name: advance(status=name))
        print(f"{weights}: {len(dataset)} label maps in {save}")


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
    """Every snapshot and the folder of its label maps, RUN_ITERATION."""
    from clan.snapshots import find_snapshots

    folders = [folder] if folder else sorted({path.parent for path in SNAPSHOTS.glob("*/*.pdparams")})
    if not folders:
        raise WeightsError(f"no snapshots below {SNAPSHOTS}: train first or name a folder with --snapshot-dir")
    return [
        (snapshot.path, save / f"{run_folder.resolve().name}_{snapshot.iteration or snapshot.path.stem}")
        for run_folder in folders
        for snapshot in find_snapshots(run_folder)
    ]


def entry() -> None:
    """What `CLAN_evaluate.py` calls."""
    run(main)


def entry_bulk() -> None:
    """What `CLAN_evaluate_bulk.py` calls."""
    run(main_bulk)
