"""The networks and images that `clan inspect` compares."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clan.core.errors import ConfigError, DataError, WeightsError, of_domain
from clan.data.dataset import Dataset, open_domain
from clan.data.domains import evaluation_dataset
from clan.data.loader import DomainSampler, PairedLoader
from clan.evaluation.finite import MOVE_IT, of_network
from clan.evaluation.paddle_network import label_space_of
from clan.methods.base import Pair
from clan.reporting.inspection import measures
from clan.reporting.inspection.alignment import COMPONENTS, FeatureSample, centre_distances, principal_components, tsne
from clan.reporting.inspection.findings import Features, Labels, SnapshotFindings, known
from clan.reporting.inspection.measures import OnImage
from clan.run.config import Config
from clan.run.folder import Snapshot
from clan.run.records import RunRecords, located, read_run
from clan.training.batches import build_samplers, to_device
from clan.training.statistics import prepare_sampling

LARGEST_SEED = 2**32 - 1
"""That t-SNE takes."""


@dataclass(frozen=True)
class Options:
    """Options of `clan inspect`.

    Raises:
        ConfigError: a number is too small.
    """

    split: str | None = None  # of the target; None: val, else test
    images: int = 20  # of each domain
    snapshots: int = 8  # largest number, evenly spaced, with the first and the last
    points: int = 50  # cells of each class and domain in feature maps
    against: Path | None = None  # run whose last network is compared with this run's last, instead of this run's first
    data_dir: Path | None = None  # folder of the source; None: that of config.yaml
    data_dir_target: Path | None = None  # folder of the target; None: that of config.yaml
    seed: int = 0  # of the choice of images and cells, and of t-SNE

    def __post_init__(self) -> None:
        for name in ("images", "snapshots", "points"):
            if (number := getattr(self, name)) < 1:
                raise ConfigError(f"--{name} {number} leaves nothing to show: give at least 1")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ConfigError(f"--seed {self.seed} is no seed: give 0 to {LARGEST_SEED}")


@dataclass(frozen=True)
class InspectedNetwork:
    """A network whose features are compared."""

    config: Config
    weights: Path
    name: str


class Subject:
    """A run and a choice of images, the same for every snapshot.

    Args:
        folder: the run's folder.
        options: see `Options`.

    Raises:
        ClanError: the folder is not a run or has no snapshot, or the data set has no such images.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.options = options
        self.run = read_run(folder)
        self.snapshots = numbered(folder, self.run.snapshots, options.snapshots)
        self.config = moved(self.run, options)
        self.label_space = label_space_of(self.snapshots[0].path, self.config.network.num_classes)
        target = evaluation_dataset(
            folder, domain=None, data_dir=options.data_dir_target, data_list=None, split=options.split
        )
        self.target = target.part(self._choose(target, 1))
        with of_domain("source"):
            source = open_domain(self.config.source, self.config.classes)
        self.source = source.part(self._choose(source, 0))
        self.labelled = all(self.target.has_label(index) for index in range(len(self.target)))
        self.method = measures.open_networks(self.config)

    def _choose(self, dataset: Dataset, role: int) -> list[int]:
        """Returns random indices of images."""
        random = np.random.default_rng([self.options.seed, role])
        return random.permutation(len(dataset))[: self.options.images].tolist()

    @property
    def labels(self) -> Labels:
        """Source of the classes of target pixels."""
        return "ground truth" if self.labelled else "prediction"

    @property
    def two_heads(self) -> bool:
        """Whether the network has two heads."""
        return len(self.method.segmenter.heads) == 2

    @property
    def images(self) -> int:
        """Number of images that each snapshot processes."""
        return len(self.target) + (2 * self.pairs if self.method.discriminators else 0)

    @property
    def pairs(self) -> int:
        """Number of pairs for the discriminators."""
        return max(len(self.source), len(self.target))

    def look(self, snapshot: Snapshot, keep: int, on_image: OnImage) -> tuple[SnapshotFindings, list[np.ndarray]]:
        """Measures a snapshot; returns also the discrepancy maps of the first `keep` images, float32 [H, W]."""
        asked = measures.load_snapshot(self.method, snapshot.path)
        sampler, classes = self._target_sampler(self.config), self.label_space.num_classes
        if self.two_heads:
            with of_network(snapshot.path, MOVE_IT):
                found = measures.discrepancies(self.method, sampler, classes, keep=keep, on_image=on_image)
        else:
            found = None
            on_image(len(self.target))
        return SnapshotFindings(
            iteration=snapshot.iteration or 0,
            weights=snapshot.path.name,
            discrepancy=float(found.of_image.mean()) if found else None,
            discrepancy_of_image=found.of_image.tolist() if found else [],
            discrepancy_of_class=known(found.of_class) if found else [None] * classes,
            pixels_of_class=found.pixels.tolist() if found else [0] * classes,
            head_cosine=measures.head_cosine(self.method.segmenter) if found else None,
            discriminators=measures.discriminator_accuracy(self.method, self._training_pairs(on_image), asked),
        ), found.maps if found else []

    def _training_pairs(self, on_image: OnImage) -> Iterator[Pair]:
        """Yields pairs of training images with the run's augmentation."""
        if not self.method.discriminators:
            return
        source, target = build_samplers(self.config)
        prepare_sampling(self.config, {"source": source, "target": target}, notify=lambda sentence: None)
        loader = PairedLoader(source, target)
        for number in range(self.pairs):
            yield to_device(loader.pair(number))
            on_image(2)

    def _target_sampler(self, config: Config) -> DomainSampler:
        return measures.plain_sampler(config, self.target, self.config.target.size, labelled=self.labelled)

    def networks(self) -> list[InspectedNetwork]:
        """Those whose features are compared: before and after, or the only one."""
        if self.options.against is None:
            ends = dict.fromkeys([self.snapshots[0], self.snapshots[-1]])
            return [InspectedNetwork(self.config, one.path, f"iteration {one.iteration:,}") for one in ends]
        rival = read_run(self.options.against)
        last = numbered(rival.folder, rival.snapshots, 1)[-1]
        if rival.config.classes.label_space.names != self.config.classes.label_space.names:
            raise ConfigError(
                f"{rival.folder} has other classes than {self.run.folder}: compare runs of the same classes"
            )
        both = (rival, last), (self.run, self.snapshots[-1])
        return [
            InspectedNetwork(run.config, one.path, f"{run.folder.resolve().name}, iteration {one.iteration:,}")
            for run, one in both
        ]

    def features(self, network: InspectedNetwork, on_image: OnImage) -> Features:
        """Returns features of cells of both domains; the cells are the same for every network."""
        options, classes = self.options, self.label_space.num_classes
        method = measures.open_networks(network.config)
        measures.load_snapshot(method, network.weights)
        samplers = {
            True: measures.plain_sampler(network.config, self.source, self.config.source.size, labelled=True),
            False: self._target_sampler(network.config),
        }
        samples = {
            is_source: FeatureSample(classes, options.points, (options.seed, 2, is_source)) for is_source in samplers
        }
        with of_network(network.weights, MOVE_IT):
            for is_source, sampler in samplers.items():
                measures.collect_features(method, sampler, samples[is_source], is_source=is_source, on_image=on_image)
        (source, source_ids), (target, target_ids) = samples[True].sample(), samples[False].sample()
        if min(len(source), len(target)) < 2:
            raise DataError(
                f"of the {len(self.source)} source and {len(self.target)} target images too few cells have a class: "
                "take more --images or another --split"
            )
        points = np.concatenate([source, target])
        components, variance = principal_components(points, COMPONENTS)
        distance, relative = centre_distances(samples[True], samples[False])
        nearby = tsne(components, options.seed)
        return Features(
            network=network.name,
            target_labels=self.labels,
            source_cells=samples[True].cells.tolist(),
            target_cells=samples[False].cells.tolist(),
            centre_distance=known(distance),
            centre_distance_relative=known(relative),
            point_class=np.concatenate([source_ids, target_ids]).tolist(),
            point_is_source=[True] * len(source) + [False] * len(target),
            pca=components[:, :2].tolist(),
            pca_variance=(float(variance[0]), float(variance[1])),
            tsne=None if nearby is None else nearby.tolist(),
        )


def numbered(folder: Path, snapshots: list[Snapshot], most: int) -> list[Snapshot]:
    """Returns at most `most` snapshots with an iteration, evenly spaced, including the last.

    Raises:
        WeightsError: there is none.
    """
    known = [one for one in snapshots if one.iteration is not None]
    if not known:
        raise WeightsError(f"{folder} holds no snapshot (NAME_ITERATION.pdparams) to look into: wait for its first one")
    places = np.linspace(len(known) - 1, 0, min(most, len(known))).round().astype(int)
    return [known[place] for place in places[::-1]]


def moved(run: RunRecords, options: Options) -> Config:
    """Returns the configuration with the folders and the seed of the options, and batch size 1."""
    changes: dict[str, Any] = {"seed": options.seed, "batch_size": 1}
    for role, root in (("source", options.data_dir), ("target", options.data_dir_target)):
        domain = getattr(run.config, role)
        places = {"root": root or located(domain.root, run.folder, run.config)}
        if domain.list_file:
            places["list_file"] = located(domain.list_file, run.folder, run.config)
        changes[role] = domain.model_copy(update=places)
    return run.config.model_copy(update=changes)
