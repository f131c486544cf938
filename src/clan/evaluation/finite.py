"""Predictions that are not finite: the largest of undefined numbers is no class, so there is no label map."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from clan.core.errors import WeightsError

MOVE_IT = "move it to another folder"
"""What helps where all snapshots of a folder are looked at."""


class NotFinite(WeightsError):
    """A network of finite weights predicts infinite or undefined numbers.

    Args:
        network: what it was read from.
        remedy: what to do.
    """

    def __init__(
        self,
        network: object = "the network",
        remedy: str = "use an earlier snapshot, or give --precision fp32 if it was another",
    ) -> None:
        super().__init__(
            f"what {network} predicts is not finite, as after training that diverged, or beyond the range of float16: "
            f"{remedy}"
        )


def require_finite(values: np.ndarray) -> np.ndarray:
    """Returns the values.

    Raises:
        NotFinite: one is infinite or undefined.
    """
    if not np.isfinite(values).all():
        raise NotFinite
    return values


@contextmanager
def of_network(network: object, *remedy: str) -> Iterator[None]:
    """Within the block, NotFinite names what the network was read from, and perhaps another remedy."""
    try:
        yield
    except NotFinite:
        raise NotFinite(network, *remedy) from None
