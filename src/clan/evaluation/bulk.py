"""Evaluates and scores one or several snapshots: shared by `clan evaluate` and the commands of the Paddle port."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clan.core.device import select_device
from clan.core.errors import DataError
from clan.core.output import progress
from clan.core.precision import check_precision
from clan.core.ranks import Ranks, connect, require_same_products
from clan.data.dataset import Dataset
from clan.data.domains import evaluation_dataset
from clan.datasets import CITYSCAPES_CLASSES
from clan.evaluation.finite import of_network
from clan.evaluation.inference import count_views
from clan.evaluation.iou import Scores, headline, iou_per_class, mean_iou, score
from clan.evaluation.label_maps import evaluate, load_segmenter, options_for, refuse_clashes_of
from clan.evaluation.outputs import refuse_clashes
from clan.evaluation.scores_file import Evaluation, describe, read_classes, read_evaluation, write_evaluation
from clan.evaluation.scoring import LabelPair, PredictionIds, count_dataset, count_folders, require_truths
from clan.evaluation.tables import ABSENT, About, Option, SnapshotScore, format_scores
from clan.run import presets as recipes
from clan.run.folder import find_snapshots, iteration_of
from clan.run.records import RunRecords, read_run


def result_folders(folder: Path, save: Path) -> list[tuple[Path, Path]]:
    """Every snapshot in a run's folder, with the folder `save`/RUN_ITERATION for its label maps."""
    run_name = folder.resolve().name
    return [
        (
            snapshot.path,
            save / f"{run_name}_{snapshot.path.stem if snapshot.iteration is None else snapshot.iteration}",
        )
        for snapshot in find_snapshots(folder)
    ]


def write_label_maps(snapshots: Sequence[tuple[Path, Path]], dataset: Dataset, ranks: Ranks, **given: Any) -> None:
    """Writes the label maps of every snapshot, with a progress bar.

    Args:
        snapshots: pairs of weights and the folder for their label maps.
        dataset: the images.
        ranks: the processes that share the images.
        given: see `clan.evaluation.label_maps.options_for`.

    Raises:
        ConfigError: results would overwrite each other or the data set, or ranks would compute differently; checked
            before any computation.
        NotFinite: a prediction is not finite.
    """
    require_same_products(ranks, given.get("precision") or "fp32")
    with ranks.together():
        refuse_clashes([(str(weights), save) for weights, save in snapshots])
        for _, save in snapshots:
            refuse_clashes_of(dataset, save)
    share = dataset.part(ranks.share(range(len(dataset))))
    for remark in dataset.remarks:
        print(remark)
    for weights, save in snapshots:
        with ranks.together():
            options = options_for(weights, dataset=dataset, notify=print, **given)
            segmenter = load_segmenter(weights, options.network, notify=print)
            steps = count_views(share, options)
            with of_network(weights), progress(f"evaluating {weights.stem}", steps) as advance:
                evaluate(segmenter, share, save, options=options, on_view=advance)
        seen = "" if options.views.plain else f", seen by {options.views}"
        print(f"{weights}: {len(dataset)} label maps in {save}{seen}")


def score_label_maps(folders: Sequence[Path], score: Callable[[Path], Scores]) -> list[SnapshotScore]:
    """Scores every folder of label maps and prints its mean IoUs.

    Raises:
        DataError: the label maps of two folders have different classes, which do not fit into one table.
    """
    rows: list[SnapshotScore] = []
    for folder in folders:
        scores = score(folder)
        if rows and scores.names != rows[0].scores.names:
            raise DataError(
                f"the label maps in {folder} have {len(scores.names)} classes, and those of {rows[0].name} beside it "
                f"{len(rows[0].scores.names)} other ones: move one of the two folders elsewhere"
            )
        print(folder.name, *(f"{mean} {100 * value:.2f}" for mean, value in scores.means.items()), sep="  ")
        rows.append(SnapshotScore(folder.name, iteration_of(folder.name), scores))
    return rows


def write_workbook(rows: Sequence[SnapshotScore], label_maps: Path, run: Path, save: Path) -> None:
    """Writes a run's workbook and CSV; the headline mean of the source decides the best snapshot.

    Args:
        rows: the scores of the run's snapshots.
        label_maps: a scored folder of label maps, with its `scores.json`.
        run: the run's folder; without its `config.yaml` the workbook has no options.
        save: the folder to write to.
    """
    from clan.evaluation.workbook import write_bulk

    evaluation = read_evaluation(label_maps)
    known = read_run(run) if (run / "config.yaml").is_file() else None
    name = run.resolve().name
    source = known.config.source.dataset.name if known else "gta5" if name.upper().startswith("GTA") else "synthia"
    decisive = headline(source, evaluation.scores.means)
    about = about_run(name, known, evaluation)
    for path in write_bulk(rows, save, name, evaluation.label_space, headline=decisive, about=about):
        print(f"saved {path}")


def about_run(name: str, run: RunRecords | None, evaluation: Evaluation) -> About:
    """The workbook's facts about a run and its evaluation.

    Args:
        name: the run's name.
        run: the run's records; None: not available.
        evaluation: the evaluation of one of its snapshots.
    """
    dataset = evaluation.dataset
    scored = {
        "scored on": evaluation.scored_on,
        "in": str(dataset.get("root", "")),
        "scored at": evaluation.date[:16].replace("T", " ") + " UTC",
        **({"seen by": evaluation.views} if evaluation.views else {}),
    }
    if run is None:
        return About({"run": name, **scored})
    config = run.config
    preset, usual = recipes.closest(config)
    options = [Option(key, value, usual.get(key, ABSENT)) for key, value in config.options().items()]
    trained = {
        "run": name,
        "folder": str(run.folder.resolve()),
        "method": config.method.name,
        "source → target": f"{config.source.dataset.name} → {config.target.dataset.name}",
        "trained": f"{run.done:,} of {config.stop:,} iterations",
        "closest preset": f"{preset}: the sheet config marks the differences",
    }
    environment = {key: str(value) for key, value in run.environment.items() if not isinstance(value, dict)}
    return About(trained | scored | environment, options, preset)


class _ImageScores(dict[str, float]):
    """The mIoU of every image, by the path of its label map in the folder, without suffix."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __call__(self, pair: LabelPair, confusion: np.ndarray) -> None:
        stem = pair.prediction.relative_to(self._folder).with_suffix("").as_posix()
        self[stem] = mean_iou(iou_per_class(confusion))


def score_together(
    dataset: Dataset, ranks: Ranks, ids: PredictionIds, folder: Path, *, weights: Path | None = None
) -> Scores:
    """Scores a folder of label maps and writes its `scores.json`.

    Args:
        dataset: the images.
        ranks: the processes that share the images and sum their confusion matrices.
        ids: whether the label maps hold trainIds or the ids of the ground truth.
        folder: the label maps.
        weights: the weights that predicted them, if known.
    """
    own = _ImageScores(folder)
    share = dataset.part(ranks.share(range(len(dataset))))
    with ranks.together():
        counts = count_dataset(share, folder, prediction_ids=ids, on_pair=own)
    total = ranks.sum(counts)
    images = _of_all_ranks(own, dataset.stems, ranks)
    with ranks.together():
        if ranks.first:
            space = dataset.classes.label_space
            write_evaluation(folder, total, space, images=images, dataset=describe(dataset), weights=weights)
    return score(total, dataset.classes.label_space)


def _of_all_ranks(own: Mapping[str, float], stems: Sequence[str], ranks: Ranks) -> dict[str, float]:
    """The scores of all images, gathered from the ranks."""
    values = np.array([own.get(stem, 0.0) for stem in stems])
    # All other ranks hold zeros, so that the sum of the bits is the score, including NaN.
    return dict(zip(stems, ranks.sum(values.view(np.int64)).view(np.float64).tolist(), strict=True))


def score_cityscapes(truth: Path, folder: Path, *, classes: Path | None = None, **options: Any) -> Scores:
    """Scores a folder of label maps of Cityscapes and writes its `scores.json`.

    Args:
        truth: the split's folder of ground truths.
        folder: the label maps.
        classes: file or name of their classes; None: what `classes.json` beside them states, else those of Cityscapes.
        options: see `clan.evaluation.scoring.count_folders`.
    """
    images, known = _ImageScores(folder), read_classes(folder, classes)
    counts, label_space = count_folders(truth, folder, on_pair=images, classes=known, **options)
    split = truth.resolve()
    source: dict[str, Any] = {"name": "cityscapes", "root": str(split.parent.parent), "split": split.name}
    if known != CITYSCAPES_CLASSES:
        source["classes"] = known.model_dump(mode="json")
    write_evaluation(folder, counts, label_space, images=images, dataset=source)
    return score(counts, label_space)


def evaluate_and_score(
    weights: Path, dataset: Dataset, save: Path, workbooks: Path, **given: Any
) -> list[SnapshotScore]:
    """Writes label maps and scores of a snapshot, or of all snapshots in a folder with a workbook.

    Args:
        weights: a file of weights or a folder of snapshots.
        dataset: the images; scored if the data set has ground truth.
        save: parent of the folders of label maps.
        workbooks: folder of the workbook and the CSV.
        given: see `clan.evaluation.label_maps.options_for`.

    Returns:
        The scores of every snapshot; none where the data set has no ground truth.

    Raises:
        ConfigError: label ids are requested for other classes than those of Cityscapes, or the number of classes
            differs from the run's.
        DataError: some images have a ground truth and others have none.
    """
    ranks = connect()
    ids: PredictionIds = "labelId" if given.get("label_ids") else "trainId"
    score = partial(score_together, dataset, ranks, ids)
    run_folder = weights.resolve().parent.name
    several = result_folders(weights, save) if weights.is_dir() else []
    snapshots = several or [(weights, save / f"{run_folder}_{weights.stem}")]
    if dataset.has_any_label:
        require_truths(dataset)  # before the label maps, which may take hours
    write_label_maps(snapshots, dataset, ranks, **given)
    if not dataset.has_any_label:
        print(f"{dataset.name} has no ground truth in split {dataset.split}: nothing to score")
        return []
    if several:
        made_by = {folder: snapshot for snapshot, folder in several}
        rows = score_label_maps(list(made_by), lambda folder: score(folder, weights=made_by[folder]))
        if ranks.first:
            write_workbook(rows, several[-1][1], weights, workbooks)
        return rows
    folder = snapshots[0][1]
    scores = score(folder, weights=weights)
    print(format_scores(scores))
    return [SnapshotScore(folder.name, iteration_of(folder.name), scores)]


def evaluate_weights(
    weights: Path | str,
    *,
    domain: str | None = None,
    data_dir: Path | None = None,
    split: str | None = None,
    save: Path | str = Path("result"),
    workbooks: Path | str = Path("mIoU_results"),
    device: Literal["auto", "cpu", "gpu"] = "auto",
    **given: Any,
) -> list[SnapshotScore]:
    """Writes label maps of a snapshot, or of all snapshots of a run, and scores them, as `clan evaluate` does.

    Args:
        weights: a snapshot, or a run's folder.
        domain: "cityscapes", "synthia", "gta5" or a description file; None: the target of the run.
        data_dir: the data set's folder; None: that of the run or the description.
        split: None: val if there is one, else test.
        save: parent of the folders of label maps, RUN_ITERATION for each snapshot, with `scores.json`.
        workbooks: folder of the workbook and the CSV of a run.
        device: to compute on; auto: the GPU if Paddle finds one.
        given: see `clan.evaluation.label_maps.options_for`, such as `input_size` or `views`; options of the network are
            needed for weights without the `config.yaml` of their run alone.

    Returns:
        The name, iteration and scores of every snapshot, IoUs 0…1; none where the data set has no ground truth.

    Raises:
        ClanError: weights or data set cannot be read or do not fit, label maps would overwrite others, or the device
            does not have the precision.
    """
    weights = Path(weights)
    select_device(device)
    if remark := check_precision(given.get("precision", "fp32")):
        print(remark)
    dataset = evaluation_dataset(weights, domain=domain, data_dir=data_dir, data_list=None, split=split)
    given = {"num_classes": None, "upsampling": None, **given}
    return evaluate_and_score(weights, dataset, Path(save), Path(workbooks), **given)
