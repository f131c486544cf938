"""The complete state of a run, on disk: everything that the next iteration depends on.

The loader's position and every random draw follow from the iteration and the seed, so the networks, the
optimizers and the iteration are all there is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clan.atomic import write_atomically
from clan.config import Config, to_yaml
from clan.errors import CheckpointError

STATE_NAME = "state.safetensors"
VERSION = "1"


@dataclass(frozen=True)
class State:
    """Arrays by name ("segmenter/…", "sgd/…", "discriminator/…", "adam/…"), and the iteration that comes next.

    `ranks` is how many processes train together: their number decides which pairs an iteration takes.
    """

    iteration: int
    arrays: Mapping[str, np.ndarray]
    config_yaml: str
    ranks: int = 1


def save_state(folder: Path, state: State) -> Path:
    """Writes the state aside, syncs it and renames it over the previous one, which stays whole until then.

    Raises:
        CheckpointError: the folder cannot be written or the disk is full.
    """
    path = folder / STATE_NAME
    metadata = {"version": VERSION, "iteration": str(state.iteration), "config": state.config_yaml}
    metadata["ranks"] = str(state.ranks)
    try:
        # Safetensors scrambles arrays that are not in C order.
        content = save({name: np.ascontiguousarray(array) for name, array in state.arrays.items()}, metadata)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise CheckpointError(f"cannot write {path} ({error}): free disk space or choose another folder") from None
    return path


def load_state(folder: Path, config: Config, *, ranks: int = 1) -> State:
    """Reads the state of a folder, for a run with the same configuration on as many ranks.

    Raises:
        CheckpointError: there is none, it is damaged, or configuration or ranks differ in what they compute.
    """
    path = folder / STATE_NAME
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no {STATE_NAME} to resume from: start without --resume")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        written_by = int(metadata.get("ranks", "1"))
        state = State(int(metadata["iteration"]), arrays, metadata["config"], written_by)
        changed = changes(state.config_yaml, to_yaml(config))
    except (OSError, SafetensorError, KeyError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): start without --resume") from None
    if changed:
        raise CheckpointError(f"cannot resume {path}: the configuration changed in {changed}; give the same options")
    if state.ranks != ranks:
        raise CheckpointError(
            f"cannot resume {path}, of {state.ranks} processes, on {ranks}: start as many, as docs/distributed.md tells"
        )
    return state


FREE_TO_CHANGE = ("num_workers", "save_every", "save_images", "device", "gpu", "snapshot_dir", "num_steps_stop")
"""Options that leave the numbers as they are."""


def changes(old: str, new: str) -> str:
    """What differs between two configurations as `option: old → new, …`; empty when nothing that counts does."""
    before, after = (dict(_options(yaml.safe_load(text))) for text in (old, new))
    names = [name for name in before | after if name not in FREE_TO_CHANGE and before.get(name) != after.get(name)]
    return ", ".join(f"{name}: {before.get(name)} → {after.get(name)}" for name in names)


def _options(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every option with its whole name, such as "loss.gamma"."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _options(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
