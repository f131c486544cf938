"""`clan inspect`: measures a run's snapshots, writes figures and `inspect.json`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from clan.core.files import writing
from clan.core.output import progress
from clan.data import transforms
from clan.datasets.labels import LabelSpace
from clan.reporting import figures
from clan.reporting.curves import thin
from clan.reporting.inspection.findings import (
    FOLDER,
    Course,
    Features,
    InspectionFindings,
    SnapshotFindings,
    write_findings,
)
from clan.reporting.inspection.subject import Options, Subject
from clan.run.method_options import ClanOptions
from clan.run.records import RunRecords

SHEET_ROWS = 4
"""Number of images whose discrepancy maps are drawn."""
PCA_CUT = 3.0
"""Percent of the cells outside each side of a PCA map, since features have outliers."""


def inspect_run(folder: Path, output: Path | None = None, *, options: Options | None = None) -> InspectionFindings:
    """Inspects a finished or unfinished run, showing progress; writes figures and `inspect.json`.

    Args:
        folder: the run's folder; only `output` is written.
        output: output folder; None: `inspect` in the run's folder, which the report reads.
        options: see `Options`.

    Raises:
        ClanError: the folder is not a run or has no snapshot, or data, weights or output do not fit.
    """
    figures.require_matplotlib()
    subject = Subject(folder, options or Options())
    networks = subject.networks()
    output = output or folder / FOLDER
    with writing(output, "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)
    shown = len(subject.snapshots) * subject.images + len(networks) * (len(subject.source) + len(subject.target))
    with progress("inspecting", shown) as advance:
        looked = [subject.look(snapshot, SHEET_ROWS, advance) for snapshot in subject.snapshots]
        features = [subject.features(network, advance) for network in networks]
    snapshots = [found for found, _ in looked]
    findings = InspectionFindings(
        date=datetime.now().astimezone().isoformat(timespec="minutes"),
        run=str(folder),
        method=subject.config.method.name,
        classes=list(subject.label_space.names),
        colors=list(subject.label_space.colors),
        split=subject.target.split,
        images=subject.target.names,
        labels=subject.labels,
        seed=subject.options.seed,
        snapshots=snapshots,
        training=cosine_while_training(subject.run),
        features=features,
        remarks=list(remarks(subject, snapshots, features)),
    )
    draw(findings, output, subject.label_space)
    if subject.two_heads:
        images = [
            np.asarray(transforms.resize_image(subject.target.read_image(index), subject.config.target.size))
            for index in range(min(SHEET_ROWS, len(subject.target)))
        ]
        iterations = [one.iteration for one in snapshots]
        figures.draw_maps(output / "discrepancy_maps.png", images, [maps for _, maps in looked], iterations)
    write_findings(findings, output)
    return findings


def remarks(subject: Subject, snapshots: Sequence[SnapshotFindings], features: Sequence[Features]) -> Iterator[str]:
    """Yields a sentence for everything that is missing."""
    if not subject.two_heads:
        yield "The network has one head, so there is no discrepancy and no cosine of two."
    if not subject.method.discriminators:
        yield f"The method {subject.config.method.name} has no discriminator, so there is no accuracy of one."
    elif not any(one.discriminators for one in snapshots):
        yield "No discriminator lies beside the snapshots (NAME_D.pdparams), so there is no accuracy of one."
    if not subject.labelled:
        yield f"Target images of {subject.target.split} have no labels: their classes are by prediction."
    if features[0].tsne is None:
        yield "There is no t-SNE, since scikit-learn is not installed: pip install scikit-learn."


def cosine_while_training(run: RunRecords) -> Course | None:
    """Returns the heads' cosine of every iteration, from loss_weight = m·λ_w·d(i)·(1 + cosine)."""
    config, method = run.config, run.config.method
    if not isinstance(method, ClanOptions) or "loss_weight" not in run.metrics:
        return None
    factor = method.weight_multiplier * method.lambda_weight
    if factor == 0:
        return None
    iteration = run.metrics["iteration"]
    damping = 1 - iteration / config.num_steps if method.damping else np.ones_like(iteration)
    x, y = thin(iteration, run.metrics["loss_weight"] / (factor * damping) - 1)
    return Course(iteration=x.tolist(), head_cosine=y.tolist())


def draw(findings: InspectionFindings, output: Path, space: LabelSpace) -> None:
    """Draws all figures except the discrepancy maps."""
    if findings.snapshots[0].discrepancy is not None:
        draw_heads(findings, output, space)
    draw_accuracy(findings, output)
    draw_alignment(findings, output, space)


def draw_heads(findings: InspectionFindings, output: Path, space: LabelSpace) -> None:
    """Draws discrepancy and cosine of the heads over the snapshots."""
    snapshots = findings.snapshots
    iterations = [one.iteration for one in snapshots]
    figures.draw_courses(
        output / "discrepancy.png",
        f"discrepancy of the heads, mean over {len(findings.images)} target images ({findings.split})",
        iterations,
        {"all": [one.discrepancy for one in snapshots if one.discrepancy is not None]},
        background=[
            (iterations, of_image) for of_image in zip(*(one.discrepancy_of_image for one in snapshots), strict=True)
        ],
        background_name="each image",
    )
    figures.draw_table(
        output / "discrepancy_classes.png",
        f"discrepancy by class ({findings.labels})",
        np.array([one.discrepancy_of_class for one in snapshots], np.float64).T,
        space,
        iterations,
    )
    training = findings.training
    figures.draw_courses(
        output / "heads.png",
        "cosine of the heads' weights",
        iterations,
        {"snapshots": [one.head_cosine for one in snapshots if one.head_cosine is not None]},
        background=[(training.iteration, training.head_cosine)] if training else (),
        background_name="during training",
    )


def draw_accuracy(findings: InspectionFindings, output: Path) -> None:
    """Draws the accuracy of each discriminator over the snapshots that have it."""
    for name in dict.fromkeys(name for one in findings.snapshots for name in one.discriminators):
        asked = [one for one in findings.snapshots if name in one.discriminators]
        shares = {role: [getattr(one.discriminators[name], role) for one in asked] for role in ("source", "target")}
        shares["mean of both"] = np.mean(list(shares.values()), axis=0).tolist()
        figures.draw_courses(
            output / f"{name}.png",
            f"pixels that the {name.replace('_', ' ')} classifies correctly",
            [one.iteration for one in asked],
            shares,
            level=(0.5, "chance"),
            percent=True,
        )


def draw_alignment(findings: InspectionFindings, output: Path, space: LabelSpace) -> None:
    """Draws feature maps and distances of class centres."""

    def feature_map(title: str, one: Features, places: object, cut: float = 0.0) -> figures.FeatureMap:
        title = f"{one.network}\n{title}"
        return figures.FeatureMap(
            title, np.array(places), np.array(one.point_class), np.array(one.point_is_source), cut
        )

    rows = [[feature_map("t-SNE", one, one.tsne) for one in findings.features if one.tsne is not None]]
    rows.append([
        feature_map(f"PCA, {sum(one.pca_variance):.0%} of the variance", one, one.pca, cut=PCA_CUT)
        for one in findings.features
    ])  # fmt: skip
    note = (
        f"classes of source cells by ground truth, of target cells by {findings.labels}; "
        f"PCA without the outermost {PCA_CUT:g} % at each side"
    )
    figures.draw_features(output / "features.png", list(filter(None, rows)), space, note)
    figures.draw_centres(
        output / "centres.png",
        "distance of source and target centres / distance to other classes",
        {one.network: np.array(one.centre_distance_relative, np.float64) for one in findings.features},
        space,
    )
