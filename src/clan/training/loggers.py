"""Loggers for TensorBoard, VisualDL and Weights & Biases; `clan.run.config.LOGGERS` lists them.

The step of a point is the number of iterations done, as in snapshot names. A resumed run first discards points after
the iteration that it continues from.
"""

import importlib.util
import secrets
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clan.core.errors import ConfigError
from clan.core.output import one_line
from clan.core.schema import find
from clan.run.config import LOGGERS
from clan.run.observer import Observer, PseudoLabels, Step, Validation, writing

FLUSH_SECONDS = 30.0
"""Interval between flushes."""


class Logger(Observer):
    """Base of all loggers: names scalars and images, which subclasses write.

    Args:
        folder: output folder; created.
        start: iterations done before.
        options: the run's configuration.

    Raises:
        CheckpointError: the folder cannot be written.
    """

    package = ""
    """The package that must be installed."""

    def __init__(self, folder: Path, start: int, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self._flushed = time.monotonic()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars by name."""
        raise NotImplementedError

    def images(self, step: int, paths: Mapping[str, Path]) -> None:
        """Writes PNG files by name."""
        raise NotImplementedError

    def step(self, step: Step) -> None:
        """Writes losses, rates, counts and speed."""
        values = {f"loss/{name.removeprefix('loss_')}": value for name, value in step.losses.items()}
        values |= {f"{'rate' if 'rate' in name else 'count'}/{name}": value for name, value in step.numbers.items()}
        values["speed/images_per_second"] = step.images / step.seconds
        with writing(self.folder):
            self.scalars(step.iteration + 1, values)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def validated(self, validation: Validation, best: Validation | None) -> None:
        """Writes means and the IoU of every class that occurs."""
        values = {f"validation/{name}": value for name, value in validation.means.items()}
        values |= {f"iou/{name}": value for name, value in validation.iou.items()}
        for other, scores in validation.others.items():
            values |= {f"validation_{other}/{name}": value for name, value in scores.means.items()}
        with writing(self.folder):
            self.scalars(validation.iteration, {name: value for name, value in values.items() if value == value})

    def looked(self, labels: PseudoLabels) -> None:
        """Writes the share of right pseudo-labels, of all pixels and of those of every class that occurs."""
        values = {f"pseudo_labels/{name}": value for name, value in labels.recall.items()}
        values["pseudo_labels/right"] = labels.right
        with writing(self.folder):
            self.scalars(labels.iteration, {name: value for name, value in values.items() if value == value})

    def saved(self, iteration: int, snapshot: Path, previews: Mapping[str, Path]) -> None:
        """Writes colour masks and sheets."""
        with writing(self.folder):
            self.images(iteration, {f"preview/{one_line(name)}": path for name, path in previews.items()})

    def flush(self) -> None:
        """See `Observer`."""
        with writing(self.folder):
            self._flush()
        self._flushed = time.monotonic()

    def _flush(self) -> None:
        raise NotImplementedError


class TensorBoard(Logger):
    """Writes event files; that of a resumed run begins with a START event, which discards later points.

    Records are written directly: the thread of `SummaryWriter` ends when the disk is full, and the run would then wait
    for it forever.
    """

    package = "tensorboardX"

    def __init__(self, folder: Path, start: int, options: Mapping[str, Any]) -> None:
        super().__init__(folder, start, options)
        self._proto: Any = import_module("tensorboardX.proto.event_pb2")
        name = f"events.out.tfevents.{time.time_ns()}.{start}"
        with writing(folder):
            self._writer = import_module("tensorboardX").RecordWriter(str(folder / name))
            self._write(0, file_version="brain.Event:2")
            if start:
                session = self._proto.SessionLog
                self._write(start + 1, session_log=session(status=session.START))
            self._writer.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        self._write(step, summary={"value": [{"tag": name, "simple_value": one} for name, one in values.items()]})

    def images(self, step: int, paths: Mapping[str, Path]) -> None:
        """See `Logger`."""
        for name, path in paths.items():
            with Image.open(path) as image:
                width, height = image.size
            picture = {"width": width, "height": height, "colorspace": 3, "encoded_image_string": path.read_bytes()}
            self._write(step, summary={"value": [{"tag": name, "image": picture}]})

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write(self._proto.Event(step=step, wall_time=time.time(), **content).SerializeToString())

    def _flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        """See `Observer`."""
        with writing(self.folder):
            self._writer.flush()
            self._writer.close()


class VisualDL(Logger):
    """Writes a single file, since VisualDL shows only one per folder; a resumed run appends to it."""

    package = "visualdl"

    def __init__(self, folder: Path, start: int, options: Mapping[str, Any]) -> None:
        super().__init__(folder, start, options)
        record = import_module("visualdl.proto.record_pb2").Record
        path = folder / "vdlrecords.0000000001.log"
        with writing(folder):
            kept = [one for one in _records(path) if record.FromString(one).values[0].id <= start] if start else []
            path.write_bytes(b"".join(struct.pack("<Q", len(one)) + one for one in kept))
        self._writer: Any = import_module("visualdl").LogWriter(str(folder), file_name=path.name)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def images(self, step: int, paths: Mapping[str, Path]) -> None:
        """See `Logger`."""
        for name, path in paths.items():
            with Image.open(path) as image:
                self._writer.add_image(name, np.array(image.convert("RGB")), step)

    def _flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        """See `Observer`."""
        self._writer.close()


def _records(path: Path) -> Iterator[bytes]:
    """Yields the records of a VisualDL file, each preceded by its 8-byte length; an incomplete last one is skipped."""
    content = path.read_bytes() if path.exists() else b""
    place = 0
    while place + 8 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        place += 8 + length
        if place <= len(content):
            yield content[place - length : place]


class WandB(Logger):
    """Logs to a run of Weights & Biases, online or, with WANDB_MODE=offline, to files; a resumed run continues it.

    Raises:
        ConfigError: it cannot be started.
    """

    package = "wandb"

    def __init__(self, folder: Path, start: int, options: Mapping[str, Any]) -> None:
        super().__init__(folder, start, options)
        self._wandb: Any = import_module("wandb")
        identity = folder / "id"
        known = bool(start) and identity.is_file()
        own = identity.read_text().strip() if known else secrets.token_hex(8)
        try:
            self._run: Any = self._wandb.init(
                project="clan",
                name=folder.resolve().parent.name,
                dir=str(folder.parent),
                config=dict(options),
                settings=self._wandb.Settings(console="off", silent=True),
                id=own,
                resume="allow",
            )
        except self._wandb.Error as error:
            raise ConfigError(
                f"Weights & Biases cannot start ({error}): run `wandb login`, set WANDB_MODE=offline, or leave it out "
                "of --loggers"
            ) from None
        with writing(folder):
            identity.write_text(own)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        self._run.log(dict(values), step=step)

    def images(self, step: int, paths: Mapping[str, Path]) -> None:
        """See `Logger`."""
        if paths:
            self._run.log({name: self._wandb.Image(str(path)) for name, path in paths.items()}, step=step)

    def _flush(self) -> None:
        """Nothing to do: W&B flushes in its own process."""

    def close(self) -> None:
        """See `Observer`."""
        self._run.finish()


def require(names: Sequence[str]) -> None:
    """Checks that the packages of loggers are installed.

    Raises:
        ConfigError: one is missing.
    """
    for name in names:
        package = find(LOGGERS[name]).package
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"--loggers {name} needs a package that is not installed: run `pip install {package}`, or leave it out"
            )


def open_loggers(names: Sequence[str], folder: Path, start: int, options: Mapping[str, Any]) -> list[Logger]:
    """Opens the loggers of a run.

    Args:
        names: keys of `clan.run.config.LOGGERS`.
        folder: the run's folder; each logger writes to a subfolder with its name.
        start: iterations done before.
        options: the run's configuration.

    Raises:
        ClanError: one cannot write or start.
    """
    return [find(LOGGERS[name])(folder / name, start, options) for name in dict.fromkeys(names)]
