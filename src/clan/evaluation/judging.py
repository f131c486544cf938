"""`clan select`: measures every snapshot of runs once, and chooses among the snapshots and among the runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clan.core.errors import ConfigError
from clan.core.output import one_line, progress
from clan.evaluation.criteria import agreement_of_points, goodness
from clan.evaluation.finite import MOVE_IT, of_network
from clan.evaluation.label_maps import load_segmenter
from clan.evaluation.measuring import IMAGES, JudgedImages, measure, open_material
from clan.evaluation.selection import (
    DEFAULT,
    Measured,
    Selection,
    choose,
    keep,
    kept,
    key_of,
    known,
    require_writable,
)
from clan.models.segmenter import Segmenter
from clan.models.weights import load_weights
from clan.run.config import Config
from clan.run.folder import Snapshot, find_candidates
from clan.run.records import read_run

AVERAGED = "averaged"
"""Name of the measurement of the mean of all snapshots' weights."""

BETWEEN_SNAPSHOTS = (AVERAGED, "teacher")
"""Criteria that compare with networks of one run alone, so that their values say nothing between runs."""


@dataclass(frozen=True)
class JudgedRun:
    """A run, measured and judged.

    Args:
        folder: the run's folder.
        material: the images that it was judged on.
        measured: statistics of its snapshots.
        selection: what was chosen of them.
    """

    folder: Path
    material: JudgedImages
    measured: Sequence[Measured]
    selection: Selection


class _Opened(NamedTuple):
    """A run before it is measured; see `JudgedRun`."""

    folder: Path
    config: Config
    snapshots: list[Snapshot]
    material: JudgedImages


def judge_runs(
    folders: Sequence[Path],
    *,
    images: int = IMAGES,
    criterion: str | None = None,
    data_dir: Path | None = None,
    data_dir_target: Path | None = None,
) -> Iterator[JudgedRun]:
    """Measures the snapshots of runs that are not measured yet, with progress, and chooses one of each run.

    What can be refused is refused before anything is measured.

    Args:
        folders: the runs' folders; of several, runs to be ranked.
        images: number of images of each domain; 0: all.
        criterion: the one that chooses; None: `DEFAULT`.
        data_dir: the source's folder; None: the run's.
        data_dir_target: the target's folder; None: the run's.

    Raises:
        ClanError: a folder is no run or has no snapshot, data is missing, the criterion is not known, runs cannot be
            compared, a snapshot's predictions are not finite, or a measurement cannot be written.
    """
    domains = {"source": data_dir, "target": data_dir_target}
    opened = [_open(folder, images, domains) for folder in folders]
    if len(opened) > 1:
        _require_comparable(opened, criterion or DEFAULT)
    for run in opened:
        if len(run.snapshots) > 1 or len(opened) > 1:
            _require_known(run, criterion or DEFAULT)
    for run in opened:
        yield _judge(run, criterion)


def _open(folder: Path, images: int, domains: Mapping[str, Path | None]) -> _Opened:
    """Opens a run, with its data sets in other folders if these are given by domain."""
    config = read_run(folder).config
    moved = {
        role: getattr(config, role).model_copy(update={"root": root})
        for role, root in domains.items()
        if root is not None
    }
    config = config.model_copy(update=moved)
    return _Opened(folder, config, find_candidates(folder), open_material(config, folder, images))


def _require_known(run: _Opened, criterion: str) -> None:
    """Refuses a criterion that measuring will not make known.

    Raises:
        ConfigError: it is not.
    """
    reason = ""
    if criterion == "heads" and run.config.network.num_heads < 2:
        reason = "its network has one head"
    if criterion == "source" and not len(run.material.source):
        reason = "no image of the source has a label"
    if criterion == "teacher":
        fingerprint, num_classes = run.material.fingerprint(), run.material.num_classes
        for path, _ in run.snapshots:
            if "teacher" not in (kept(run.folder, path.stem, key_of(fingerprint, path), num_classes) or {}):
                reason = f"of {path.name} it is measured by clan train --select-without-labels alone"
    if reason:
        raise ConfigError(
            f"the criterion {criterion} is not known of every snapshot of {run.folder} ({reason}): choose by another "
            "(--criterion)"
        )


def _judge(run: _Opened, criterion: str | None) -> JudgedRun:
    """Measures what is not measured yet, and chooses."""
    folder, config, snapshots, material = run
    fingerprint = material.fingerprint()
    measured = []
    for number, snapshot in enumerate(snapshots, start=1):
        weights = snapshot.path
        found = _once(
            folder,
            weights.stem,
            key_of(fingerprint, weights),
            material,
            lambda weights=weights: load_segmenter(weights, config.network),
            f"{weights.stem}, {number} of {len(snapshots)}",
        )
        measured.append(Measured(snapshot, found))
    averaged = None
    if len(snapshots) > 1:
        paths = [snapshot.path for snapshot in snapshots]
        key = key_of(fingerprint, *paths)
        averaged = _once(folder, AVERAGED, key, material, lambda: mean_of(paths, config), "mean of the weights")[
            "points"
        ]
    selection = choose(measured, describe(material), averaged=averaged, criterion=criterion)
    return JudgedRun(folder, material, measured, selection)


def describe(material: JudgedImages) -> str:
    """What snapshots are judged on, in words."""
    source = "held-out" if material.held_out else "training"
    return one_line(
        f"{len(material.target)} images of {material.target.name} {material.target.split} without labels; for the "
        f"source's score, {len(material.source)} {source} images of {material.source.name}"
        + "".join(f"; {remark}" for remark in material.remarks)
    )


def _once(
    folder: Path, name: str, key: str, material: JudgedImages, make: Callable[[], Segmenter], title: str
) -> Mapping[str, np.ndarray]:
    """A measurement from the disk, or made now and kept there."""
    found = kept(folder, name, key, material.num_classes)
    if found is None:
        require_writable(folder)
        segmenter = make()
        total = len(material.target) + len(material.source)
        with of_network(f"{name} of {folder}", MOVE_IT), progress(title, total) as advance:
            found = measure(segmenter, material, on_image=advance)
        keep(folder, name, key, found)
    return found


def mean_of(weights: Sequence[Path], config: Config) -> Segmenter:
    """A segmenter with the mean of several files' weights and running statistics; holds two of them at a time.

    Raises:
        WeightsError: a file cannot be read, or is of another network.
    """
    segmenter = load_segmenter(weights[0], config.network)
    state = segmenter.state_dict()
    sums = {name: tensor.numpy().astype(np.float64) for name, tensor in state.items()}
    for path in weights[1:]:
        load_weights(segmenter, path, strict=True)
        for name, tensor in state.items():
            sums[name] += tensor.numpy()
    for name, tensor in state.items():
        tensor.set_value((sums[name] / len(weights)).astype(tensor.numpy().dtype))
    return segmenter


# --- Several runs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A run's place among several.

    Args:
        run: the run.
        values: criteria of its chosen snapshot that can be compared between runs, by name; `ensemble` is the
            agreement with the mean prediction of all runs.
    """

    run: JudgedRun
    values: Mapping[str, float]

    @property
    def snapshot(self) -> Path:
        """The run's chosen snapshot."""
        return self.run.measured[self.run.selection.chosen].snapshot.path


def rank_runs(runs: Sequence[JudgedRun], criterion: str | None = None) -> list[Place]:
    """Ranks runs by their chosen snapshots, the best first.

    Args:
        runs: at least two, judged together by `judge_runs`.
        criterion: to rank by; None: `DEFAULT`.

    Raises:
        ConfigError: the criterion is not known of a run's chosen snapshot.
    """
    criterion = criterion or DEFAULT
    # Every run counts once, however many snapshots it has.
    mean = np.zeros(runs[0].measured[0].statistics["points"].shape, np.float32)
    for run in runs:
        for one in run.measured:
            mean += one.statistics["points"] / np.float32(len(run.measured))
    places = []
    for run in runs:
        chosen = run.selection.chosen
        values: dict[str, Any] = {
            name: value
            for name, value in run.selection.snapshots[chosen].values.items()
            if name not in BETWEEN_SNAPSHOTS
        }
        values["ensemble"] = agreement_of_points(run.measured[chosen].statistics["points"], mean)
        places.append(Place(run, values))
    if unknown := [place.run.folder for place in places if not known(place.values, criterion)]:
        raise ConfigError(f"the criterion {criterion} is not known of {unknown[0]}: rank by another (--criterion)")
    order = np.argsort(-goodness(criterion, [place.values[criterion] for place in places]), kind="stable")
    return [places[index] for index in order]


def _require_comparable(runs: Sequence[_Opened], criterion: str) -> None:
    """Refuses runs that cannot be ranked by a criterion.

    Raises:
        ConfigError: they have other target images or classes, or the criterion compares snapshots of one run alone.
    """
    if criterion in BETWEEN_SNAPSHOTS:
        raise ConfigError(
            f"the criterion {criterion} compares snapshots of one run: rank runs by another (--criterion)"
        )
    first = runs[0]
    for run in runs[1:]:
        here, there = first.material, run.material
        same_classes = list(here.target.classes.classes) == list(there.target.classes.classes)
        if not same_classes or here.target_contents != there.target_contents:
            raise ConfigError(
                f"{first.folder} and {run.folder} have other target images or classes: compare runs of the same"
            )
