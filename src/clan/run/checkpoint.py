"""Checkpoints: everything that the next iteration depends on, on disk.

The loader's position and all random draws follow from iteration and seed, so a state holds little more than the
networks, the optimizers and the iteration. A state is a pair of files in the folder `states`: `ITERATION.safetensors`,
and the manifest `ITERATION.json` with its size and SHA-256. The manifest is written first, so a `.safetensors` file
under its final name is complete.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clan.core.errors import CheckpointError, ConfigError
from clan.core.files import UnfitFile, read_whole, remove_leftovers, sha256, write_atomically
from clan.core.output import encoded
from clan.core.schema import build
from clan.core.yaml_file import parse_yaml
from clan.run.config import Config, flat_options, to_yaml
from clan.run.folder import OLD_STATE, STATES

VERSION = 3
"""Format of a state."""


@dataclass(frozen=True)
class State:
    """The complete state of a run.

    Args:
        iteration: the next iteration.
        arrays: by name: "segmenter/…", "sgd/…", "discriminator/…", "adam/…".
        config_yaml: the run's configuration.
        ranks: number of processes that train together.
        pairs: pairs of batches that they have taken, which is the position in the data.
        notes: further JSON values by name.
    """

    iteration: int
    arrays: Mapping[str, np.ndarray]
    config_yaml: str
    ranks: int = 1
    pairs: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)


class Damaged(Exception):
    """A state that must not be used; the message continues the file's name."""


class States:
    """The saved states of a run.

    Args:
        folder: the run's folder.
        keep: number of states to keep.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self._damaged: set[Path] = set()

    def paths(self) -> list[Path]:
        """Lists the files of all states, latest first."""
        numbered = [path for path in (self.folder / STATES).glob("*.safetensors") if path.stem.isdecimal()]
        old = [path for path in (self.folder / OLD_STATE,) if path.is_file()]
        return sorted(numbered, key=lambda path: int(path.stem), reverse=True) + old

    def save(self, state: State) -> Path:
        """Writes a state atomically, then removes the oldest ones beyond `keep`.

        Raises:
            CheckpointError: the folder is not writable or the disk is full; older states are kept.
        """
        path = self.folder / STATES / f"{state.iteration}.safetensors"
        content = pack(state)
        manifest = {
            "version": VERSION,
            "iteration": state.iteration,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "config_sha256": hashlib.sha256(encoded(state.config_yaml)).hexdigest(),
        }
        lines = json.dumps(manifest, indent=2).encode() + b"\n"
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(manifest_path(path), lambda file: file.write(lines))
            write_atomically(path, lambda file: file.write(content))
            self._damaged.discard(path)
            self._prune(state.iteration)
        except OSError as error:
            raise CheckpointError(
                f"cannot write {path} ({error.strerror}): free disk space or mend the folder, then go on with "
                "--resume from the state before"
            ) from None
        return path

    def latest(self, notify: Callable[[str], None] = print) -> State:
        """Reads the latest valid state; `notify` receives a sentence per damaged one.

        Raises:
            CheckpointError: there is no valid state.
        """
        paths = self.paths()
        if not paths:
            raise CheckpointError(f"{self.folder} holds no state to resume from: start without --resume")
        complaints = []
        for path in paths:
            try:
                state = read_state(path)
            except Damaged as damage:
                complaints.append(f"{path} {damage}")
                self._damaged.add(path)
            else:
                for complaint in complaints:
                    notify(f"{complaint}: passed over for {path}")
                return state
        raise CheckpointError(f"no state to resume from is whole: {'; '.join(complaints)}: start without --resume")

    def remove_leftovers(self) -> None:
        """Removes what killed writers left: temporary files, and manifests without a state."""
        folder = self.folder / STATES
        for place in (self.folder, folder, self.folder / "images"):
            remove_leftovers(place)
        for manifest in folder.glob("*.json"):
            if manifest.stem.isdecimal() and not manifest.with_suffix(".safetensors").exists():
                manifest.unlink()

    def _prune(self, iteration: int) -> None:
        """Removes states up to `iteration` but the last `keep` valid ones."""
        past = [path for path in self.paths() if path.name == OLD_STATE or int(path.stem) <= iteration]
        kept = [path for path in past if path not in self._damaged][: self.keep]
        for path in past:
            if path not in kept:
                path.unlink()
                manifest_path(path).unlink(missing_ok=True)


def manifest_path(path: Path) -> Path:
    """Returns the path of a state's manifest."""
    return path.with_suffix(".json")


def pack(state: State) -> bytes:
    """Returns the content of a state's file."""
    metadata = {
        "version": str(VERSION),
        "iteration": str(state.iteration),
        "config": state.config_yaml,
        "ranks": str(state.ranks),
        "pairs": str(state.pairs),
        "notes": json.dumps(dict(state.notes)),
    }
    # Safetensors needs arrays in C order.
    return save({name: np.ascontiguousarray(array) for name, array in state.arrays.items()}, metadata)


def read_state(path: Path) -> State:
    """Reads a state of this or an older version.

    Raises:
        Damaged: the file is not a state, or differs from its manifest.
    """
    try:
        if path.name != OLD_STATE:
            _check(path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            version = int(metadata["version"])
            if version > VERSION:
                raise Damaged(f"is of version {version}; this program reads versions up to {VERSION}")
            # Before version 3 the backbone was called the trunk.
            names = {name: name.replace("/trunk.", "/backbone.", 1) for name in file.keys()}  # noqa: SIM118
            arrays = {today: file.get_tensor(name) for name, today in names.items()}
        iteration, ranks = int(metadata["iteration"]), int(metadata.get("ranks", "1"))
        # Older states leave the position to be computed.
        pairs = metadata.get("pairs") or iteration * ranks * _passes(metadata["config"])
        return State(
            iteration,
            arrays,
            metadata["config"],
            ranks,
            int(pairs),
            notes=json.loads(metadata.get("notes", "{}")),
        )
    except OSError as error:
        raise Damaged(f"cannot be read ({error.strerror or error})") from None
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"is damaged ({' '.join(str(error).split())})") from None


def _check(path: Path) -> None:
    """Compares a state with its manifest.

    Raises:
        Damaged, OSError, ValueError, KeyError, TypeError: the state or the manifest is damaged.
    """
    try:
        manifest = json.loads(read_whole(manifest_path(path), 64 << 10))
    except FileNotFoundError:
        raise Damaged(f"has no manifest {manifest_path(path).name}") from None
    except (UnfitFile, ValueError, RecursionError) as error:
        raise Damaged(f"has a damaged manifest {manifest_path(path).name} ({error})") from None
    size, expected = path.stat().st_size, manifest["bytes"]
    if size != expected:
        raise Damaged(f"is damaged ({size} bytes instead of {expected})")
    if manifest["iteration"] != int(path.stem):
        raise Damaged("has the manifest of another iteration")
    if sha256(path) != manifest["sha256"]:
        raise Damaged("is damaged (its SHA-256 is not that of its manifest)")


def _passes(config_yaml: str) -> int:
    """The passes of an iteration on each rank."""
    return int(parse_yaml(encoded(config_yaml), Path("the state's configuration")).values.get("iter_size", 1))


def check_fits(state: State, config: Config, *, ranks: int = 1, accept_changes: bool = False) -> str:
    """Checks that a state can be resumed with a configuration.

    Another number of ranks is accepted where `iter_size` makes up for it: an iteration then takes as many pairs.

    Args:
        state: the state.
        config: the configuration to continue with.
        ranks: number of processes.
        accept_changes: accept another configuration.

    Returns:
        The accepted changes as `changes` formats them; "" if there are none.

    Raises:
        CheckpointError: an iteration would take another number of pairs, or a changed option is not accepted.
    """
    before, after = state.ranks * _passes(state.config_yaml), ranks * config.iter_size
    changed = changes(state.config_yaml, to_yaml(config), besides=("iter_size",) if before == after else ())
    if before != after and ranks != state.ranks:
        counts = f"ranks: {state.ranks} → {ranks}, so pairs of an iteration: {before} → {after}"
        changed = f"{counts}, {changed}" if changed else counts
    if changed and not accept_changes:
        remedy = "give the same options, or --resume-with-changes to go on with these"
        if ranks != state.ranks and not before % ranks:
            remedy = f"--iter-size {before // ranks} keeps the pairs of an iteration, and --resume-with-changes accepts"
        raise CheckpointError(
            f"cannot resume the state of iteration {state.iteration}: the configuration changed in {changed}; {remedy}"
        )
    return changed


FREE_TO_CHANGE = (
    *("num_workers", "save_every", "save_images", "device", "gpu", "autotune", "snapshot_dir", "num_steps_stop"),
    *("keep_last", "on_nonfinite", "tolerate_bad_samples", "data_timeout", "validate_every", "loggers"),
)
"""Options that do not change results, or that a user changes to get past what stopped the run."""


def changes(old: str, new: str, besides: Sequence[str] = ()) -> str:
    """Formats the differences of two configurations as `option: old → new, …`, without `FREE_TO_CHANGE`.

    Args:
        old: a configuration as YAML.
        new: the other one.
        besides: further options to leave out.
    """
    before, after = (parse_yaml(encoded(text), Path("the state's configuration")).values for text in (old, new))
    try:  # fills in defaults of options added since
        before, after = (build(Config, values).options() for values in (before, after))
    except ConfigError:  # an option was removed or changed: the comparison names it
        before, after = (dict(flat_options(values)) for values in (before, after))
    free = {*FREE_TO_CHANGE, *besides}
    names = [name for name in before | after if name not in free and before.get(name) != after.get(name)]
    return ", ".join(f"{name}: {before.get(name)} → {after.get(name)}" for name in names)
