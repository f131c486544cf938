"""Measures training steps of a configuration on drawn batches: `python -m clan.training.probe CONFIG.yaml [--facts]`.

It runs in a process of its own, since peak memory is per process, and since one that uses up the memory is killed. It
prints a JSON object per line: "facts" of the run, then without `--facts` a "size" for each size measured; "note" and
"error" are sentences.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from clan.core import runtime
from clan.core.errors import ClanError, of_domain
from clan.run.config import Config, load

LEAST_SECONDS, MOST_ROUNDS, LEAST_ROUNDS = 1.5, 5, 2
"""At each size steps are timed in rounds, until they have taken so long."""

SHARES = (0.25, 0.75)
"""Where in the run the timed steps are: methods may do more in its second half."""

PAIRS_READ = 3
"""Pairs of samples that are read for the time of the loader."""

MEASURED_PIXELS = {"cpu": 2**18, "gpu": 2**21}
"""Pixels of both domains that the larger measured size has at most, by device: some seconds for a ResNet-101."""


def scaled_config(config: Config, side: float) -> Config:
    """Returns the configuration with all that is counted in pixels scaled.

    Args:
        config: the run.
        side: factor on sides, up to 1.
    """

    def scaled(size: tuple[int, int]) -> tuple[int, int]:
        return _rounded(size[0] * side), _rounded(size[1] * side)

    if side == 1:
        return config
    values = config.model_dump()
    for role in ("source", "target"):
        values[role]["size"] = scaled(values[role]["size"])
    if crop := values["augmentation"]["crop_size"]:
        values["augmentation"]["crop_size"] = scaled(crop)
        values["augmentation"]["scales"] = ((1.0, 1.0),)  # rounded crops may be larger than images scaled down
    method = values["method"]
    method |= {name: 0 for name in ("ignore_top", "ignore_bottom") if name in method}
    if "mask_block" in method:
        method["mask_block"] = max(1, round(method["mask_block"] * side))
    return Config.model_validate(values)


def _rounded(length: float) -> int:
    """To multiples of the patches and strides of all backbones, where the side is long enough."""
    step = 56 if length >= 280 else 8
    return max(32, step * round(length / step))


def image_scales(config: Config) -> tuple[float, float]:
    """Returns the largest scale of images relative to their base size, and the root of the mean square."""
    augmentation = config.augmentation
    if augmentation.crop_size or not augmentation.random_scale:
        return 1.0, 1.0
    most = max(ratio for ratio, share in augmentation.scales if share)
    return most, math.sqrt(sum(share * ratio * ratio for ratio, share in augmentation.scales))


def input_size(config: Config) -> tuple[int, int]:
    """Returns width and height of source images as the network gets them, unscaled."""
    return config.augmentation.crop_size or config.source.size


def pixels(config: Config, scale: float) -> float:
    """Returns the pixels of both domains in a forward pass, of images at a scale."""
    crop = config.augmentation.crop_size
    sizes = (crop, crop) if crop else (config.source.size, config.target.size)
    return config.batch_size * sum(width * height for width, height in sizes) * scale * scale


def sizes_to_measure(config: Config, attends: bool, device: str) -> list[tuple[float, int]]:
    """Returns factors on sides, and batch sizes, from the smallest on.

    The batch is made smaller before images are. What is small enough is measured as it is, and at half the sides.
    """
    most = MEASURED_PIXELS["cpu" if device == "cpu" else "gpu"]
    scale = image_scales(config)[0]
    batch_size = config.batch_size
    while batch_size > 1 and pixels(config.model_copy(update={"batch_size": batch_size}), scale) > most:
        batch_size //= 2
    largest = config.model_copy(update={"batch_size": batch_size})
    side = min(1.0, (most / pixels(largest, scale)) ** 0.5)
    sides = [side * 0.5, side]
    if attends and side < 1:
        sides.insert(1, side * 0.75)
    return [(one, batch_size) for one in sides]


class Probe:
    """Networks and optimizers of a configuration, and their steps on drawn batches.

    Args:
        config: the run.
    """

    def __init__(self, config: Config) -> None:
        from clan.core.device import select_device
        from clan.core.precision import check_precision
        from clan.methods import METHODS, build_method
        from clan.training.learner import Learner
        from clan.training.trainer import Trainer  # imports what a run imports, for the memory of that

        assert Trainer
        self.device = select_device(config.device, config.gpu)
        check_precision(config.precision)
        # At a rate of 0 random weights stay finite; a step takes as long.
        rates = {"learning_rate": 0.0, "discriminator_learning_rate": 0.0}
        self.config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update=rates)})
        self.method = build_method(self.config)
        self.method.on_weights_loaded()
        self.learner = Learner(self.config, self.method)
        self.reads_target_labels = METHODS[config.method.name].reads_target_labels

    def facts(self) -> dict[str, Any]:
        """Returns what is known without a step: device, disk space, images and the time to read them."""
        from clan.models.attention import Linear
        from clan.training.export import needed_space
        from clan.training.judge import teacher_of

        segmenter = self.method.segmenter
        return {
            "device": self.device,
            "cores": runtime.available_cores(),
            "bf16": self.device != "cpu" or runtime.has_bf16_kernels(),
            "attends": any(isinstance(layer, Linear) for layer in segmenter.sublayers()),
            "parameters": sum(parameter.size for parameter in segmenter.parameters()),
            "disk_bytes": needed_space(self.config, self.learner, iteration=0, states=0),
            **look_at_data(self.config),
            "judged": predictions_of_judge(self.config, teacher=teacher_of(self.method) is not None),
        }

    def measure(self, side: float, batch_size: int) -> dict[str, Any]:
        """Returns memory and seconds of steps.

        Args:
            side: factor on the sides of images.
            batch_size: images of each domain in a pass.
        """
        config = scaled_config(self.config, side).model_copy(update={"batch_size": batch_size})
        most, usual = image_scales(config)
        passes = min(config.iter_size, 2)  # in the second pass the gradients of the first are there
        _forget_peak(self.device)
        for number in range(2):  # in the second step the optimizers' moments are there
            self._step(config, most, number, passes)
        peak = _peak(self.device)
        _forget_peak(self.device)
        self._save()
        saving = _peak(self.device)
        return {
            "side": side,
            "batch_size": batch_size,
            "source": input_size(config),
            "pixels": pixels(config, usual),
            "most_pixels": pixels(config, most),
            "peak": peak,
            "saving": saving,
            **self._time(config, usual),
            "image": self._time_prediction(config),
        }

    def _step(self, config: Config, scale: float, iteration: int, passes: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the seconds (elapsed, of the processor) of the passes, and those of the update."""
        from clan.training.batches import to_device

        pairs = [self._pair(config, scale, iteration * passes + number) for number in range(passes)]
        started = _clocks()
        self.learner.accumulate(iteration, (to_device(pair, config.seed) for pair in pairs))
        self._wait()
        between = _clocks()
        self.learner.step(iteration)
        self._wait()
        return between - started, _clocks() - between

    def _time(self, config: Config, scale: float) -> dict[str, Any]:
        """Returns the seconds of a pass and of an update, the mean of some rounds at each of `SHARES`.

        Every round is of other iterations, hence with other draws: jitter and blur of mixed images take long, and are
        left out of a part of the iterations.
        """
        seconds = self._mean_seconds(config, scale)
        if config.target_labels and config.target_labels_every > 1:  # the other iterations have no batch of these
            without = self._mean_seconds(config.model_copy(update={"target_labels": None}), scale)
            seconds = without + (seconds - without) / config.target_labels_every
        return {"pass": seconds[0].tolist(), "update": seconds[1].tolist()}

    def _mean_seconds(self, config: Config, scale: float) -> np.ndarray:
        """Returns the seconds of a pass and of an update, float64 [2, 2], by clock."""
        self._step(config, scale, 0, 1)
        rounds: list[list[np.ndarray]] = []
        began = time.perf_counter()
        while len(rounds) < LEAST_ROUNDS or (len(rounds) < MOST_ROUNDS and time.perf_counter() - began < LEAST_SECONDS):
            iterations = [min(int(share * config.stop) + len(rounds), config.stop - 1) for share in SHARES]
            rounds.append([np.stack(self._step(config, scale, iteration, 1)) for iteration in iterations])
        return np.mean(rounds, axis=(0, 1))

    def _time_prediction(self, config: Config) -> float:
        """Returns the seconds of the prediction of a target image; 0 if the run predicts none."""
        from clan.evaluation.inference import evaluating, predict

        if not (config.validate_every or config.select_without_labels):
            return 0.0
        width, height = config.target.size
        image = np.zeros((1, 3, height, width), np.float32)
        seconds = []
        with evaluating(self.method.exported):
            for _ in range(2):
                started = time.perf_counter()
                predict(self.method.exported, image, [(height, width)])[0]()
                seconds.append(time.perf_counter() - started)
        return min(seconds)

    def _pair(self, config: Config, scale: float, number: int) -> Any:
        """Returns a pair of batches with drawn images and labels."""
        from clan.data.loader import Batch, PairedBatch

        rng = np.random.default_rng(number)

        def batch(size: tuple[int, int], labelled: bool) -> Batch:
            crop, count = config.augmentation.crop_size, config.batch_size
            width, height = crop or (int(size[0] * scale), int(size[1] * scale))
            base = crop or ((width, height) if config.augmentation.scale_labels else size)
            cells = rng.integers(0, config.network.num_classes, (count, 8, 8), np.uint8)
            rows, columns = (np.arange(length) * 8 // length for length in base[::-1])
            labels = cells[:, rows][:, :, columns]
            images = rng.standard_normal((count, 3, height, width), np.float32)
            return Batch(images, labels if labelled else None, (base[1], base[0]), ("drawn",) * count)

        target = batch(config.target.size, self.reads_target_labels)
        few = batch(config.target.size, True) if config.target_labels else None
        return PairedBatch(batch(config.source.size, True), target, number, few)

    def _save(self) -> None:
        """Does to memory what saving a state does."""
        from clan.run.checkpoint import State, pack
        from clan.run.config import to_yaml

        arrays = {name: tensor.numpy() for name, tensor in self.learner.state_dict().items()}
        pack(State(0, arrays, to_yaml(self.config), 1, 0, {}))

    def _wait(self) -> None:
        if self.device != "cpu":
            import paddle

            paddle.device.synchronize()


def look_at_data(config: Config) -> dict[str, Any]:
    """Returns the number of images of each domain, or why it is not known, and the time to read a pair."""
    from clan.data.dataset import open_domain
    from clan.data.loader import PairedLoader
    from clan.training.batches import build_samplers

    images: dict[str, Any] = {}
    for role, domain in (("source", config.source), ("target", config.target)):
        try:
            with of_domain(role):
                images[role] = len(open_domain(domain, config.classes))
        except ClanError as error:
            images[role] = str(error)
    reading = validated = None
    with suppress(ClanError):
        # Sampling by class needs all labels to be counted first; reading a pair takes as long without it.
        uniform = {
            role: domain.model_copy(update={"sampling": "uniform"})
            for role, domain in (("source", config.source), ("target", config.target))
        }
        loader = PairedLoader(*build_samplers(config.model_copy(update=uniform)))
        loader.pair(0)
        started = _clocks()
        for number in range(1, 1 + PAIRS_READ):
            loader.pair(number)
        reading = ((_clocks() - started) / PAIRS_READ).tolist()
    if config.validate_every:
        with suppress(ClanError):
            split = config.target.model_copy(update={"split": config.validation_split, "list_file": None})
            count = len(open_domain(split, config.classes))
            validated = min(config.validation_images, count) if config.validation_images else count
    return {"images": images, "reading": reading, "validated": validated}


def predictions_of_judge(config: Config, *, teacher: bool) -> float:
    """Returns what `select_without_labels` predicts at each snapshot, in predictions of a target image.

    Args:
        config: the run.
        teacher: whether the method has a teacher besides the network that it saves.
    """
    from clan.evaluation.criteria import VIEWS
    from clan.evaluation.measuring import SMALLER, open_material

    if not config.select_without_labels:
        return 0.0
    try:
        material = open_material(config, config.snapshot_dir)
    except ClanError:
        return 0.0
    # A target image as it is and in all views, of which the last one is smaller.
    of_target = len(VIEWS) + SMALLER**2 + teacher
    of_source = math.prod(config.source.size) / math.prod(config.target.size)
    return len(material.target) * of_target + len(material.source) * of_source


def _clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def _forget_peak(device: str) -> None:
    """Sets the peaks to what is held now, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if device != "cpu":
        import paddle

        paddle.device.cuda.reset_max_memory_allocated()


def _peak(device: str) -> dict[str, int]:
    """Returns the peak memory since `_forget_peak` in bytes."""
    from clan.training.environment import peak_memory

    peak = peak_memory()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        peak["host"] = int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return peak


def report(config: Config, *, measured: bool) -> Iterator[dict[str, Any]]:
    """Yields what is printed."""
    from clan.core.device import explained

    with explained():
        probe = Probe(config)
        yield {"facts": (facts := probe.facts())}
        sizes = sizes_to_measure(config, facts["attends"], probe.device) if measured else []
        for side, batch_size in sizes:
            width, height = input_size(scaled_config(config, side))
            yield {"note": f"measuring steps of {batch_size} × {width}×{height} on {probe.device}"}
            yield {"size": probe.measure(side, batch_size)}


def main(path: str, *flags: str) -> None:
    """Measures, and prints a line of JSON for each result."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not be among the answers
    try:
        runtime.import_paddle()
        for found in report(load(Path(path)), measured="--facts" not in flags):
            print(json.dumps(found), file=answers, flush=True)
    except ClanError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
