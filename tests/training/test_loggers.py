"""What loggers write is what they were told, and a resumed run leaves nothing twice."""

import errno
import struct

import numpy as np
import pytest
from PIL import Image

from clan.core.errors import CheckpointError, ConfigError
from clan.run.observer import Step, Validation
from clan.training import loggers
from tests.needs import module


def told(logger, steps, previews=None):
    """Tells a logger of iterations, of a validation every second one, and of previews then."""
    for iteration in steps:
        losses = {"loss_seg": iteration / 7, "loss_D_s": float("nan")}
        logger.step(Step(iteration, losses, {"learning_rate": 1e-3, "bad_samples": 1}, 0.5, 4, {}))
        if iteration % 2:
            scores = {"mIoU-13": iteration / 10}
            logger.validated(Validation(iteration + 1, "x", "mIoU-13", scores, {"road": 0.5, "train": np.nan}), None)
            logger.saved(iteration + 1, "SYS.pdparams", previews or {})
    logger.flush()


@pytest.fixture
def preview(tmp_path):
    """A palette PNG, as colour masks are."""
    image = Image.fromarray(np.zeros((4, 8), np.uint8))
    image.putpalette([200, 100, 50] + [0] * 765)
    image.save(tmp_path / "mask.png")
    return {"lindenau": tmp_path / "mask.png"}


def events(folder):
    """What TensorBoard shows of a folder: tag and step → values, what is void left out."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    shown = {}
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += length + 16
            if event.session_log.status == SessionLog.START:
                shown = {key: values for key, values in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                found = value.image.encoded_image_string if value.HasField("image") else value.simple_value
                shown.setdefault((value.tag, event.step), []).append(found)
    return shown


def test_tensorboard_shows_what_was_told(tmp_path, preview):
    (logger,) = loggers.open_loggers(["tensorboard"], tmp_path, 0, {})
    told(logger, range(4), preview)
    logger.close()
    shown = events(tmp_path / "tensorboard")
    names = {"loss/seg", "loss/D_s", "rate/learning_rate", "count/bad_samples", "speed/images_per_second"}
    assert {tag for tag, _ in shown} == names | {"validation/mIoU-13", "iou/road", "preview/lindenau"}
    assert shown["loss/seg", 3] == [pytest.approx(2 / 7)]
    assert shown["speed/images_per_second", 4] == [8]
    assert shown["validation/mIoU-13", 4] == [pytest.approx(0.3)]
    assert shown["preview/lindenau", 2] == [preview["lindenau"].read_bytes()]


@pytest.mark.parametrize("last", [5, 4])
def test_a_resumed_run_leaves_no_point_twice(tmp_path, preview, last):
    """Killed after 6 or 5 iterations, the last two or one of which are done again."""
    (whole,) = loggers.open_loggers(["tensorboard"], tmp_path / "whole", 0, {})
    told(whole, range(8), preview)
    (first,) = loggers.open_loggers(["tensorboard"], tmp_path / "parts", 0, {})
    told(first, range(last + 1), preview)
    (second,) = loggers.open_loggers(["tensorboard"], tmp_path / "parts", 4, {})
    told(second, range(4, 8), preview)
    shown = events(tmp_path / "parts/tensorboard")
    assert all(len(values) == 1 for values in shown.values())
    # NaN is no equal of itself.
    assert repr(sorted(shown.items())) == repr(sorted(events(tmp_path / "whole/tensorboard").items()))


def test_a_full_disk_ends_in_a_sentence(tmp_path, monkeypatch):
    (logger,) = loggers.open_loggers(["tensorboard"], tmp_path, 0, {})

    def full(event):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logger._writer, "write", full)
    with pytest.raises(CheckpointError, match=r"tensorboard \(No space left on device\)"):
        told(logger, range(1))


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "tensorboard").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        loggers.open_loggers(["tensorboard"], tmp_path, 0, {})


def test_a_package_that_is_not_installed_comes_with_the_command_to_install_it(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--loggers wandb .*pip install wandb"):
        loggers.require(["wandb"])
    loggers.require([])


def test_visualdl_shows_what_was_told_and_nothing_twice(tmp_path, preview):
    module("visualdl", "visualdl")
    from visualdl import LogReader

    (first,) = loggers.open_loggers(["visualdl"], tmp_path, 0, {})
    told(first, range(6), preview)
    first.close()
    path = tmp_path / "visualdl/vdlrecords.0000000001.log"
    path.write_bytes(path.read_bytes()[:-3])  # killed while it wrote
    (second,) = loggers.open_loggers(["visualdl"], tmp_path, 4, {})
    told(second, range(4, 8), preview)
    second.close()
    reader = LogReader(file_path=str(path))
    assert [one.id for one in reader.get_data("scalar", "loss/seg")] == list(range(1, 9))
    assert [one.value for one in reader.get_data("scalar", "validation/mIoU-13")] == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert [one.id for one in reader.get_data("image", "preview/lindenau")] == [2, 4, 6, 8]


def test_wandb_keeps_its_run_when_resumed(tmp_path, preview, monkeypatch):
    module("wandb", "wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (first,) = loggers.open_loggers(["wandb"], tmp_path, 0, {"seed": 1})
    told(first, range(4), preview)
    assert first._run.summary["loss/seg"] == pytest.approx(2 / 7), "the last step waits for another"
    first.close()
    (second,) = loggers.open_loggers(["wandb"], tmp_path, 4, {"seed": 1})
    assert second._run.id == first._run.id
    told(second, range(4, 6), preview)
    second.close()
    assert list((tmp_path / "wandb").rglob("*.wandb"))
