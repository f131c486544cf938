"""Evaluating and scoring one snapshot or many: what `clan evaluate` and the seed's commands share."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clan.data.datasets import Dataset
from clan.engine.distributed import ALONE, Ranks, connect
from clan.evaluate import evaluate, load_segmenter, options_for
from clan.evaluations import write_evaluation
from clan.labels import CITYSCAPES
from clan.metrics.iou import Scores, iou_per_class, mean_iou, score
from clan.reporting.console import format_scores, progress
from clan.reporting.excel import SnapshotScore, write_bulk
from clan.scoring import Pair, PredictionIds, count_with_progress
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
    weights: Mapping[Path, Path] | None = None,
) -> list[SnapshotScore]:
    """Scores every folder of label maps, printing its means, and writes its `scores.json`.

    Args:
        truth: ground truths; see `clan.scoring.count_folders`.
        folders: of label maps.
        devkit_dir: see `clan.scoring.count_folders`.
        images: likewise.
        label_ids: label maps hold Cityscapes ids.
        ranks: the processes that do it together.
        weights: what made the label maps of each folder, where that is known.
    """
    rows = []
    for folder in folders:
        made_by = (weights or {}).get(folder)
        scores = score_and_record(
            truth, folder, ranks, devkit_dir=devkit_dir, images=images, label_ids=label_ids, weights=made_by
        )
        print(folder.name, *(f"{mean} {100 * value:.2f}" for mean, value in scores.means.items()), sep="  ")
        rows.append(SnapshotScore(folder.name, iteration_of(folder.name), scores))
    return rows


def write_workbook(rows: Sequence[SnapshotScore], run_name: str, save: Path) -> None:
    """Writes a run's workbook and CSV; the best row is that of the mean its source is scored on."""
    headline = "mIoU-19" if run_name.upper().startswith("GTA") else "mIoU-13"
    for path in write_bulk(rows, save, run_name, CITYSCAPES, headline=headline):
        print(f"saved {path}")


def score_and_record(
    truth: Path,
    folder: Path,
    ranks: Ranks = ALONE,
    *,
    images: Sequence[str] | None = None,
    label_ids: bool = False,
    weights: Path | None = None,
    **options: Any,
) -> Scores:
    """Scores a folder of label maps and writes its `scores.json`; ranks share the images and add up what they counted.

    Args:
        truth: ground truths; see `clan.scoring.count_folders`.
        folder: of label maps.
        ranks: the processes that do it together.
        images: see `clan.scoring.count_folders`.
        label_ids: label maps hold Cityscapes ids.
        weights: what made the label maps, if that is known.
        options: see `clan.scoring.count_folders`.
    """
    ids: PredictionIds = "labelId" if label_ids else "trainId"
    share = None if images is None else ranks.share(images)
    of_images: dict[str, float] = {}

    def note(pair: Pair, confusion: np.ndarray) -> None:
        of_images[pair.prediction.stem] = mean_iou(iou_per_class(confusion))

    with ranks.together():
        counts, label_space = count_with_progress(
            truth, folder, images=share, prediction_ids=ids, on_pair=note, **options
        )
    total = ranks.sum(counts)
    if images is not None:
        of_images = _of_all_ranks(of_images, [Path(image).stem for image in images], ranks)
    with ranks.together():
        if ranks.first:
            source = {"name": "cityscapes", "root": str(truth.resolve().parents[1]), "split": truth.resolve().name}
            write_evaluation(folder, total, label_space, images=of_images, dataset=source, weights=weights)
    return score(total, label_space)


def _of_all_ranks(own: Mapping[str, float], stems: Sequence[str], ranks: Ranks) -> dict[str, float]:
    """The numbers of all images, of which each rank has its share."""
    values = np.array([own.get(stem, 0.0) for stem in stems])
    # Every other rank holds zeros, so the sum of the bits is the number, NaN included.
    return dict(zip(stems, ranks.sum(values.view(np.int64)).view(np.float64).tolist(), strict=True))


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
        made_by = {folder: snapshot for snapshot, folder in snapshots}
        rows = score_label_maps(truth, folders, images=dataset.names, label_ids=label_ids, ranks=ranks, weights=made_by)
        if ranks.first:
            write_workbook(rows, weights.resolve().name, workbooks)
        return
    folder = save / f"{weights.resolve().parent.name}_{weights.stem}"
    write_label_maps([(weights, folder)], dataset, ranks, **given)
    scores = score_and_record(truth, folder, ranks, images=dataset.names, label_ids=label_ids, weights=weights)
    print(format_scores(scores))
