"""The configuration stored with weights: in the file or beside it; converting weights keeps it."""

from pathlib import Path

from clan.core.errors import ConfigError, WeightsError
from clan.core.files import write_atomically, writing
from clan.core.schema import build
from clan.core.yaml_file import parse_yaml, read_yaml
from clan.models.weight_files import read_metadata
from clan.models.weights import FoundArrays
from clan.models.weights import convert as convert_arrays
from clan.run.config import Config, load, to_yaml
from clan.run.folder import CONFIG

_LARGEST_TEXT = 64 << 10


def config_of(weights: Path) -> Config | None:
    """Reads the configuration of the run that weights are from; None: there is none.

    Searched in this order: metadata of the file (`.safetensors`), `NAME.yaml` beside `NAME.pth`, `config.yaml` in the
    same folder. For a folder: the `config.yaml` in it.

    Raises:
        ConfigError: a configuration is there but invalid.
    """
    if not weights.is_dir():
        if own := _carried(weights) or _beside(weights.with_suffix(".yaml")):
            return own
        weights = weights.parent
    path = weights / CONFIG
    return load(path) if path.is_file() else None


def _carried(weights: Path) -> Config | None:
    text = read_metadata(weights).get(CONFIG)
    if text is None:
        return None
    place = Path(f"{weights} ({CONFIG} in it)")  # for messages
    if len(text) > _LARGEST_TEXT:
        raise ConfigError(f"{place} has {len(text)} characters, over the limit of {_LARGEST_TEXT}: do not use it")
    return build(Config, parse_yaml(text.encode("utf-8", "replace"), place).values, str(place))


def _beside(path: Path) -> Config | None:
    """Reads a file if it is a configuration, and not, for example, a data set's description."""
    if not path.is_file():
        return None
    keys = read_yaml(path).values.keys()
    return load(path) if {"network", "source", "target"} <= keys else None


def convert(
    source: Path, target: Path, *, take: str | None = None, overwrite: bool = False
) -> tuple[FoundArrays, Path | None]:
    """Converts weights to another format together with their run's configuration, without this machine's folders.

    The configuration is stored in the metadata of `.safetensors`, otherwise in `NAME.yaml` beside the file.

    Args:
        source: the weights.
        target: the file to write.
        take: which network of several in the file; see `clan.models.weights.read_network`.
        overwrite: replace existing files.

    Returns:
        The written arrays, and the file that holds the configuration, if one is known.

    Raises:
        ClanError: the source cannot be read, or a target exists or cannot be written.
    """
    config = config_of(source)
    carries = target.suffix.lower() == ".safetensors"
    text = to_yaml(_portable(config)) if config else ""
    side = target.with_suffix(".yaml") if config and not carries else None
    if target.exists() and source.exists() and target.samefile(source):
        raise WeightsError(f"{target} is the file to convert itself: give the result another name")
    if target.suffix.lower() == ".pdparams" and (target.parent / CONFIG).is_file():
        raise WeightsError(f"{target} would be taken for a snapshot of the run in {target.parent}: write it elsewhere")
    for path in (target, side):
        if path is not None and path.exists() and not overwrite:
            if path == side and path.is_file() and path.read_bytes() == text.encode():
                continue
            raise WeightsError(f"{path} exists already: give another name, or --overwrite to replace it")
    found = convert_arrays(source, target, take=take, metadata={CONFIG: text} if config and carries else None)
    if side is not None:
        with writing(side, "check the folder and its space", WeightsError):
            write_atomically(side, lambda file: file.write(text.encode()))
    return found, (target if carries else side) if config else None


def _portable(config: Config) -> Config:
    """Returns the configuration with folders cut to their last name and without initial weights."""
    fresh = {"restore_from": None, "restore_discriminator_from": None}
    domains = {
        role: domain.model_copy(update={"root": Path(domain.root.name), "list_file": None})
        for role, domain in (("source", config.source), ("target", config.target))
    }
    network = config.network.model_copy(update=fresh)
    return config.model_copy(update={**domains, "network": network, "snapshot_dir": Path(config.snapshot_dir.name)})
