"""One picture after the other goes to the network; those that wait are few, and the next ones are turned away."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from PIL import Image

from clan.evaluation.model import Model, Prediction
from clan.serving.pictures import Refused, RequestLimits, open_picture

HELD = 3
"""Pictures that are decoded at once: one that the network sees, one before it and one behind."""

ARRIVING_BYTES = 256_000_000
"""Of pictures that arrive or wait."""

Result = TypeVar("Result")


class Desk:
    """Takes pictures to a network, in the order in which they came.

    Args:
        model: the network.
        limits: how many may wait, and how large pictures may be.
    """

    def __init__(self, model: Model, limits: RequestLimits) -> None:
        self.model, self.limits = model, limits
        self.present, self.bytes = 0, 0
        self.seconds = 1.0
        self._network = ThreadPoolExecutor(1, "network")
        self._pictures = ThreadPoolExecutor(HELD, "pictures")
        self._held = asyncio.Semaphore(HELD)

    @contextmanager
    def arriving(self) -> Iterator[Callable[[int], None]]:
        """Within the block a picture arrives and is answered; its value is called with the bytes of every piece.

        Raises:
            Refused: too many pictures arrive at once; when a piece is told of.
        """
        held = 0

        def arrived(count: int) -> None:
            nonlocal held
            if self.bytes + count > max(ARRIVING_BYTES, self.limits.most_bytes):
                raise self._busy("too many pictures arrive at once")
            held += count
            self.bytes += count

        try:
            yield arrived
        finally:
            self.bytes -= held

    def _busy(self, reason: str) -> Refused:
        pause = max(1, math.ceil(self.seconds * self.present / 2))
        return Refused(503, f"{reason}: try again in {pause} seconds", retry_after=pause)

    async def predict(self, content: bytes, answer: Callable[[Prediction], Result]) -> Result:
        """Segments a picture.

        Args:
            content: its file.
            answer: makes of the prediction what is sent back, in a thread.

        Raises:
            Refused: see `open_picture`; or too many are waiting.
        """
        if self.present >= self.limits.waiting:
            raise self._busy(f"{self.present} pictures are waiting already")
        self.present += 1
        try:
            return await self._predict(content, answer)
        finally:
            self.present -= 1

    async def _predict(self, content: bytes, answer: Callable[[Prediction], Result]) -> Result:
        run = asyncio.get_running_loop().run_in_executor

        def prepare() -> tuple[Image.Image, np.ndarray]:
            image = open_picture(content, self.limits)
            return image, self.model.prepare(image)

        async with self._held:
            image, prepared = await run(self._pictures, prepare)
            began = time.monotonic()
            prediction = await run(self._network, self.model.predict, image, prepared)
            made = await run(self._pictures, answer, prediction)
            self.seconds += 0.2 * (time.monotonic() - began - self.seconds)
            return made

    def close(self, seconds: float | None = None) -> bool:
        """Ends the threads.

        Args:
            seconds: that they get to finish what they are at; None: as many as it takes.

        Returns:
            Whether they have finished.
        """
        threads = self._network, self._pictures
        last = [pool.submit(lambda: None) for pool in threads]
        for pool in threads:
            pool.shutdown(wait=False)
        return not wait(last, seconds).not_done
