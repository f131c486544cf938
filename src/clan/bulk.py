"""Evaluating and scoring one snapshot or many: what `clan evaluate` and the seed's commands share."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clan.data.datasets import Dataset
from clan.engine.distributed import ALONE, Ranks, connect
from clan.evaluate import evaluate, load_segmenter, options_for
from clan.labels import CITYSCAPES
from clan.metrics.iou import Scores, score
from clan.reporting.console import format_scores, progress
from clan.reporting.excel import SnapshotScore, write_bulk
from clan.scoring import PredictionIds, count_with_progress
from clan.snapshots import find_snapshots, iteration_of


def result_folders(folder: Path, save: Path) -> list[tuple[Path, Path]]:
    """Every snapshot of a run's folder, and the folder RUN_ITERATION below `save` for its label maps."""
    run_name = folder.resolve().name
    return [
        (
            snapshot.path,
            save / f"{run_name}_{snapshot.path.stem if snapshot.iteration is None else snapshot.iteration}",
        )
        for snapshot in find_snapshots(folder)
    ]


def write_label_maps(snapshots: Iterable[tuple[Path, Path]], dataset: Dataset, ranks: Ranks, **given: Any) -> None:
    """Writes the label maps of every (weights, folder), showing progress; ranks share the images.

    Args:
        snapshots: pairs of weights and the folder for their label maps.
        dataset: the images.
        ranks: the processes that do it together.
        given: see `clan.evaluate.options_for`.
    """
    share = dataset.part(ranks.share(dataset.names))
    for weights, save in snapshots:
        with ranks.together():
            options = options_for(weights, **given)
            segmenter = load_segmenter(
                weights,
                backbone=options.backbone,
                num_classes=options.num_classes,
                output_stride=options.output_stride,
                head_dilations=options.head_dilations,
            )
            with progress(f"evaluating {weights.stem}", len(share)) as advance:
                evaluate(segmenter, share, save, options=options, on_image=lambda _: advance())
        print(f"{weights}: {len(dataset)} label maps in {save}")


def score_label_maps(
    truth: Path,
    folders: Sequence[Path],
    *,
    devkit_dir: Path | None = None,
    images: Sequence[str] | None = None,
    label_ids: bool = False,
    ranks: Ranks = ALONE,
) -> list[SnapshotScore]:
    """Scores every folder of label maps, printing its means."""
    rows = []
    for folder in folders:
        scores = _score(truth, folder, ranks, devkit_dir=devkit_dir, images=images, label_ids=label_ids)
        print(folder.name, *(f"{mean} {100 * value:.2f}" for mean, value in scores.means.items()), sep="  ")
        rows.append(SnapshotScore(folder.name, iteration_of(folder.name), scores))
    return rows


def write_workbook(rows: Sequence[SnapshotScore], run_name: str, save: Path) -> None:
    """Writes a run's workbook and CSV; the best row is that of the mean its source is scored on."""
    headline = "mIoU-19" if run_name.upper().startswith("GTA") else "mIoU-13"
    for path in write_bulk(rows, save, run_name, CITYSCAPES, headline=headline):
        print(f"saved {path}")


def _score(
    truth: Path, folder: Path, ranks: Ranks, *, images: Sequence[str] | None, label_ids: bool, **options: Any
) -> Scores:
    """Scores a folder of label maps; ranks share the images and add up what they counted."""
    ids: PredictionIds = "labelId" if label_ids else "trainId"
    share = None if images is None else ranks.share(images)
    with ranks.together():
        counts, label_space = count_with_progress(truth, folder, images=share, prediction_ids=ids, **options)
    return score(ranks.sum(counts), label_space)


def evaluate_and_score(weights: Path, dataset: Dataset, save: Path, workbooks: Path, **given: Any) -> None:
    """Label maps and scores of a snapshot, or of every one in a folder, with a workbook then.

    Args:
        weights: a file of weights or a folder of snapshots.
        dataset: the images; its ground truth is scored against.
        save: parent of the folders of label maps.
        workbooks: folder of the workbook and the CSV.
        given: see `clan.evaluate.options_for`.
    """
    ranks = connect()
    truth = dataset.root / "gtFine" / dataset.split
    label_ids = bool(given.get("label_ids"))
    if weights.is_dir():
        snapshots = result_folders(weights, save)
        write_label_maps(snapshots, dataset, ranks, **given)
        folders = [folder for _, folder in snapshots]
        rows = score_label_maps(truth, folders, images=dataset.names, label_ids=label_ids, ranks=ranks)
        if ranks.first:
            write_workbook(rows, weights.resolve().name, workbooks)
        return
    folder = save / f"{weights.resolve().parent.name}_{weights.stem}"
    write_label_maps([(weights, folder)], dataset, ranks, **given)
    print(format_scores(_score(truth, folder, ranks, images=dataset.names, label_ids=label_ids)))
