"""What a run will take, before it starts: measured on a few steps at two sizes, and extrapolated.

Memory and time of a forward and backward pass grow with the pixels of both domains: peak = a + b·pixels, seconds =
a + b·pixels. Networks with attention get a third size and a term of pixels².
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clan.core.errors import DataError, DeviceError
from clan.core.files import write_atomically
from clan.core.output import encoded
from clan.data.loader import PairedLoader
from clan.run.config import Config, to_yaml
from clan.training.probe import image_scales, pixels

PUBLISHED_IMAGES = {"synthia": 9400, "gta5": 24_966, "cityscapes": 2975}
"""Training images of the packaged data sets, for where they are not on the disk."""


Facts = dict[str, Any]
"""What `clan.training.probe` prints."""


@dataclass(frozen=True)
class Speed:
    """How fast another device is, as the user says.

    Args:
        images_per_second: images of both domains, in training.
        step_seconds: seconds of an iteration.
    """

    images_per_second: float | None = None
    step_seconds: float | None = None

    def seconds(self, config: Config) -> float | None:
        """Returns the seconds of an iteration; None: the user did not say."""
        if self.images_per_second:
            return 2 * config.batch_size * config.iter_size / self.images_per_second
        return self.step_seconds


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Args:
        config: the run.
        facts: of `Probe.facts`.
        sizes: of `Probe.measure`; none: nothing was measured.
        speed: of another device.
    """

    config: Config
    facts: Facts
    sizes: tuple[Facts, ...] = ()
    speed: Speed = Speed()

    @property
    def device(self) -> str:
        """Where the memory is that runs short: "host" or "gpu"."""
        return "host" if self.facts["device"] == "cpu" else "gpu"

    def memory(self, part: str | None = None, *, share: float = 1.0) -> float | None:
        """Returns the peak memory in bytes; None: not measured.

        Args:
            part: "host" or "gpu", by default that of the device.
            share: of the run's pixels.
        """
        if not self.sizes:
            return None
        part, target = part or self.device, share * pixels(self.config, image_scales(self.config)[0])
        if part not in self.sizes[0]["peak"]:
            return None
        steps, saving = (
            self._extrapolated("most_pixels", [size[name][part] for size in self.sizes], target)
            for name in ("peak", "saving")
        )
        return max(steps, saving) + (share * self.waiting_samples() if part == "host" else 0)

    def waiting_samples(self) -> int:
        """Returns the bytes of the samples that wait for the trainer: images in float32, and labels."""
        config = self.config
        ahead = max(1, PairedLoader.PREFETCH * config.num_workers)
        return int(ahead * pixels(config, image_scales(config)[0]) * 13)

    def seconds(self, clock: int = 0, share: float = 1.0) -> float | None:
        """Returns the seconds of an iteration; None: not known.

        Args:
            clock: 0: elapsed; 1: of the processor.
            share: of the run's pixels.
        """
        if (told := self.speed.seconds(self.config)) is not None:
            return told
        if not self.sizes:
            return None
        target = share * pixels(self.config, image_scales(self.config)[1])
        one = self._extrapolated("pixels", [size["pass"][clock] for size in self.sizes], target)
        update = float(np.mean([size["update"][clock] for size in self.sizes]))
        return max(0.0, one) * self.config.iter_size + update + self._reading(one, clock)

    def _reading(self, one: float, clock: int) -> float:
        """Returns the seconds by which reading samples lengthens an iteration."""
        if not self.facts["reading"]:
            return 0.0
        reading, passes = self.facts["reading"][1], self.config.iter_size
        if clock == 1:
            return reading * passes
        if self.device == "host":  # the loader's threads take time of the cores that compute
            return reading * passes / self.facts["cores"]
        workers = max(1, min(self.config.num_workers, self.facts["cores"]))
        return max(0.0, self.facts["reading"][0] / workers - one) * passes

    def hours(self, share: float = 1.0) -> float | None:
        """Returns the hours of the run with a share of its pixels, predictions included; None: not known."""
        seconds = self.seconds(share=share)
        return None if seconds is None else (seconds * self.config.stop + self._prediction_seconds()) / 3600

    def _prediction_seconds(self) -> float:
        """Returns the seconds of validations, and of judging snapshots without labels."""
        if not self.sizes:
            return 0.0
        config = self.config
        images = -(-config.stop // config.save_every) * self.facts["judged"]
        if config.validate_every:
            images += -(-config.stop // config.validate_every) * (self.facts["validated"] or 0)
        return images * self.sizes[-1]["image"] / self.sizes[-1]["side"] ** 2

    def images(self, role: str) -> tuple[int, bool] | None:
        """Returns the number of images of a domain, and whether it was counted; None: not known.

        The published number is that of the training split, where nothing of the data set is on the disk.
        """
        found, domain = self.facts["images"][role], getattr(self.config, role)
        if isinstance(found, int):
            return found, True
        if domain.list_file or domain.split != "train" or os.path.lexists(domain.root):
            return None
        published = PUBLISHED_IMAGES.get(domain.dataset.name)
        return None if published is None else (published, False)

    def epochs(self, role: str) -> float | None:
        """Returns how often the run sees every image of a domain; None: not known."""
        known = self.images(role)
        return self.seen() / known[0] if known else None

    def seen(self) -> int:
        """Returns the number of images of each domain that the run sees, repeated ones counted again."""
        return self.config.stop * self.config.batch_size * self.config.iter_size

    def _extrapolated(self, key: str, values: Sequence[float], target: float) -> float:
        """Returns the value at a number of pixels, of those at measured ones."""
        at = np.array([size[key] for size in self.sizes]) / target
        known = np.array(values, float)
        if len(at) == 3:
            slopes = np.linalg.solve(np.stack([np.ones(3), at, at * at], axis=1), known)
            if slopes[2] > 0:
                return float(slopes.sum())
        if at[-1] == at[0]:  # images as small as they can be
            return float(known[-1])
        slope = (known[-1] - known[0]) / (at[-1] - at[0])
        return float(known[-1] + max(0.0, slope) * (1 - at[-1]))

    def record(self) -> dict[str, Any]:
        """Returns the plan for JSON."""
        config = self.config
        return {
            "method": config.method.name,
            "device": self.facts["device"],
            "steps": config.stop,
            "images_per_step": config.batch_size * config.iter_size,
            "images_seen": self.seen(),
            "images": {role: known[0] if (known := self.images(role)) else None for role in ("source", "target")},
            "counted": {role: isinstance(self.facts["images"][role], int) for role in ("source", "target")},
            "epochs": {role: self.epochs(role) for role in ("source", "target")},
            "step_seconds": self.seconds(),
            "step_processor_seconds": self.seconds(1) if self.speed == Speed() else None,
            "hours": self.hours(),
            "peak_memory_bytes": {part: self.memory(part) for part in dict.fromkeys(("host", self.device))},
            "disk_bytes": self.facts["disk_bytes"],
            "free_disk_bytes": free_space(config.snapshot_dir),
            "parameters": self.facts["parameters"],
            "measured": list(self.sizes),
        }


def free_space(folder: Path) -> int:
    """Returns the free bytes of the disk that a folder is or will be on.

    Raises:
        DataError: neither the folder nor any above it can be looked at.
    """
    folder = folder.absolute()
    for path in (folder, *folder.parents):
        with suppress(OSError):  # absent, or below a folder that may not be entered
            return shutil.disk_usage(path).free
    raise DataError(f"--snapshot-dir {folder} is on no disk of this machine: name another folder")


def estimate(
    config: Config,
    *,
    measured: bool = True,
    speed: Speed = Speed(),
    notify: Callable[[str], None] = print,
) -> Estimate:
    """Predicts what a run will take, from a few steps in a process of its own.

    Args:
        config: the run.
        measured: measure steps; otherwise memory is not predicted, and time is the user's.
        speed: of another device.
        notify: takes sentences on the progress.

    Raises:
        DeviceError: measuring used up the memory, or ended otherwise.
        ClanError: the configuration does not suit the device.
    """
    facts, sizes = _probe(config, measured, notify)
    return Estimate(config, facts, tuple(sizes), speed)


def _probe(config: Config, measured: bool, notify: Callable[[str], None]) -> tuple[Facts, list[Facts]]:
    """Runs `clan.training.probe`; returns the facts and what was measured at each size."""
    facts: Facts = {}
    sizes: list[Facts] = []
    with ExitStack() as stack:
        try:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "config.yaml"
            messages = stack.enter_context(tempfile.TemporaryFile())
            write_atomically(path, lambda file: file.write(encoded(to_yaml(config))), sync=False)
        except OSError as error:
            raise DeviceError(
                f"measuring needs temporary files ({error.strerror}): free disk space, or name a folder in TMPDIR"
            ) from None
        command = [sys.executable, "-m", "clan.training.probe", str(path), *(["--facts"] if not measured else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages) as process:
            assert process.stdout
            try:
                for line in process.stdout:
                    answer = json.loads(line)
                    if "error" in answer:
                        raise DeviceError(answer["error"])
                    facts = answer.get("facts", facts)
                    sizes += [answer["size"]] if "size" in answer else []
                    if note := answer.get("note"):
                        notify(note)
            except BaseException:
                process.kill()
                raise
        messages.seek(0)
        if process.returncode:
            raise DeviceError(_why_it_ended(process.returncode, messages.read(), len(sizes)))
    return facts, sizes


def _why_it_ended(code: int, messages: bytes, sizes: int) -> str:
    """Returns what to say of a measuring process that ended early."""
    if code in (-9, 137):
        return (
            f"measuring was killed after {sizes} sizes, as the system does when memory is used up: free memory, or "
            "plan smaller --source.size and --target.size"
        )
    last = (messages.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
    return f"measuring ended with code {code} after {sizes} sizes: {last}"
