"""What a user can cause. Each message is one sentence that names the value and the remedy.

The command line turns these into that sentence and exit code 2. Anything else that is raised is a bug
and keeps its traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ClanError(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(ClanError):
    """An option or a config file asks for something impossible."""


class DataError(ClanError):
    """An image, a label, a list or a folder of data is missing, damaged or not what it should be."""


class WeightsError(ClanError):
    """A file of network weights cannot be read safely, or does not fit the network."""


class CheckpointError(ClanError):
    """A saved training state is missing, damaged or belongs to another configuration."""


class TrainingError(ClanError):
    """Training cannot go on: a loss or a gradient is not finite."""


class DeviceError(ClanError):
    """A device cannot compute what it is given: its memory is used up, or a library or kernels are missing."""


LESS_MEMORY = (
    "lower --batch-size, --source.size or --target.size, or give --precision bf16 on a GPU; the last state is intact, "
    "go on from it with --resume-with-changes"
)
"""How training takes less memory; other commands say their own in its place (`clan.core.output.speak`)."""


class Interrupted(Exception):
    """A signal ended a run, in good order and with everything saved; the message tells how to go on.

    Args:
        message: one sentence.
        signal: the number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


@contextmanager
def of_domain(role: str) -> Iterator[None]:
    """Within the block, errors of a data set name the folder's flag of its role in the run, "source" or "target".

    Raises:
        DataError: the block raised it.
    """
    try:
        yield
    except DataError as error:
        raise DataError(str(error).replace("--root", f"--{role}.root")) from None
