"""Weights in and out of networks: which array of a file belongs to which parameter.

On file, every array has the reference's name, with Paddle's names for the buffers of batch norms:
`conv1.weight`, `bn1._mean`, `layer1.0.downsample.0.weight`, `layer5` for head 1 and `layer6` for head 2.
Networks come in from outside, so converting a file needs no Paddle.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from clan.errors import WeightsError
from clan.models.weight_files import read_arrays, write_arrays
from clan.untrusted import quoted

if TYPE_CHECKING:
    from paddle import nn

Value = TypeVar("Value")

RENAMES = (
    (r"^(module\.|Scale\.)+", ""),  # what DataParallel and multi-scale wrappers put in front
    (r"^(trunk|backbone)\.", ""),  # trunk: what states called it before
    (r"^head1\.", "layer5."),
    (r"^head2\.", "layer6."),
    (r"\.running_mean$", "._mean"),
    (r"\.running_var$", "._variance"),
)
"""Any known name → the name on file: patterns and replacements, applied from top to bottom."""

TORCH_RENAMES = ((r"\._mean$", ".running_mean"), (r"\._variance$", ".running_var"))
"""The name on file → PyTorch's."""

_HEADS = ("layer5.", "layer6.", "auxiliary.")
_PROJECTION_BIAS = ".downsample.0.bias"


@dataclass(frozen=True)
class MatchReport:
    """How a file's arrays met a network's, by their names on file.

    Args:
        matched: loaded.
        missing: of the network, not in the file.
        left_over: in the file, not of the network.
        mismatched: name → (shape in the file, shape in the network); not loaded.
        skipped: the heads' arrays, when the caller wanted them left alone.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    skipped: tuple[str, ...] = ()

    def summary(self) -> str:
        """The report for a person: a count, then a line for each kind of exception that there is."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched) + len(self.skipped)
        shapes = [f"{name} {theirs}, here {ours}" for name, (theirs, ours) in self.mismatched.items()]
        exceptions = {
            "missing": self.missing,
            "left over": self.left_over,
            "skipped (other shape)": shapes,
            "skipped (heads start afresh)": self.skipped,
        }
        lines = [f"{title}: {_listed(entries)}" for title, entries in exceptions.items() if entries]
        return "\n".join([f"{len(self.matched)} of {total} arrays matched", *lines])


def canonical_name(name: str) -> str | None:
    """The name on file of a parameter under Paddle's, the reference's, the seed's or our network's name.

    Unknown names come back as they are, without `module.` and `Scale.`; None means that there is nothing to
    keep (PyTorch's `num_batches_tracked`, which no computation here reads).
    """
    return None if name.endswith("num_batches_tracked") else _renamed(name, RENAMES)


def to_file_names(state: Mapping[str, Value]) -> dict[str, Value]:
    """A network's state, or any mapping from names, under the names on file."""
    return {canonical: value for name, value in state.items() if (canonical := canonical_name(name)) is not None}


def has_projection_bias(names: Mapping[str, object]) -> bool:
    """Whether weights are of the seed's kind, whose projection convolutions have a bias."""
    return any(name.endswith(_PROJECTION_BIAS) for name in names)


def load_weights(network: "nn.Layer", path: Path, *, restore_heads: bool = True, strict: bool = False) -> MatchReport:
    """Sets a network's parameters and buffers to a file's arrays of the same name and shape.

    Args:
        network: any layer whose names `canonical_name` knows; unchanged if an error is raised.
        path: see `weight_files.read_arrays`.
        restore_heads: False leaves both heads as they are.
        strict: for evaluation, which would be silently wrong with a part of the weights.

    Returns:
        What matched and what did not; heads for another number of classes are in `mismatched`.

    Raises:
        WeightsError: the file cannot be read, nothing matches, a number that would be loaded is not finite, or, if
            `strict`, an array is missing or has another shape.
    """
    arrays = _read_canonical(path)
    state = to_file_names(network.state_dict())
    report = _match(arrays, {name: tuple(tensor.shape) for name, tensor in state.items()}, restore_heads)
    if not report.matched:
        raise WeightsError(
            f"{path} has no array that fits the network by name and shape (it has {_listed(list(arrays))}, "
            f"the network {_listed(list(state))}): is it for another network?"
        )
    if strict:
        _require_all(path, report)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found below
        types = {name: str(state[name].dtype).removeprefix("paddle.") for name in report.matched}
        values = {name: arrays[name].astype(dtype) for name, dtype in types.items()}
    _require_finite(path, values)
    for name, value in values.items():
        state[name].set_value(value)
    return report


def save_weights(network: "nn.Layer", path: Path) -> None:
    """Writes a network's parameters and buffers as float32 under their names on file.

    Raises:
        WeightsError: see `weight_files.write_arrays`.
    """
    state = to_file_names(network.state_dict())
    write_arrays({name: tensor.astype("float32").numpy() for name, tensor in state.items()}, path)


def convert(source: Path, target: Path) -> int:
    """Rewrites a file of weights in the format of the target's suffix, under that format's usual names.

    `.pth` and `.pt` get the reference's PyTorch names, the others the names on file; what has no other name
    keeps its own.

    Returns:
        The number of arrays written.

    Raises:
        WeightsError: the source cannot be read or the target cannot be written.
    """
    arrays = _read_canonical(source)
    if target.suffix.lower() in (".pth", ".pt"):
        arrays = {_renamed(name, TORCH_RENAMES): array for name, array in arrays.items()}
    write_arrays(arrays, target)
    return len(arrays)


def _renamed(name: str, renames: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def _read_canonical(path: Path) -> dict[str, np.ndarray]:
    """A file's arrays under their names on file."""
    arrays: dict[str, np.ndarray] = {}
    for name, array in read_arrays(path).items():
        canonical = canonical_name(name)
        if canonical in arrays:
            raise WeightsError(f"{path} holds {quoted(canonical)} under two names: keep one of them")
        if canonical is not None:
            arrays[canonical] = array
    return arrays


def _match(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], restore_heads: bool) -> MatchReport:
    """Compares a file's arrays with the shapes of a network's, both by their names on file."""
    skipped = () if restore_heads else tuple(name for name in shapes if name.startswith(_HEADS))
    wanted = {name: shape for name, shape in shapes.items() if name not in skipped}
    return MatchReport(
        matched=tuple(name for name in wanted if name in arrays and arrays[name].shape == wanted[name]),
        missing=tuple(name for name in wanted if name not in arrays),
        left_over=tuple(name for name in arrays if name not in shapes),
        mismatched={
            name: (arrays[name].shape, shape)
            for name, shape in wanted.items()
            if name in arrays and arrays[name].shape != shape
        },
        skipped=skipped,
    )


def _require_all(path: Path, report: MatchReport) -> None:
    """Raises the WeightsError that names the most telling gap between the file and the network, if any."""
    for name, (theirs, ours) in report.mismatched.items():
        if name.startswith(_HEADS) and theirs[1:] == ours[1:]:
            raise WeightsError(
                f"{path} was trained for {theirs[0]} classes, the network has {ours[0]}: pass --num-classes {theirs[0]}"
            )
        raise WeightsError(f"{path} has {name} {theirs}, the network {ours}: is it for another network?")
    if report.missing:
        raise WeightsError(
            f"{path} lacks {len(report.missing)} of the network's arrays ({_listed(report.missing)}): "
            "is it complete, and for this network?"
        )


def _require_finite(path: Path, values: Mapping[str, np.ndarray]) -> None:
    """Raises the WeightsError that names the first array with a NaN or an infinity, if any."""
    for name, value in values.items():
        if not (finite := np.isfinite(value)).all():
            count = value.size - np.count_nonzero(finite)
            raise WeightsError(
                f"{path} has {count} of {value.size} numbers in {name} that are not finite: its training had come to "
                "grief, so take an earlier snapshot"
            )


def _listed(entries: Sequence[str]) -> str:
    """The first few entries and the number of the rest."""
    shown = "; ".join(quoted(entry) for entry in entries[:3])
    return shown if len(entries) <= 3 else f"{shown} and {len(entries) - 3} more"
