"""Whether what a run will write fits on the disk."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from paddle import Tensor

from clan.core.errors import ConfigError
from clan.run.config import Config
from clan.training.learner import Learner


def needed_space(config: Config, learner: Learner, *, iteration: int, states: int) -> int:
    """Bytes that a run from `iteration` on will write at most, where so many states are already there.

    They are all snapshots to come, the states that are kept, and one more that is being written; with validation also
    the best snapshot and the next best.
    """
    discriminators = _bytes(tensor for net in learner.method.discriminators.values() for tensor in net.parameters())
    exported = _bytes(learner.method.exported.state_dict().values())
    best = 2 * exported if config.validate_every else 0
    to_come = -(-config.stop // config.save_every) - iteration // config.save_every
    # Adam makes its two moments at the first step only.
    fresh = [optimizer for optimizer in learner.optimizers.values() if not optimizer.state_dict()]
    moments = 2 * _bytes(slot.parameter for optimizer in fresh for slot in optimizer.slots)
    state = _bytes(learner.state_dict().values()) + moments
    return to_come * (exported + discriminators) + best + max(1, config.keep_last + 1 - states) * state


def check_space(folder: Path, needed: int) -> None:
    """Makes sure that a folder's disk has room for so many bytes.

    Raises:
        ConfigError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"the run will write {needed / 1e9:.2f} GB to {folder}, where {free / 1e9:.2f} GB are free: free space, "
            "choose another --snapshot-dir, or save less often (--save-every)"
        )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.size * tensor.element_size() for tensor in tensors)
