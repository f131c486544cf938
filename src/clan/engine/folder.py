"""A run's folder: made ready for a new run, and the snapshots and previews that are written into it."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from clan.atomic import write_atomically
from clan.config import Config, to_yaml
from clan.data import transforms
from clan.data.loader import DomainSampler
from clan.engine import checkpoint
from clan.engine.events import EventLog
from clan.engine.inference import evaluating, predict
from clan.engine.learner import Learner
from clan.errors import CheckpointError, ConfigError, DataError
from clan.models.weights import save_weights
from clan.reporting.images import save_color
from clan.reporting.loggers import FOLDERS
from clan.reporting.observer import Validation
from clan.snapshots import BEST, prefix_of


def make_folder(folder: Path) -> None:
    """Creates a folder and makes sure that files can be written there.

    Raises:
        ConfigError: it cannot.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} ({error.strerror}): choose another --snapshot-dir") from None


def set_aside(folder: Path, notify: Callable[[str], None]) -> None:
    """Renames the states, records and best of an earlier run, which a new one must not mix with or lose."""
    best = [path.name for suffix in (".pdparams", ".json") for path in folder.glob(f"*{BEST}{suffix}")]
    for name in (checkpoint.FOLDER, checkpoint.OLD_NAME, "bad_samples.txt", *EventLog.NAMES, *FOLDERS, *best):
        path = folder / name
        if path.exists():
            names = itertools.chain([f"{name}.before"], (f"{name}.before{number}" for number in itertools.count(2)))
            free = next(before for before in names if not (folder / before).exists())
            path.replace(folder / free)
            notify(f"{path} belongs to an earlier run: kept as {free}")


def write_config(folder: Path, config: Config) -> None:
    """Writes `config.yaml`, which runs the run again.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_atomically(folder / "config.yaml", lambda file: file.write(to_yaml(config).encode()))
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} ({error.strerror}): choose another folder") from None


class Snapshots:
    """What a run saves for its users: weights, and colour masks to look at.

    Args:
        config: the run.
        learner: what is trained.
        target: where the images for the masks are from.
    """

    def __init__(self, config: Config, learner: Learner, target: DomainSampler) -> None:
        self.config = config
        self.learner = learner
        self.target = target
        self.prefix = prefix_of(config.source.dataset.name)

    def path(self, iteration: int | str, suffix: str = "") -> Path:
        """Where the segmenter (or, with suffix "_D", the discriminator) is saved after an iteration."""
        return self.config.snapshot_dir / f"{self.prefix}_{iteration}{suffix}.pdparams"

    def save(self, iteration: int) -> Mapping[str, Path]:
        """Saves all networks; returns the colour masks that were saved too, by the names of their images.

        Raises:
            ClanError: a file cannot be written, or an image not be read.
        """
        method = self.learner.method
        with self.learner.averaged():
            save_weights(method.exported, self.path(iteration))
            previews = self._save_previews(iteration)
        for name, discriminator in method.discriminators.items():
            save_weights(discriminator, self.path(iteration, name.replace("discriminator", "_D")))
        return previews

    def save_best(self, validation: Validation) -> None:
        """Saves the segmenter as the best so far, and what it scored.

        At no time do scores lie beside other weights than theirs.

        Raises:
            ClanError: a file cannot be written.
        """
        path = self.path(BEST.removeprefix("_"))
        scores = path.with_suffix(".json")
        text = json.dumps(validation.record(), indent=2, ensure_ascii=False) + "\n"
        try:
            scores.unlink(missing_ok=True)
            with self.learner.averaged():
                save_weights(self.learner.method.exported, path)
            write_atomically(scores, lambda file: file.write(text.encode()))
        except OSError as error:
            raise CheckpointError(f"cannot write {scores} ({error.strerror}): free disk space") from None

    def _save_previews(self, iteration: int) -> Mapping[str, Path]:
        """Colour masks of the first target images, to look at while training."""
        dataset, size = self.target.dataset, self.target.size
        segmenter, saved = self.learner.method.exported, {}
        with evaluating(segmenter):
            for index in range(min(self.config.save_images, len(dataset))):
                try:
                    image = transforms.resize_image(dataset.read_image(index), size)
                except DataError:
                    if not self.config.tolerate_bad_samples:
                        raise
                    continue  # named when training meets it
                planes = transforms.normalize(image, self.target.normalization)
                train_ids = predict(segmenter, planes[None], [(size[1], size[0])])[0]()
                name = dataset.stems[index].replace("/", "_")
                path = self.config.snapshot_dir / "images" / f"{self.path(iteration).stem}_{name}.png"
                save_color(train_ids, path, self.config.classes.label_space)
                saved[name] = path
        return saved
