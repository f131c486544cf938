"""`clan.report`: collects runs and evaluations into one page."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from clan.core.errors import ConfigError, DataError
from clan.evaluation.criteria import CRITERIA
from clan.evaluation.iou import headline as headline_of
from clan.evaluation.scores_file import Evaluation, find_evaluations, read_evaluation
from clan.evaluation.selection import Selection, read_selection
from clan.evaluation.tables import percent
from clan.reporting import self_training
from clan.reporting.curves import Panel, Series, thin
from clan.reporting.gallery import examples
from clan.reporting.html import Page, RunView, ScoredSnapshot, write_report
from clan.reporting.inspection import page as inspected
from clan.reporting.published import IMAGES, comparable
from clan.run.config import Config
from clan.run.records import RunRecords, read_run

Courses = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Iterations and values of one run by name."""
DAMPED = ("loss_adv", "loss_weight", "loss_entropy")
"""Losses that include the factor 1 − i/N if damping is on."""

NOTES = {
    "loss_seg": "segmentation, sum of both heads",
    "loss_adv": "adversarial, segmenter",
    "loss_weight": "cosine of the heads' weights",
    "loss_D_s": "discriminator on the source",
    "loss_D_t": "discriminator on the target",
    "loss_target_labels": "segmentation of few target images, with their labels",
    "learning_rate": "segmenter",
    "learning_rate_D": "discriminator",
}
"""Explanations of names in `metrics.jsonl`."""


def make_report(
    folders: Sequence[Path],
    output: Path,
    *,
    results: Sequence[Path] = (),
    evaluations: Sequence[Path] = (),
    images: int = 6,
    notices: Sequence[str] = (),
) -> Page:
    """Writes an HTML report of runs.

    Args:
        folders: run folders; differences are to the first.
        output: the HTML file.
        results: folders that are searched for evaluations, besides `result` beside each run.
        evaluations: folders of label maps, one per run in the same order, instead of the search.
        images: number of images in the gallery.
        notices: sentences at the top of the page.

    Returns:
        The content of the page.

    Raises:
        ClanError: a folder is not a run, evaluations do not fit the runs, or the page cannot be written.
    """
    if evaluations and len(evaluations) != len(folders):
        raise ConfigError(f"{len(evaluations)} evaluations for {len(folders)} runs: name one for every run, in order")
    runs = [read_run(folder) for folder in folders]
    damaged: dict[str, None] = {}
    found = [
        [read_evaluation(evaluations[index])]
        if evaluations
        else find_evaluations(
            run.folder,
            run.snapshots,
            [*results, run.folder.resolve().parent / "result"],
            on_damaged=lambda error: damaged.setdefault(f"Left out: {error}."),
        )
        for index, run in enumerate(runs)
    ]
    if not evaluations:
        for alike in (_scored_alike, _seen_alike):
            found = [list(alike(of_run, found, damaged)) for of_run in found]
    _require_one_label_space(found)
    selections = [_selection(run, damaged) for run in runs]
    page = replace(make_page(runs, found, selections), notices=[*notices, *damaged])
    shown = [(index, best(of_run, page.headline)) for index, of_run in enumerate(found) if of_run]
    if shown and images:
        page = replace(
            page, examples=examples([(page.runs[index].name, evaluation) for index, evaluation in shown], images)
        )
    write_report(page, output)
    return page


def make_page(
    runs: Sequence[RunRecords],
    found: Sequence[Sequence[Evaluation]],
    selections: Sequence[Selection | None] = (),
) -> Page:
    """Returns the page without its gallery.

    Args:
        runs: the runs.
        found: the evaluations of every run, all of the same classes.
        selections: what `clan select` chose in every run; none: in no run.
    """
    selections = selections or [None] * len(runs)
    every = [evaluation for of_run in found for evaluation in of_run]
    names = run_names([run.folder for run in runs])
    headline = headline_of(runs[0].config.source.dataset.name, every[0].scores.means) if every else ""
    views = [
        run_view(name, run, of_run, headline, chosen)
        for name, run, of_run, chosen in zip(names, runs, found, selections, strict=True)
    ]
    published = ()
    remark = ""
    if every:
        first_index = next(index for index, of_run in enumerate(found) if of_run)
        evaluation = best(found[first_index], headline)
        source = runs[first_index].config.source.dataset.name
        if not evaluation.views:
            published = comparable(source, evaluation.dataset, len(evaluation.images), evaluation.label_space)
        remark = "" if published else (
            f"No published scores are shown: they are of the {IMAGES} images of Cityscapes val in its classes, each "
            f"seen once, and these scores are of {len(evaluation.images)} images in "
            f"{evaluation.dataset.get('root', '?')}, {evaluation.label_space.num_classes} classes"
            + (f", seen by {evaluation.views}." if evaluation.views else ".")
        )  # fmt: skip
    found_inside = inspected.inspections(names, [run.folder for run in runs])
    return Page(
        title=" · ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more runs",
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        runs=views,
        label_space=every[0].label_space if every else None,
        headline=headline,
        losses=panels(runs, "loss_"),
        rates=panels(runs, "learning_rate"),
        means=mean_panels(runs, found),
        validations=validation_panels(runs),
        criteria=criteria_panels(runs, selections),
        published=published,
        published_remark=remark,
        options=differing_options(runs),
        teachings=self_training.teachings(names, runs),
        taught=self_training.panels(runs),
        inspections=found_inside,
        inspected=list(inspected.panels(found_inside, max(run.config.num_steps for run in runs))),
    )


def run_names(folders: Sequence[Path]) -> list[str]:
    """Returns the folders' names, with as many parent folders as needed to be unique."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({one[-depth:] for one in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(one[-depth:]) for one in parts]


def best(evaluations: Sequence[Evaluation], headline: str) -> Evaluation:
    """Returns the evaluation with the highest headline mean; the last one if all are NaN."""
    known = [one for one in evaluations if not math.isnan(one.scores.means[headline])]
    return max(known, key=lambda one: one.scores.means[headline]) if known else evaluations[-1]


def _selection(run: RunRecords, damaged: dict[str, None]) -> Selection | None:
    """What `clan select` chose of a run's snapshots; a damaged file is noted."""
    try:
        return read_selection(run.folder)
    except DataError as error:
        damaged.setdefault(f"Left out: {error}.")
        return None


def run_view(
    name: str, run: RunRecords, evaluations: Sequence[Evaluation], headline: str, selection: Selection | None = None
) -> RunView:
    """Returns the texts and scores of a run."""
    config = run.config
    view = RunView(
        name=name,
        method=config.method.name,
        domains=f"{config.source.dataset.name} → {config.target.dataset.name}{_labels_learnt(config)}",
        state=_state(run),
        cost=_cost(run),
        environment={key: str(value) for key, value in run.environment.items() if not isinstance(value, dict)},
        config=run.config_yaml,
        missing=list(_missing(run, evaluations)),
        selected=_selected(selection) if selection and len(selection.snapshots) > 1 else "",
    )
    if not evaluations:
        return view
    chosen, last = best(evaluations, headline), evaluations[-1]
    evaluated = (
        f"{_snapshot_name(chosen)}, on {len(chosen.images)} images of {chosen.dataset.get('root')}, {chosen.date[:10]}."
    )
    if len(evaluations) > 1:
        evaluated = (
            f"Best of {len(evaluations)} snapshots, chosen by these scores: {evaluated} "
            f"Last, {_snapshot_name(last)}: {100 * last.scores.means[headline]:.2f}."
        )
    judged = (
        {one.iteration: one.values.get(selection.criterion, math.nan) for one in selection.snapshots}
        if selection
        else {}
    )
    snapshots = [
        ScoredSnapshot(
            _snapshot_name(one), one.iteration, one.scores.means, one is chosen, judged.get(one.iteration, math.nan)
        )
        for one in evaluations
    ]
    return replace(view, scores=chosen.scores, evaluated=evaluated, snapshots=snapshots)


def _labels_learnt(config: Config) -> str:
    """Says which labels of the target a run learns from."""
    if config.method.name == "oracle":
        return ", with all labels of the target"
    return f", with the target's labels in {config.target_labels.name}" if config.target_labels else ""


def _selected(selection: Selection) -> str:
    """What was chosen without labels, in sentences."""
    chosen = selection.snapshots[selection.chosen].snapshot
    warnings = "".join(f" Warning: {warning}." for warning in selection.warnings)
    count = len(selection.snapshots)
    return f"Chosen without labels by {selection.criterion}, of {count}: {chosen}, on {selection.images}.{warnings}"


def _snapshot_name(evaluation: Evaluation) -> str:
    name = evaluation.weights.stem if evaluation.weights else evaluation.folder.name
    return f"{name} ({evaluation.views})" if evaluation.views else name


def _scored_alike(
    of_run: Sequence[Evaluation], found: Sequence[Sequence[Evaluation]], left_out: dict[str, None]
) -> Iterator[Evaluation]:
    """A run's evaluations on the images on which most runs, and most snapshots of them, were evaluated."""
    every = [one for others in found for one in others]
    runs = Counter(scored for others in found for scored in {one.scored for one in others})
    snapshots = Counter(one.scored for one in every)
    usual = max(every, key=lambda one: (runs[one.scored], snapshots[one.scored]), default=None)
    for one in of_run:
        if usual and one.scored != usual.scored:
            left_out.setdefault(
                f"Left out: {one.folder} was scored on {one.scored_on}, and others on {usual.scored_on}; "
                "--evaluations names what to show instead."
            )
        else:
            yield one


def _seen_alike(
    of_run: Sequence[Evaluation], found: Sequence[Sequence[Evaluation]], left_out: dict[str, None]
) -> Iterator[Evaluation]:
    """A run's evaluations that can be compared with those of all runs: where some saw each image once, only such."""
    plain = any(not one.views for others in found for one in others)
    for one in of_run:
        if plain and one.views:
            left_out.setdefault(
                f"Left out: {one.folder} was scored by {one.views}, and others see each image once; "
                "--evaluations names what to show instead."
            )
        else:
            yield one


def _missing(run: RunRecords, evaluations: Sequence[Evaluation]) -> Iterator[tuple[str, str]]:
    again = f"clan train --config {run.folder}/config.yaml"
    if not run.done:
        yield "No iteration is finished yet: wait for the first, or start the run.", again
    elif not run.snapshots:
        yield "No snapshot is saved yet: wait for the first, or continue the run.", f"{again} --resume"
    elif not evaluations:
        yield "No snapshot was evaluated.", f"clan evaluate {run.folder}"


def _state(run: RunRecords) -> str:
    done, stop = run.done, run.config.stop
    state = f"finished, {done:,} iterations" if done >= stop else f"{done:,} of {stop:,} iterations, {done / stop:.0%}"
    known = [one for one in run.validations if not math.isnan(one.score)]
    if not known:
        return state
    top = max(known, key=lambda one: one.score)
    return f"{state}, best in validation {top.headline} {percent(top.score)} after {top.iteration:,} ({top.dataset})"


def _cost(run: RunRecords) -> dict[str, str]:
    """Returns time, speed and memory of a run in words."""
    seconds = run.metrics.get("seconds", np.empty(0))
    seconds = seconds[np.isfinite(seconds) & (seconds > 0)]
    facts = {"iterations": f"{run.done:,}"}
    if len(seconds):
        typical = float(np.median(seconds))
        pairs = run.config.batch_size * run.config.iter_size
        facts["iterations per second"] = f"{1 / typical:.2f}"
        facts["image pairs per second"] = f"{pairs / typical:.2f}"
        facts["hours"] = f"{seconds.sum() / 3600:.2f}"
        if run.done < run.config.stop:
            facts["hours left"] = f"{(run.config.stop - run.done) * typical / 3600:.2f}"
    for where, amount in run.environment.get("peak_memory_bytes", {}).items():
        facts[f"peak memory, {where}"] = f"{amount / 1e9:.2f} GB"
    if not run.environment:
        facts["environment"] = "not recorded by this run"
    return facts


def panels(runs: Sequence[RunRecords], prefix: str) -> list[Panel]:
    """Returns a chart of every value of `metrics.jsonl` whose name has this prefix."""
    found = [{name: (run.metrics["iteration"], y) for name, y in run.metrics.items()} for run in runs]
    made = []
    for panel in _charts(runs, found, prefix):
        config = runs[panel.series[0].run].config
        damped = panel.title in DAMPED and getattr(config.method, "damping", False)
        note = NOTES.get(panel.title, "")
        made.append(replace(panel, warmup=config.warmup, damped=damped, note=note, noisy=prefix == "loss_"))
    return made


def mean_panels(runs: Sequence[RunRecords], found: Sequence[Sequence[Evaluation]]) -> list[Panel]:
    """Returns a chart of every mean over the snapshots, if a run has several."""
    placed = [[one for one in of_run if one.iteration is not None] for of_run in found]
    if max(map(len, placed), default=0) < 2:
        return []
    courses = [_courses([(one.iteration, one.scores.means) for one in of_run]) for of_run in placed]
    return _mean_charts(runs, courses, "of the snapshots")


def validation_panels(runs: Sequence[RunRecords]) -> list[Panel]:
    """Returns a chart of every mean over the validations."""
    courses = [_courses([(one.iteration, one.means) for one in run.validations]) for run in runs]
    return _mean_charts(runs, courses, "in validation")


def criteria_panels(runs: Sequence[RunRecords], selections: Sequence[Selection | None]) -> list[Panel]:
    """Returns a chart of every criterion of `clan select` over the snapshots."""
    courses: list[Courses] = []
    for selection in selections:
        placed = [one for one in selection.snapshots if one.iteration is not None] if selection else []
        found = {}
        for name in CRITERIA:
            points = [(one.iteration, one.values[name]) for one in placed if name in one.values]
            if len(points) > 1:
                columns = np.array(points, np.float64)
                found[name] = columns[:, 0], columns[:, 1]
        courses.append(found)
    return [
        replace(
            panel,
            markers=True,
            note=CRITERIA[panel.title].meaning + ("" if CRITERIA[panel.title].higher else "; lower is better"),
        )
        for panel in sorted(_charts(runs, courses), key=lambda panel: [*CRITERIA].index(panel.title))
    ]


def _courses(points: Sequence[tuple[int | None, Mapping[str, float]]]) -> Courses:
    """Iterations and percentages of every mean by name."""
    courses = {}
    for name in dict.fromkeys(name for _, means in points for name in means):
        known = np.array([(at, 100 * means[name]) for at, means in points if name in means], np.float64)
        courses[name] = known[:, 0], known[:, 1]
    return courses


def _mean_charts(runs: Sequence[RunRecords], courses: Sequence[Courses], where: str) -> list[Panel]:
    charts = _charts(runs, courses)
    return [replace(panel, title=f"{panel.title} {where}, %", markers=True) for panel in charts]


def _charts(runs: Sequence[RunRecords], courses: Sequence[Courses], prefix: str = "") -> Iterator[Panel]:
    """A chart of every name with this prefix, over all runs that have a finite value of it."""
    total = max(run.config.num_steps for run in runs)
    for name in dict.fromkeys(name for of_run in courses for name in of_run if name.startswith(prefix)):
        thinned = {index: thin(*of_run[name]) for index, of_run in enumerate(courses) if name in of_run}
        series = [Series(index, x, y) for index, (x, y) in thinned.items() if len(x)]
        if series:
            yield Panel(name, series, total=total)


def differing_options(runs: Sequence[RunRecords]) -> dict[str, list[str]]:
    """Returns options that differ between runs, by full name, with every run's value."""
    flat = [run.config.options() for run in runs]
    names = dict.fromkeys(name for options in flat for name in options)
    values = {name: [str(options.get(name, "–")) for options in flat] for name in names}
    return {name: of_runs for name, of_runs in values.items() if len(set(of_runs)) > 1}


def _require_one_label_space(found: Sequence[Sequence[Evaluation]]) -> None:
    spaces = [one for of_run in found for one in of_run]
    for one in spaces:
        if one.label_space.names != spaces[0].label_space.names:
            raise ConfigError(f"{spaces[0].folder} and {one.folder} score different classes: report them separately")
