"""Evaluating and scoring one snapshot or many: what `clan evaluate` and the seed's commands share."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from clan.data.datasets import Dataset
from clan.domains import CITYSCAPES_CLASSES
from clan.engine.distributed import Ranks, connect
from clan.errors import ConfigError
from clan.evaluate import evaluate, load_segmenter, options_for
from clan.labels import CITYSCAPES, LabelSpace
from clan.metrics.iou import Scores, score
from clan.reporting.console import format_scores, progress
from clan.reporting.excel import SnapshotScore, write_bulk
from clan.scoring import PredictionIds, count_dataset
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
    share = dataset.part(ranks.share(range(len(dataset))))
    for weights, save in snapshots:
        with ranks.together():
            options = options_for(weights, dataset=dataset, **given)
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


def score_label_maps(folders: Sequence[Path], score: Callable[[Path], Scores]) -> list[SnapshotScore]:
    """Scores every folder of label maps, printing its means."""
    rows = []
    for folder in folders:
        scores = score(folder)
        print(folder.name, *(f"{mean} {100 * value:.2f}" for mean, value in scores.means.items()), sep="  ")
        rows.append(SnapshotScore(folder.name, iteration_of(folder.name), scores))
    return rows


def write_workbook(
    rows: Sequence[SnapshotScore], run_name: str, save: Path, label_space: LabelSpace = CITYSCAPES
) -> None:
    """Writes a run's workbook and CSV; the best row is that of the mean its source is scored on."""
    headline = "mIoU-19" if run_name.upper().startswith("GTA") else "mIoU-13"
    if headline not in label_space.subsets:
        headline = next(iter(label_space.subsets))
    for path in write_bulk(rows, save, run_name, label_space, headline=headline):
        print(f"saved {path}")


def score_together(dataset: Dataset, ranks: Ranks, ids: PredictionIds, folder: Path) -> Scores:
    """Scores a folder of label maps; ranks share the images and add up what they counted."""
    share = dataset.part(ranks.share(range(len(dataset))))
    with ranks.together():
        counts = count_dataset(share, folder, prediction_ids=ids)
    return score(ranks.sum(counts), dataset.classes.label_space)


def evaluate_and_score(weights: Path, dataset: Dataset, save: Path, workbooks: Path, **given: Any) -> None:
    """Label maps and scores of a snapshot, or of every one in a folder, with a workbook then.

    Args:
        weights: a file of weights or a folder of snapshots.
        dataset: the images; its ground truth is scored against, if it has any.
        save: parent of the folders of label maps.
        workbooks: folder of the workbook and the CSV.
        given: see `clan.evaluate.options_for`.

    Raises:
        ConfigError: Cityscapes ids are wanted of other classes.
    """
    if given.get("label_ids") and dataset.classes != CITYSCAPES_CLASSES:
        raise ConfigError("--label-ids writes the ids of Cityscapes, but this run has classes of its own: leave it out")
    ranks = connect()
    ids: PredictionIds = "labelId" if given.get("label_ids") else "trainId"
    score = partial(score_together, dataset, ranks, ids)
    run_folder = weights.resolve().parent.name
    several = result_folders(weights, save) if weights.is_dir() else []
    snapshots = several or [(weights, save / f"{run_folder}_{weights.stem}")]
    write_label_maps(snapshots, dataset, ranks, **given)
    if not dataset.has_any_label:
        print(f"{dataset.name} has no ground truth in split {dataset.split}: nothing to score")
    elif several:
        rows = score_label_maps([folder for _, folder in several], score)
        if ranks.first:
            write_workbook(rows, weights.resolve().name, workbooks, dataset.classes.label_space)
    else:
        print(format_scores(score(snapshots[0][1])))
