"""Videos frame by frame: stages overlap, order is kept, and what fails in any of them ends all."""

import threading
import time

import cv2
import numpy as np
import pytest

from clan.core.errors import DataError
from clan.evaluation import video
from clan.evaluation.video import Stages, convert_video

FRAMES = 12


@pytest.fixture
def drive(tmp_path):
    """Twelve frames, 64×48, ever brighter."""
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 48))
    for number in range(FRAMES):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


def brightness(image):
    return np.asarray(image, np.float32).mean(keepdims=True)


def drawn(image, value):
    return {name: np.full((48, 64, 3), np.round(value), np.uint8) for name in ("a", "b")}


def levels(path):
    capture = cv2.VideoCapture(str(path))
    return [frame.mean() for found, frame in iter(capture.read, (False, None)) if found]


def test_every_frame_is_written_in_order(drive, tmp_path):
    targets = {name: tmp_path / f"{name}.mp4" for name in ("a", "b")}
    late = threading.Event()

    def draw(image, value):
        # The first frame is drawn last, of those that any thread draws meanwhile.
        late.wait(0.3) if value < 10 else late.set()
        return drawn(image, value)

    assert convert_video(drive, targets, Stages(brightness, lambda image, planes: planes.item(), draw)) == FRAMES
    for target in targets.values():
        np.testing.assert_allclose(levels(target), 20 * np.arange(FRAMES), atol=6)


def test_stages_overlap(drive, tmp_path, monkeypatch):
    """Three stages of 30 ms a frame take little more than one of them, not three times as long."""
    monkeypatch.setattr(video, "available_cores", lambda: 2)

    def slow(function):
        def run(*args):
            time.sleep(0.03)
            return function(*args)

        return run

    stages = Stages(slow(brightness), slow(lambda image, planes: planes.item()), slow(drawn))
    started = time.perf_counter()
    convert_video(drive, {"a": tmp_path / "a.mp4"}, stages)
    assert time.perf_counter() - started < 2 * 0.03 * FRAMES


@pytest.mark.parametrize("stage", ["prepare", "analyse", "draw", "write"])
@pytest.mark.parametrize("error", [DataError("no more"), KeyboardInterrupt()])
def test_what_one_stage_raises_ends_all(drive, tmp_path, monkeypatch, stage, error):
    def fail(*args):
        raise error

    stages = Stages(brightness, lambda image, planes: planes.item(), drawn)
    if stage == "write":
        monkeypatch.setattr(video.cv2, "copyMakeBorder", fail)
    else:
        stages = stages._replace(**{stage: fail})
    before = threading.active_count()
    with pytest.raises(type(error)):
        convert_video(drive, {"a": tmp_path / "a.mp4"}, stages)
    assert threading.active_count() == before, "no thread is left"
