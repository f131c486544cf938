"""A run's folder: made ready for a new run, and the snapshots and previews that are written into it."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from clan.core.errors import CheckpointError, ConfigError, DataError
from clan.core.files import write_atomically
from clan.core.output import encoded
from clan.data import transforms
from clan.data.loader import DomainSampler
from clan.evaluation.images import save_color
from clan.evaluation.inference import evaluating, predict
from clan.models.weights import save_weights
from clan.run.config import Config, to_yaml
from clan.run.folder import BEST, prefix_of
from clan.run.observer import Validation
from clan.training.learner import Learner


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


def write_config(folder: Path, config: Config) -> None:
    """Writes `config.yaml`, which runs the run again.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_atomically(folder / "config.yaml", lambda file: file.write(encoded(to_yaml(config))))
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
            write_atomically(scores, lambda file: file.write(encoded(text)))
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
                name = _short(dataset.stems[index].replace("/", "_"))
                name = f"{name}_{index}" if name in saved else name  # a/b and a_b
                path = self.config.snapshot_dir / "images" / f"{self.path(iteration).stem}_{name}.png"
                save_color(train_ids, path, self.config.classes.label_space)
                saved[name] = path
        return saved


def _short(name: str) -> str:
    """A name that leaves room for what is added to it: file systems take 255 bytes."""
    content = os.fsencode(name)
    return name if len(content) <= 150 else f"{os.fsdecode(content[:100])}_{hashlib.sha256(content).hexdigest()[:8]}"
