"""Videos: what is made of every frame, while others are decoded and written."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from clan.core.errors import DataError
from clan.core.output import Advance, progress
from clan.core.runtime import available_cores

PENDING_PIXELS = 1 << 25
"""Of images whose results are being written; a pixel takes about 20 bytes there."""

CODEC = "vp09"
"""VP9 in MP4, which browsers play; H.264 is in no free build of OpenCV."""


class Stages(NamedTuple):
    """What is done with a frame, one after the other.

    Args:
        prepare: makes the network's input of an RGB image; a thread calls it, frame by frame.
        analyse: runs the network on the image and its input; called in the thread that waits for the whole.
        draw: makes of the image and its analysis a frame for each video, uint8 RGB [H, W, 3]; any thread calls it.
    """

    prepare: Callable[[Image.Image], np.ndarray]
    analyse: Callable[[Image.Image, np.ndarray], Any]
    draw: Callable[[Image.Image, Any], Mapping[str, np.ndarray]]


Frames = Iterable[tuple[Image.Image, np.ndarray]]
"""Images and what the network sees of them."""

Writers = Mapping[str, Callable[[np.ndarray], object]]
"""What appends a frame to each video."""


def convert_video(path: Path, targets: Mapping[str, Path], stages: Stages) -> int:
    """Writes videos of the size and the rate of the one given, showing progress.

    Decoding, the network, drawing and the writing of each video overlap; a few frames wait between them, so that memory
    does not depend on the length. What one of them raises, or a signal, ends all of them.

    Args:
        path: the video.
        targets: the videos to write, by the names that `stages.draw` gives their frames.
        stages: what is done with every frame.

    Returns:
        The number of frames.

    Raises:
        DataError: nothing can be decoded, or a video cannot be written; and whatever the stages raise.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
        frames = _read_ahead(capture, stages.prepare)
        with closing(frames), progress("predicting", total if total > 0 else None) as advance:
            first = next(frames, None)
            if first is None:
                raise DataError(
                    f"{path} holds no frame that OpenCV can decode: convert it to MP4 or give its frames as images"
                )
            with ExitStack() as videos:
                size = first[0].size
                writers = {
                    name: videos.enter_context(video_writer(target, rate, size)) for name, target in targets.items()
                }
                return _write_frames(chain([first], frames), writers, stages, advance)
    finally:
        capture.release()


def _read_ahead(
    capture: cv2.VideoCapture, prepare: Callable[[Image.Image], np.ndarray]
) -> Generator[tuple[Image.Image, np.ndarray], None, None]:
    """Every frame and what `prepare` makes of it, two of them made ahead by a thread."""

    def read() -> tuple[Image.Image, np.ndarray] | None:
        found, frame = capture.read()
        if not found:
            return None
        image = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        return image, prepare(image)

    with ThreadPoolExecutor(1) as reader:
        reading = deque(reader.submit(read) for _ in range(2))
        while frame := reading.popleft().result():
            reading.append(reader.submit(read))
            yield frame


def _write_frames(frames: Frames, writers: Writers, stages: Stages, advance: Advance) -> int:
    """Runs the network on frames in this thread; others draw what it made of them, and write that in order.

    Returns:
        The number of frames.
    """

    def write(name: str, drawn: Future[Mapping[str, np.ndarray]]) -> None:
        writers[name](drawn.result()[name])

    behind: deque[list[Future[None]]] = deque()
    count = 0
    with ExitStack() as threads:
        # Entered first, so that it ends last: the threads that write wait for what it draws.
        pool = threads.enter_context(ThreadPoolExecutor(available_cores()))
        writing = {name: threads.enter_context(ThreadPoolExecutor(1)) for name in writers}
        for image, planes in frames:
            most = min(2 * available_cores(), PENDING_PIXELS // (image.width * image.height))
            while len(behind) > most:
                for written in behind.popleft():
                    written.result()
            drawn = pool.submit(stages.draw, image, stages.analyse(image, planes))
            behind.append([writing[name].submit(write, name, drawn) for name in writers])
            count += 1
            advance()
        for written in chain.from_iterable(behind):
            written.result()
    return count


@contextmanager
def video_writer(path: Path, rate: float, size: tuple[int, int]) -> Iterator[Callable[[np.ndarray], object]]:
    """Within the block, what appends a frame, uint8 RGB [H, W, 3], to a video of `size` (width, height).

    Video is coded in pairs of pixels: a side of odd length grows by one, which repeats the last.

    Raises:
        DataError: the file cannot be written, or this OpenCV cannot write videos.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror}): choose another folder or shorter names") from None
    right, below = size[0] % 2, size[1] % 2
    even = (size[0] + right, size[1] + below)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODEC), rate, even)
    if not writer.isOpened():
        raise DataError(f"this OpenCV cannot write the video {path}: give the frames as images instead")

    def append(frame: np.ndarray) -> None:
        whole = cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)
        writer.write(cv2.cvtColor(whole, cv2.COLOR_RGB2BGR))

    try:
        yield append
    finally:
        writer.release()
