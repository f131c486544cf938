"""`clan doctor --selftest`: whether this device computes what it should, and how fast.

A small case, a drawn street through a small network, is computed at every precision that the device has and compared
with numbers that were recorded in float64 (`tools/selftest_reference.py`). Its images are stored, not drawn again, and
its weights come from a generator whose numbers NumPy keeps for ever, so that every machine computes the same case.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
import paddle

from clan.core import runtime
from clan.core.device import explained, select_device
from clan.core.errors import ClanError, ConfigError, DeviceError, TrainingError
from clan.core.precision import LossScale, allow_tf32, autocast, check_precision
from clan.core.runtime import Precision
from clan.core.schema import build
from clan.data.transforms import normalize
from clan.methods import build_method
from clan.methods.base import Domain, LabelledDomain, Method, Pair
from clan.models.options import NetworkConfig
from clan.run.config import Config
from clan.training.environment import peak_memory
from clan.training.learner import Learner

REFERENCE = Path(__file__).with_name("selftest.npz")
Size = tuple[int, int]
Numbers = dict[str, np.ndarray]

STEPS = 3
TOLERANCES: dict[Precision, dict[str, float]] = {
    "fp32": {"logits": 1e-4, "losses": 1e-4, "gradients": 3e-3, "parameters": 5e-3},
    "tf32": {"logits": 1e-2, "losses": 1e-2, "gradients": 2e-1, "parameters": 5e-2},
    "fp16": {"logits": 1e-2, "losses": 1e-2, "gradients": 2e-1, "parameters": 5e-2},
    "bf16": {"logits": 8e-2, "losses": 5e-2, "gradients": 3e-1, "parameters": 3e-1},
}
"""How far each may be from float64, relative to the largest number.

On the CPU rounding of float32 gives 2e-6 of logits, 7e-7 of losses, 1e-5 of gradients and of changes of parameters;
other ways of summing may give ten times as much. One input of a ReLU that comes out on the other side of zero moves
gradients by 5e-3 and their norms by up to 2e-3: `WEIGHTS` keeps them from zero in the first step, and the tolerances
allow for one in the other two. Those of the other precisions are about ten times what rounding to 11, 11 and 8 bits of
mantissa gives, where many inputs change sides; with weights alone rounded to 11 bits the norm of the discriminator's
first bias, a difference between domains, changes by 0.1.
"""

WEIGHTS = 36_000
"""Seed of the weights: of those tried, the one that keeps all inputs of ReLUs the farthest from zero in the first step,
1.9e-5 of their root mean square and ten times what rounding of float32 moves them. With 0 one of a quarter of a million
lay at 2.8e-7, came out on the other side, and moved every gradient of the backbone by half a percent."""

LOSS_SCALE = 2.0**12
"""Factor of losses in float16. A gradient within the discriminator is 1.03, which a run's first factor of 2^16 takes
beyond float16's 65504: a run skips that step and goes on, and here three steps are compared."""

SMALL: tuple[Size, Size] = ((512, 256), (512, 256))
FULL: tuple[Size, Size] = ((1280, 760), (1024, 512))
DOMAINS = ("synthia", "cityscapes")
TINY: tuple[Size, Size] = ((32, 32), (32, 32))
"""Width and height of source and target in what is timed; at the last, a GPU waits for Python."""


@dataclass
class Result:
    """What one way of computing gave.

    Args:
        path: "gpu", or on the CPU "kernels" or "plain".
        precision: see `clan.core.runtime.Precision`.
        errors: by name, relative to the largest reference number.
        speeds: images a second, both domains counted, of training steps of ResNet-101; None: not measured.
        host_seconds: of a training step of ResNet-101 on tiny images.
        memory_bytes: the most so far, of the host and of the GPU.
        remark: why something was not computed.
        failed: whether the device has the precision, and yet the case or a step ended in an error, the remark.
    """

    path: str
    precision: Precision
    errors: dict[str, float] = field(default_factory=dict)
    speeds: dict[str, float | None] = field(default_factory=dict)
    host_seconds: float | None = None
    memory_bytes: dict[str, int] = field(default_factory=dict)
    remark: str | None = None
    failed: bool = False

    @property
    def deviations(self) -> list[str]:
        """What is beyond its tolerance, or no number, or was to be computed and was not."""
        limits = TOLERANCES[self.precision]
        found = [
            f"{self.path} {self.precision}: {name} deviate by {error:.1e}, more than {limits[name]:.0e}"
            for name, error in self.errors.items()
            if not error <= limits[name]
        ]
        return [*found, f"{self.path} {self.precision}: was to be computed and was not"] if self.failed else found


def run_selftest(*, timed: bool = True, broken: str | None = None) -> list[Result]:
    """Computes the case in every way that the device has, and times training steps.

    Args:
        timed: measure speed too, which takes a minute or two; otherwise it is seconds.
        broken: why a GPU of this machine does not compute; nothing is computed then.
    """
    try:
        if broken:
            raise DeviceError(broken)
        device = select_device()
    except Exception as error:
        return [Result("gpu", "fp32", remark=_sentence(error), failed=True)]
    results = []
    for path in ("gpu",) if device != "cpu" else ("kernels", "plain"):
        for precision in get_args(Precision):
            with _path(path) as remark:
                result = Result(path, precision, remark=remark or _unavailable(precision))
                results.append(result)
                if result.remark is None:
                    _compute(result, timed)
    allow_tf32(False)
    return results


def _compute(result: Result, timed: bool) -> None:
    """Fills a result in."""
    try:
        with explained():
            result.errors = compare(case(result.precision), load_reference())
            if timed:
                _time(result)
    except Exception as error:
        result.remark = _sentence(error)
        # A step may take more memory than there is, and training on noise may diverge, on a device without faults.
        result.failed = not (result.errors and isinstance(error, ClanError))
    result.memory_bytes = peak_memory()


def _sentence(error: Exception) -> str:
    """What an error says, in one line, without the stack of C++ that Paddle puts before it."""
    said = " ".join(str(error).rpartition("Error Message Summary:")[2].strip("- \n").split())
    return said if isinstance(error, ClanError) else f"{type(error).__name__}: {said}"


@contextmanager
def _path(path: str) -> Iterator[str | None]:
    """Within the block the CPU computes with kernels or without; yields why it cannot."""
    before = os.environ.get("CLAN_KERNELS")
    os.environ["CLAN_KERNELS"] = "1" if path == "kernels" else "0"
    runtime.import_paddle()
    try:
        state = runtime.kernel_state()
        yield state.remark if path == "kernels" and not state.active else None
    finally:
        os.environ.pop("CLAN_KERNELS")
        if before is not None:
            os.environ["CLAN_KERNELS"] = before
        runtime.import_paddle()


def _unavailable(precision: Precision) -> str | None:
    try:
        return check_precision(precision)
    except ConfigError as error:
        return str(error)


def load_reference() -> Numbers:
    """The images and the float64 numbers of the case."""
    with np.load(REFERENCE) as file:
        return dict(file)


def case(precision: Precision = "fp32", *, double: bool = False) -> Numbers:
    """Forward pass, losses and gradients of the case's first step, and its parameters' changes after three.

    Args:
        precision: what networks compute in.
        double: everything is float64, to record the reference.

    Raises:
        TrainingError: a step overflowed float16, which skips it, so that there is nothing to compare.
    """
    reference = load_reference()
    config = _config(((96, 48), (96, 48)), precision, NetworkConfig(backbone="resnet-tiny", discriminator_width=8))
    method = build_method(config)
    fill(method)
    learner = Learner(config, method)
    if precision == "fp16":
        learner.loss_scale = LossScale(LOSS_SCALE)
    dtype = "float64" if double else "float32"
    images = [paddle.to_tensor(normalize_stored(reference[name]), dtype) for name in ("source", "target")]
    labels = paddle.to_tensor(reference["labels"][None])
    pair = Pair(LabelledDomain(images[0], (48, 96), labels, is_source=True), Domain(images[1], (48, 96)))
    with paddle.no_grad(), autocast(precision):
        statistics = [tensor.clone() for tensor in learner.running_statistics()]
        logits = method.segmenter(images[0])
    for tensor, value in zip(learner.running_statistics(), statistics, strict=True):
        tensor.set_value(value)
    before = _trained(learner)
    losses, gradients = [], np.zeros(0)
    for step in range(STEPS):
        found = learner.accumulate(step, [pair]).losses
        losses.append([found[name] for name in sorted(found)])
        if step == 0:
            scale = learner.loss_scale.factor if learner.loss_scale else 1.0
            gradients = np.array([_norm(one.numpy()) / scale for one in learner.gradients().values()])
        learner.step(step)
    if learner.loss_scale and learner.loss_scale.skipped:
        raise TrainingError(f"gradients overflow float16 at a loss scale of {LOSS_SCALE:.0f}")
    after = _trained(learner)
    return {
        "logits": np.stack([one.astype("float64").numpy() for one in logits]),
        "losses": np.array(losses, np.float64),
        "gradients": gradients,
        "parameters": np.array([_norm(after[name] - before[name]) for name in before]),
    }


def compare(found: Numbers, reference: Numbers) -> dict[str, float]:
    """By name, the largest difference relative to the reference; each gradient's norm is relative to itself."""
    errors = {}
    for name, value in found.items():
        expected = reference[name]
        if name in ("logits", "losses"):
            scale = np.abs(expected).max(axis=tuple(range(expected.ndim - 1)) if name == "losses" else None)
        else:
            # The gradient of the discriminator's last bias nearly cancels: what is left is 1e-3 of the largest one.
            scale = np.abs(expected) + 1e-2 * np.abs(expected).max()
        errors[name] = (
            float((np.abs(value - expected) / scale).max()) if value.shape == expected.shape else float("inf")
        )
    return errors


def normalize_stored(image: np.ndarray) -> np.ndarray:
    """A stored picture, uint8 RGB [H, W, 3], as a batch of one."""
    from PIL import Image

    return normalize(Image.fromarray(image))[None]


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _trained(learner: Learner) -> dict[str, np.ndarray]:
    return {
        f"{part}/{slot.name}": slot.parameter.numpy().astype(np.float64)
        for part, optimizer in learner.optimizers.items()
        for slot in optimizer.slots
    }


def fill(method: Method) -> None:
    """Gives convolutions weights that depend on their order and shape alone; batch norms keep what they begin with."""
    for network in method.networks.values():
        for number, (_, parameter) in enumerate(network.layer.named_parameters()):
            if parameter.ndim == 4:
                draws = np.random.RandomState(WEIGHTS + number)
                fan_in = int(np.prod(parameter.shape[1:]))
                values = draws.standard_normal(parameter.shape) * np.sqrt(2.0 / fan_in)
                parameter.set_value(paddle.to_tensor(values, parameter.dtype))


def _config(sizes: tuple[Size, Size], precision: Precision, network: NetworkConfig | None = None) -> Config:
    """CLAN on the two domains; the warm-up ends before the third step, so that all losses take part."""
    source, target = ({"dataset": name, "root": ".", "size": size} for name, size in zip(DOMAINS, sizes, strict=True))
    values = {"source": source, "target": target, "network": (network or NetworkConfig()).model_dump()}
    return build(Config, {**values, "num_steps": 10, "warmup_steps": 1, "precision": precision})


def _time(result: Result) -> None:
    """Measures speed and host overhead; a full-size step where the device has the memory and is fast enough."""
    steps = Steps(result.precision)
    on_gpu = result.path == "gpu"
    result.host_seconds = steps.seconds(TINY, within=3.0)
    seconds = steps.seconds(SMALL, within=15.0 if on_gpu else 5.0)
    result.speeds["512x256"] = 2 / seconds
    result.speeds["full"] = None
    if seconds < 1.0:
        try:
            with explained():
                result.speeds["full"] = 2 / steps.seconds(FULL, within=15.0)
        except DeviceError as error:
            result.remark = f"full size was not measured, since {error}"


class Steps:
    """Training steps of ResNet-101 on noise."""

    def __init__(self, precision: Precision) -> None:
        config = _config(SMALL, precision)
        self.learner = Learner(config, build_method(config))

    def seconds(self, sizes: tuple[Size, Size], within: float) -> float:
        """The median of the steps that fit into a time, at least one, after one that does not count."""
        draws = np.random.default_rng(0)
        (width, height), (target_width, target_height) = sizes
        images = [draws.uniform(-100, 100, (1, 3, h, w)).astype(np.float32) for w, h in sizes]
        labels = paddle.to_tensor(draws.integers(0, 19, (1, height, width)).astype(np.uint8))
        source = LabelledDomain(paddle.to_tensor(images[0]), (height, width), labels, is_source=True)
        pair = Pair(source, Domain(paddle.to_tensor(images[1]), (target_height, target_width)))
        self._step(pair)
        taken: list[float] = []
        while sum(taken) < within and len(taken) < 50:
            started = time.perf_counter()
            self._step(pair)
            taken.append(time.perf_counter() - started)
        return median(taken)

    def _step(self, pair: Pair) -> None:
        """One step, waited for."""
        self.learner.accumulate(2, [pair])
        self.learner.step(2)
        if paddle.device.get_device() != "cpu":
            paddle.device.synchronize()


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """The results, with what deviates."""
    return [{**asdict(result), "deviations": result.deviations} for result in results]


def report(results: list[Result]) -> str:
    """The results for people, to be put into a report of a fault."""
    lines = ["", "selftest: relative to float64, (tolerance)"]
    for result in results:
        name = f"{result.path} {result.precision}"
        limits = TOLERANCES[result.precision]
        errors = ", ".join(f"{key} {value:.1e} ({limits[key]:.0e})" for key, value in result.errors.items())
        lines.append(f"{name:<22}{errors or 'not computed'}")
        if result.speeds:
            lines.append(f"{'':<22}{_speed(result)}")
        if result.remark:
            lines.append(f"{'':<22}{result.remark}")
    deviations = [f"! {sentence}" for result in results for sentence in result.deviations]
    return "\n".join([*lines, "", *(deviations or ["The selftest found no deviation."])])


def _speed(result: Result) -> str:
    speeds: Mapping[str, float | None] = result.speeds
    parts = [f"{name} {value:.2f} images/s" for name, value in speeds.items() if value is not None]
    parts += [f"{name} not measured" for name, value in speeds.items() if value is None]
    if result.host_seconds is not None:
        parts.append(f"tiny step {1000 * result.host_seconds:.0f} ms")
    parts += [f"{name} memory {amount / 1e9:.2f} GB" for name, amount in result.memory_bytes.items()]
    return ", ".join(parts)
