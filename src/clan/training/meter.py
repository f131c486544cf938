"""How a run goes: smoothed losses, speed, and the time that is left."""

import math
from collections import deque
from time import monotonic

from clan.run.observer import Step

SPAN = 100
"""Iterations that shown losses are averages over: exponential ones, with weights that fall by 1 − 2 / (SPAN + 1)."""


class Meter:
    """Smoothed losses, speed, and the time that is left.

    The time left follows the last iterations, and the share of the time that went between iterations, into
    validation and saving. The first iteration counts for neither: it may have compiled loops.

    Args:
        done: iterations done before.
        total: iterations in all.
    """

    RECENT = 50
    """Iterations that speed is measured over."""

    def __init__(self, done: int, total: int) -> None:
        self.done = done
        self.total = total
        self.losses: dict[str, float] = {}
        self._sums: dict[str, tuple[float, float]] = {}
        self._seconds: deque[float] = deque(maxlen=self.RECENT)
        self._images = 0
        self._steps = 0
        self._between = 0.0
        self._at = monotonic()

    def step(self, step: Step) -> None:
        """Takes an iteration that is done."""
        now = monotonic()
        self._between += max(0.0, now - self._at - step.seconds) if self._steps else 0.0
        self._at = now
        self._steps += 1
        self.done = step.iteration + 1
        self._images = step.images
        if self._steps == 2:
            self._seconds.clear()
        self._seconds.append(step.seconds)
        keep = 1 - 2 / (SPAN + 1)
        for name, value in step.losses.items():
            total, weight = self._sums.get(name, (0.0, 0.0))
            if math.isfinite(value):
                total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
                self._sums[name] = total, weight
            self.losses[name] = total / weight if weight else value

    @property
    def images_per_second(self) -> float:
        """Images of both domains, in all processes; 0 before the first iteration."""
        return self._images * len(self._seconds) / sum(self._seconds) if self._seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """From now on; None: it is too early to tell."""
        if self._steps < 2:
            return 0.0 if self._steps and self.done == self.total else None
        each = sum(self._seconds) / len(self._seconds) + self._between / (self._steps - 1)
        return max(0.0, (self.total - self.done) * each - (monotonic() - self._at))
