"""The configuration that belongs to weights: beside them, in them, and kept with them when they are converted."""

from pathlib import Path

from clan.core.atomic import write_atomically
from clan.core.errors import ConfigError, WeightsError
from clan.core.schema import build
from clan.core.yaml_file import parse_yaml, read_yaml
from clan.models.weight_files import read_metadata
from clan.models.weights import FoundArrays
from clan.models.weights import convert as convert_arrays
from clan.run.config import Config, load, to_yaml

RUN_FILE = "config.yaml"
"""In a run's folder; also the name under which a `.safetensors` file carries the same."""

_LARGEST_TEXT = 64 << 10


def config_of(weights: Path) -> Config | None:
    """The configuration of the run that weights are from, or None if nothing tells it.

    That is what the file itself carries (`.safetensors`), or `NAME.yaml` beside `NAME.pth`, or the `config.yaml` in
    its folder. For a folder it is the `config.yaml` in it.

    Raises:
        ConfigError: there is one, but it does not fit.
    """
    if not weights.is_dir():
        if own := _carried(weights) or _beside(weights.with_suffix(".yaml")):
            return own
        weights = weights.parent
    path = weights / RUN_FILE
    return load(path) if path.is_file() else None


def _carried(weights: Path) -> Config | None:
    text = read_metadata(weights).get(RUN_FILE)
    if text is None:
        return None
    place = Path(f"{weights} ({RUN_FILE} in it)")  # for messages
    if len(text) > _LARGEST_TEXT:
        raise ConfigError(f"{place} has {len(text)} characters, over the limit of {_LARGEST_TEXT}: do not use it")
    return build(Config, parse_yaml(text.encode("utf-8", "replace"), place).values, str(place))


def _beside(path: Path) -> Config | None:
    """A configuration in a file that may as well be something else, such as the description of a data set."""
    if not path.is_file():
        return None
    keys = read_yaml(path).values.keys()
    return load(path) if {"network", "source", "target"} <= keys else None


def convert(
    source: Path, target: Path, *, take: str | None = None, overwrite: bool = False
) -> tuple[FoundArrays, Path | None]:
    """Rewrites weights in another format and keeps the configuration of their run with them.

    A `.safetensors` file carries it; beside another one it is `NAME.yaml`. Folders of this machine are left out of it.

    Args:
        source: the weights.
        target: the file to write.
        take: which network, where the file holds several; see `clan.models.weights.read_network`.
        overwrite: replace what is there.

    Returns:
        What was written, and the file that holds the configuration, if one is known.

    Raises:
        ClanError: the source cannot be read, or a file to write exists or cannot be written.
    """
    config = config_of(source)
    carries = target.suffix.lower() == ".safetensors"
    text = to_yaml(_portable(config)) if config else ""
    side = target.with_suffix(".yaml") if config and not carries else None
    if target.exists() and source.exists() and target.samefile(source):
        raise WeightsError(f"{target} is the file to convert itself: give the result another name")
    if target.suffix.lower() == ".pdparams" and (target.parent / RUN_FILE).is_file():
        raise WeightsError(f"{target} would be taken for a snapshot of the run in {target.parent}: write it elsewhere")
    for path in (target, side):
        if path is not None and path.exists() and not overwrite:
            if path == side and path.is_file() and path.read_bytes() == text.encode():
                continue
            raise WeightsError(f"{path} exists already: give another name, or --overwrite to replace it")
    found = convert_arrays(source, target, take=take, metadata={RUN_FILE: text} if config and carries else None)
    if side is not None:
        _write(text, side)
    return found, (target if carries else side) if config else None


def _portable(config: Config) -> Config:
    """The same without what only its machine has: folders by their last names, no files to start from."""
    fresh = {"restore_from": None, "restore_discriminator_from": None}
    domains = {
        role: domain.model_copy(update={"root": Path(domain.root.name), "list_file": None})
        for role, domain in (("source", config.source), ("target", config.target))
    }
    network = config.network.model_copy(update=fresh)
    return config.model_copy(update={**domains, "network": network, "snapshot_dir": Path(config.snapshot_dir.name)})


def _write(text: str, path: Path) -> None:
    try:
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise WeightsError(f"{path} cannot be written ({error.strerror}): check the folder and its space") from error
