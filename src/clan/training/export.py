"""A run's folder: creating it, checking disk space, and writing its configuration, snapshots and previews."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from paddle import Tensor

from clan.core.errors import CheckpointError, ConfigError, DataError
from clan.core.files import write_atomically, writing
from clan.core.output import encoded
from clan.data import transforms
from clan.data.loader import DomainSampler
from clan.evaluation.finite import NotFinite
from clan.evaluation.images import save_color
from clan.evaluation.inference import evaluating, predict
from clan.models.weights import save_weights
from clan.run.config import Config, to_yaml
from clan.run.folder import BEST, CONFIG, prefix_of
from clan.run.observer import Validation
from clan.training.learner import Learner


def make_folder(folder: Path) -> None:
    """Creates a folder and checks that files can be written to it.

    Raises:
        ConfigError: they cannot.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"cannot write to {folder} ({error.strerror}): choose another --snapshot-dir") from None


def write_config(folder: Path, config: Config) -> None:
    """Writes `config.yaml`, from which the run can be repeated.

    Raises:
        ConfigError: it cannot be written.
    """
    with writing(folder, "choose another folder", ConfigError):
        write_atomically(folder / CONFIG, lambda file: file.write(encoded(to_yaml(config))))


def needed_space(config: Config, learner: Learner, *, iteration: int, states: int) -> int:
    """Returns an upper bound of the bytes that a run will write.

    Counted are all further snapshots, the states that are kept plus one that is being written, and with validation two
    copies of the best snapshot.

    Args:
        config: the run.
        learner: networks and optimizers.
        iteration: first iteration to run.
        states: number of states in the folder.
    """
    discriminators = _bytes(tensor for net in learner.method.discriminators.values() for tensor in net.parameters())
    exported = _bytes(learner.method.exported.state_dict().values())
    best = 2 * exported if config.validate_every else 0
    to_come = -(-config.stop // config.save_every) - iteration // config.save_every
    state = _bytes(learner.state_dict().values())
    return to_come * (exported + discriminators) + best + max(1, config.keep_last + 1 - states) * state


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.size * tensor.element_size() for tensor in tensors)


def check_space(folder: Path, needed: int) -> None:
    """Checks that a folder's disk has at least `needed` bytes free.

    Raises:
        ConfigError: it has less.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"the run will write {needed / 1e9:.2f} GB to {folder}, where {free / 1e9:.2f} GB are free: free space, "
            "choose another --snapshot-dir, or save less often (--save-every)"
        )


class Snapshots:
    """Writes weights, and colour masks of target images as previews.

    Args:
        config: the run.
        learner: networks and optimizers.
        target: sampler whose images are predicted.
    """

    def __init__(self, config: Config, learner: Learner, target: DomainSampler) -> None:
        self.config, self.learner, self.target = config, learner, target
        self.prefix = prefix_of(config.source.dataset.name)

    def path(self, iteration: int | str, suffix: str = "") -> Path:
        """Returns the path of the segmenter after an iteration, or with suffix "_D" of the discriminator."""
        return self.config.snapshot_dir / f"{self.prefix}_{iteration}{suffix}.pdparams"

    def save(self, iteration: int) -> Mapping[str, Path]:
        """Saves all networks and the previews.

        Returns:
            Paths of the previews by image name.

        Raises:
            ClanError: a file cannot be written, or an image cannot be read.
        """
        method = self.learner.method
        with self.learner.averaged():
            save_weights(method.exported, self.path(iteration))
            previews = self._save_previews(iteration)
        for name, discriminator in method.discriminators.items():
            save_weights(discriminator, self.path(iteration, name.replace("discriminator", "_D")))
        return previews

    def save_best(self, validation: Validation) -> None:
        """Saves the segmenter as the best so far, with its scores.

        Scores are deleted before the weights are replaced, so that scores on disk are always those of the weights.

        Raises:
            ClanError: a file cannot be written.
        """
        path = self.path(BEST.removeprefix("_"))
        scores = path.with_suffix(".json")
        text = json.dumps(validation.record(), indent=2, ensure_ascii=False) + "\n"
        with writing(scores, "free disk space", CheckpointError):
            scores.unlink(missing_ok=True)
            with self.learner.averaged():
                save_weights(self.learner.method.exported, path)
            write_atomically(scores, lambda file: file.write(encoded(text)))

    def _save_previews(self, iteration: int) -> Mapping[str, Path]:
        """Saves colour masks of the first target images; returns their paths by image name."""
        dataset, size = self.target.dataset, self.target.size
        segmenter, saved = self.learner.method.exported, {}
        with evaluating(segmenter):
            for index in range(min(self.config.save_images, len(dataset))):
                try:
                    image = transforms.resize_image(dataset.read_image(index), size)
                except DataError:
                    if not self.config.tolerate_bad_samples:
                        raise
                    continue  # training reports it when it samples it
                planes = transforms.normalize(image, self.target.normalization)
                try:
                    train_ids = predict(segmenter, planes[None], [(size[1], size[0])])[0]()
                except NotFinite:
                    continue  # there is nothing to look at
                name = _short(dataset.stems[index].replace("/", "_"))
                name = f"{name}_{index}" if name in saved else name  # a/b and a_b
                path = self.config.snapshot_dir / "images" / f"{self.path(iteration).stem}_{name}.png"
                save_color(train_ids, path, self.config.classes.label_space)
                saved[name] = path
        return saved


def _short(name: str) -> str:
    """Shortens a name to leave room for prefix and suffix: file names have at most 255 bytes."""
    content = os.fsencode(name)
    return name if len(content) <= 150 else f"{os.fsdecode(content[:100])}_{hashlib.sha256(content).hexdigest()[:8]}"
