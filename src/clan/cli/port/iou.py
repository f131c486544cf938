"""`CLAN_iou.py` and `CLAN_iou_bulk.py`: scores of one folder of label maps, or of every one."""

from collections.abc import Sequence
from pathlib import Path

from clan.cli.commandline import Parser, ids_wording, run
from clan.cli.port import RESULTS, SNAPSHOTS
from clan.core import runtime
from clan.core.errors import DataError
from clan.core.output import speak
from clan.run.folder import iteration_of

TRUTH = Path("./data/Cityscapes/gtFine/val")
WORKBOOKS = Path("./mIoU_results")


def main(arguments: Sequence[str] | None = None) -> None:
    """`CLAN_iou.py`."""
    given = Parser(prog="CLAN_iou.py", description="IoU per class and mIoU-19, mIoU-16, mIoU-13 of label maps.")
    given.add_argument("gt_dir", type=Path, help="folder of ground truths, *_gtFine_labelIds.png")
    given.add_argument("pred_dir", type=Path, help="folder of label maps, named like the images")
    given.add_argument("--devkit_dir", "--devkit-dir", type=Path, help="folder of val.txt, label.txt and info.json")
    given.add_argument("--label-ids", action="store_true", help="label maps hold Cityscapes labelIds, not trainIds")
    given.add_argument("--classes", type=Path, help="classes of the label maps: cityscapes, synthia-16, … or a file")
    flags = given.parse_args(arguments)
    speak(ids_wording(flags.label_ids))

    from clan.evaluation.scores_file import read_classes
    from clan.evaluation.scoring import score_folders
    from clan.evaluation.tables import format_scores

    ids = "labelId" if flags.label_ids else "trainId"
    classes = read_classes(flags.pred_dir, flags.classes)
    print(
        format_scores(
            score_folders(
                flags.gt_dir, flags.pred_dir, devkit_dir=flags.devkit_dir, prediction_ids=ids, classes=classes
            )
        )
    )


def main_bulk(arguments: Sequence[str] | None = None) -> None:
    """`CLAN_iou_bulk.py`."""
    given = Parser(prog="CLAN_iou_bulk.py", description="Score every folder of label maps into a workbook and a CSV.")
    given.add_argument("gt_dir", type=Path, nargs="?", default=TRUTH, help="folder of ground truths")
    given.add_argument("pred_dir", type=Path, nargs="?", default=RESULTS, help="folder of folders RUN_ITERATION")
    given.add_argument("--devkit_dir", "--devkit-dir", type=Path, help="folder of val.txt, label.txt and info.json")
    given.add_argument("--label-ids", action="store_true", help="label maps hold Cityscapes labelIds, not trainIds")
    given.add_argument("--classes", type=Path, help="classes of the label maps: cityscapes, synthia-16, … or a file")
    given.add_argument("--save", type=Path, default=WORKBOOKS, help="folder of the workbook and the CSV")
    flags = given.parse_args(arguments)
    speak(ids_wording(flags.label_ids))

    runtime.import_paddle()
    from clan.evaluation.bulk import score_cityscapes, score_label_maps, write_workbook

    ids = "labelId" if flags.label_ids else "trainId"
    for name, folders in _runs(flags.pred_dir).items():
        folders = _of_run(SNAPSHOTS / name, folders)
        rows = score_label_maps(
            folders,
            lambda folder: score_cityscapes(
                flags.gt_dir, folder, classes=flags.classes, devkit_dir=flags.devkit_dir, prediction_ids=ids
            ),
        )
        write_workbook(rows, folders[-1], SNAPSHOTS / name, flags.save)


def _runs(root: Path) -> dict[str, list[Path]]:
    """Folders RUN_ITERATION below `root`, by run.

    Raises:
        DataError: there is none.
    """
    runs: dict[str, list[Path]] = {}
    for folder in sorted(root.iterdir() if root.is_dir() else []):
        if folder.is_dir() and iteration_of(folder.name) is not None:
            runs.setdefault(folder.name.rpartition("_")[0], []).append(folder)
    if not runs:
        raise DataError(f"{root} holds no folder RUN_ITERATION of label maps: run CLAN_evaluate_bulk.py first")
    return runs


def _of_run(run: Path, folders: list[Path]) -> list[Path]:
    """Without the label maps that are older than the run: those of an earlier one in its folder."""
    from clan.run.records import began

    start = began(run)
    older = [folder for folder in folders if start and folder.stat().st_mtime < start.timestamp()]
    for folder in older:
        print(f"{folder} was written before the run in {run} began: left out")
    left = [folder for folder in folders if folder not in older]
    if not left:
        raise DataError(f"all label maps of {run.name} are of an earlier run: run CLAN_evaluate_bulk.py again")
    return left


def entry() -> None:
    """What `CLAN_iou.py` calls."""
    run(main)


def entry_bulk() -> None:
    """What `CLAN_iou_bulk.py` calls."""
    run(main_bulk)
