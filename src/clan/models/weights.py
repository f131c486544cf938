"""Loading weights into networks and saving them: which array of a file belongs to which parameter.

Names on file are those of the official code, with Paddle's names for batch-norm buffers: `conv1.weight`, `bn1._mean`,
`layer1.0.downsample.0.weight`, `layer5` for head 1 and `layer6` for head 2. Converting files does not import Paddle.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import numpy as np

from clan.core.errors import WeightsError
from clan.core.files import quoted
from clan.models import dinov2_names, mit_names, mobilenet_names
from clan.models.weight_files import read_contents, write_arrays
from clan.models.wrappings import PREFIXES, roles, split_prefix

if TYPE_CHECKING:
    from paddle import nn

Value = TypeVar("Value")

RENAMES = (
    (r"^(trunk|backbone)\.", ""),  # trunk: the backbone's name in older states
    (r"^(head1|decode_head)\.", "layer5."),  # decode_head: the authors' of DAFormer
    (r"^head2\.", "layer6."),
    *dinov2_names.RENAMES,
    *mit_names.RENAMES,
    (r"\.running_mean$", "._mean"),
    (r"\.running_var$", "._variance"),
)
"""Pattern → replacement, applied in order: from any known name without prefix to the name on file."""

TORCH_RENAMES = ((r"\._mean$", ".running_mean"), (r"\._variance$", ".running_var"))
"""Pattern → replacement: from the name on file to PyTorch's."""

_HEADS = ("layer5.", "layer6.", "auxiliary.")
_PROJECTION_BIAS = ".downsample.0.bias"


@dataclass(frozen=True)
class MatchReport:
    """Comparison of the arrays in a file with those of a network, by names on file.

    Args:
        matched: arrays that were loaded.
        missing: arrays of the network that the file lacks.
        unexpected: arrays in the file that the network lacks.
        mismatched: name → (shape in the file, shape in the network); not loaded.
        skipped: arrays of heads, if these are not to be restored.
        notes: sentences on keys and prefixes of the arrays and on further networks in the file.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Formats the report: a count, then a line for each kind of exception."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched) + len(self.skipped)
        shapes = [f"{name} {theirs}, here {ours}" for name, (theirs, ours) in self.mismatched.items()]
        exceptions = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "skipped (other shape)": shapes,
            "skipped (heads start afresh)": self.skipped,
        }
        lines = [f"{title}: {_listed(entries)}" for title, entries in exceptions.items() if entries]
        return "\n".join([f"{len(self.matched)} of {total} arrays matched", *self.notes, *lines])


@dataclass(frozen=True)
class FoundArrays:
    """The arrays of one network in a file.

    Args:
        arrays: name on file → array.
        notes: sentences on keys and prefixes of the arrays and on further networks in the file.
    """

    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...]


def canonical_name(name: str) -> str | None:
    """Returns the name on file of a parameter named as in Paddle, the official code, the port or this network.

    Unknown names are returned without the prefixes of `wrappings.PREFIXES`. None: not needed (PyTorch's
    `num_batches_tracked`).
    """
    return None if name.endswith("num_batches_tracked") else _renamed(split_prefix(name)[1], RENAMES)


def to_file_names(state: Mapping[str, Value]) -> dict[str, Value]:
    """Renames the keys of a state_dict or any other mapping to names on file."""
    return {canonical: value for name, value in state.items() if (canonical := canonical_name(name)) is not None}


def has_projection_bias(names: Mapping[str, object]) -> bool:
    """Whether weights have a bias in projection convolutions, as the port's do."""
    return any(name.endswith(_PROJECTION_BIAS) for name in names)


def load_weights(network: "nn.Layer", path: Path, *, restore_heads: bool = True, strict: bool = False) -> MatchReport:
    """Loads the arrays of a file that match a network's parameters and buffers by name and shape.

    Args:
        network: the layer; unchanged if an error is raised.
        path: see `weight_files.read_arrays`.
        restore_heads: False: do not load heads.
        strict: require all arrays, as evaluation does.

    Returns:
        The comparison; heads for another number of classes are in `mismatched`.

    Raises:
        WeightsError: the file cannot be read, nothing matches, a matching array is not finite, or, if `strict`, an
            array is missing or has another shape.
    """
    state = to_file_names(network.state_dict())
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    found = read_network(path, shapes)
    arrays = found.arrays
    dinov2_names.require_no_registers(path, arrays, shapes)
    report = _match(found, shapes, restore_heads)
    if not report.matched:
        raise WeightsError(
            f"{path} has no array that fits the network by name and shape (it has {_listed(list(arrays))}, "
            f"the network {_listed(list(state))}): is it for another network?"
        )
    if strict:
        _require_all(path, report)
    with np.errstate(over="ignore"):  # overflow to infinity is reported below
        types = {name: str(state[name].dtype).removeprefix("paddle.") for name in report.matched}
        values = {name: arrays[name].astype(dtype) for name, dtype in types.items()}
    _require_finite(path, values)
    for name, value in values.items():
        state[name].set_value(value)
    return report


def save_weights(network: "nn.Layer", path: Path) -> None:
    """Saves a network's parameters and buffers as float32 under their names on file.

    Raises:
        WeightsError: see `weight_files.write_arrays`.
    """
    state = to_file_names(network.state_dict())
    write_arrays({name: tensor.astype("float32").numpy() for name, tensor in state.items()}, path)


def convert(
    source: Path, target: Path, *, take: str | None = None, metadata: dict[str, str] | None = None
) -> FoundArrays:
    """Converts weights to the format of the target's suffix.

    Arrays in `.pth` and `.pt` get the official code's PyTorch names, those in other formats the names on file.

    Args:
        source: see `weight_files.read_contents`.
        target: see `weight_files.write_arrays`.
        take: see `read_network`.
        metadata: see `weight_files.write_arrays`.

    Returns:
        The written arrays.

    Raises:
        WeightsError: the source cannot be read, or the target cannot be written.
    """
    found = read_network(source, take=take)
    arrays = found.arrays
    if target.suffix.lower() in (".pth", ".pt"):
        arrays = {_renamed(name, TORCH_RENAMES): array for name, array in arrays.items()}
    write_arrays(arrays, target, metadata)
    return found


def read_network(
    path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None, *, take: str | None = None
) -> FoundArrays:
    """Reads the arrays of one network from a file.

    Args:
        path: see `weight_files.read_contents`.
        shapes: name on file → shape of the network to load. Of several networks in the file, the one with most
            matching arrays is read, or without shapes the largest; in a tie a model before its averages, and a student
            before its teacher.
        take: a key or prefix, such as "ema", that selects the network instead.

    Returns:
        The arrays under their names on file.

    Raises:
        WeightsError: the file cannot be read, has a name twice, or has no array under `take`.
    """
    contents = read_contents(path, take)
    entries = []
    for name, array in contents.arrays.items():
        canonical = canonical_name(name)
        if canonical is not None:
            entries.append(_Entry(split_prefix(name)[0], canonical, array))
    networks = _networks(path, entries)
    if take is not None and take not in contents.wrapping.split("."):
        networks = {label: entries for label, entries in networks.items() if take in label.split(".")} or _absent(
            path, take, [contents.wrapping, *contents.others, *networks]
        )

    def rank(label: str) -> tuple[int, list[int]]:
        fitting = sum(shapes is None or shapes.get(e.name) == e.array.shape for e in networks[label])
        return -fitting, [PREFIXES.index(word) for word in label.split(".") if word]

    label = min(networks, key=rank)
    chosen = networks[label]
    others = [*contents.others, *(f"{other or '(without prefix)'}" for other in networks if other != label)]
    prefixes = sorted({entry.prefix for entry in chosen} - {""})
    notes = [
        *([f"found under the key {contents.wrapping}"] if contents.wrapping else []),
        *([f"without the prefix {_listed(prefixes)}"] if prefixes else []),
        *([f"not taken: {_listed(others)} (clan convert --take chooses)"] if others else []),
    ]
    arrays = mobilenet_names.flatten({entry.name: entry.array for entry in chosen})
    return FoundArrays(mit_names.arrange(dinov2_names.join_attention(arrays)), tuple(notes))


@dataclass(frozen=True)
class _Entry:
    """An array of a file, its prefix and its name on file."""

    prefix: str
    name: str
    array: np.ndarray


def _networks(path: Path, entries: Sequence[_Entry], label: str = "") -> dict[str, Sequence[_Entry]]:
    """Groups a file's arrays into networks by distinguishing prefix: a single one if no name occurs twice."""
    if len({entry.name for entry in entries}) == len(entries):
        return {label: entries}
    depth = label.count(".")
    groups: dict[str, list[_Entry]] = {}
    for entry in entries:
        groups.setdefault("".join(f"{word}." for word in roles(entry.prefix)[: depth + 1]), []).append(entry)
    if set(groups) == {label}:
        twice = next(name for name, count in Counter(entry.name for entry in entries).items() if count > 1)
        raise WeightsError(f"{path} holds {quoted(twice)} under two names: keep one of them")
    return {deeper: found for group in groups for deeper, found in _networks(path, groups[group], group).items()}


def _absent(path: Path, take: str, there: Sequence[str]) -> NoReturn:
    known = [name for name in there if name]
    raise WeightsError(f"{path} holds nothing under {quoted(take)}: it has {_listed(known) or 'one network alone'}")


def _renamed(name: str, renames: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def _match(found: FoundArrays, shapes: Mapping[str, tuple[int, ...]], restore_heads: bool) -> MatchReport:
    """Compares a file's arrays with a network's shapes, both by names on file."""
    arrays = found.arrays
    skipped = () if restore_heads else tuple(name for name in shapes if name.startswith(_HEADS))
    wanted = {name: shape for name, shape in shapes.items() if name not in skipped}
    return MatchReport(
        matched=tuple(name for name in wanted if name in arrays and arrays[name].shape == wanted[name]),
        missing=tuple(name for name in wanted if name not in arrays),
        unexpected=tuple(name for name in arrays if name not in shapes),
        mismatched={
            name: (arrays[name].shape, shape)
            for name, shape in wanted.items()
            if name in arrays and arrays[name].shape != shape
        },
        skipped=skipped,
        notes=found.notes,
    )


def _require_all(path: Path, report: MatchReport) -> None:
    """Raises a WeightsError if arrays are missing or have another shape."""
    for name, (theirs, ours) in report.mismatched.items():
        if name.startswith(_HEADS) and theirs[1:] == ours[1:]:
            raise WeightsError(
                f"{path} was trained for {theirs[0]} classes, but {ours[0]} are said to be in it: put its own run's "
                f"config.yaml beside it, or name its classes with --classes or --num-classes {theirs[0]}"
            )
        raise WeightsError(f"{path} has {name} {theirs}, the network {ours}: is it for another network?")
    if report.missing:
        raise WeightsError(
            f"{path} lacks {len(report.missing)} of the network's arrays ({_listed(report.missing)}): "
            "is it complete, and for this network?"
        )


def _require_finite(path: Path, values: Mapping[str, np.ndarray]) -> None:
    """Raises a WeightsError that names the first array with NaN or infinity, if any."""
    for name, value in values.items():
        if not (finite := np.isfinite(value)).all():
            count = value.size - np.count_nonzero(finite)
            raise WeightsError(
                f"{path} has {count} of {value.size} numbers in {name} that are not finite: its training diverged, use "
                "an earlier snapshot"
            )


def _listed(entries: Sequence[str]) -> str:
    """Formats the first three entries and the number of the rest."""
    shown = "; ".join(quoted(entry) for entry in entries[:3])
    return shown if len(entries) <= 3 else f"{shown} and {len(entries) - 3} more"
