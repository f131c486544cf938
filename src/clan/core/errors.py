"""Errors that a user can cause. Each message is one sentence that names the value and the remedy.

The command line prints the sentence and exits with code 2. Any other exception is a bug and keeps its traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ClanError(Exception):
    """Base of every error that a user can cause and fix."""


class ConfigError(ClanError):
    """An option or a configuration file has an invalid value."""


class DataError(ClanError):
    """An image, label, list or data folder is missing, damaged or of another kind than expected."""


class WeightsError(ClanError):
    """A file of network weights cannot be read safely, or does not fit the network."""


class CheckpointError(ClanError):
    """A saved training state is missing, damaged or belongs to another configuration."""


class TrainingError(ClanError):
    """Training cannot continue: a loss or a gradient is not finite."""


class DeviceError(ClanError):
    """A device cannot compute what it is given: its memory is used up, or a library or kernels are missing."""


LESS_MEMORY = (
    "lower --batch-size, --source.size or --target.size, or give --precision bf16 on a GPU; the last state is intact, "
    "go on from it with --resume-with-changes"
)
"""How training takes less memory; other commands say their own in its place (`clan.core.output.speak`)."""

NOT_FINITE = (
    "is not finite, as after training that diverged: use an earlier snapshot, or leave --precision out if it is given"
)
"""What is wrong with what a network predicts, and what to do: its label maps would look like any other."""


class Interrupted(Exception):
    """A signal ended a run after its state was saved.

    Args:
        message: one sentence that says how to continue.
        signal: the number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


@contextmanager
def of_domain(role: str) -> Iterator[None]:
    """Within the block, DataErrors name --source.root or --target.root instead of --root.

    Args:
        role: "source" or "target".
    """
    try:
        yield
    except DataError as error:
        raise DataError(str(error).replace("--root", f"--{role}.root")) from None
