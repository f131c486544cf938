import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from clan.cli.commandline import run as run_command
from clan.core import runtime
from clan.core.schema import build
from clan.run.checkpoint import States
from clan.run.config import Config, DomainConfig, NetworkConfig
from clan.streets.worlds import write_worlds
from tests.needs import needed, pytest_sessionfinish  # noqa: F401 (a hook)
from tests.needs import pytest_terminal_summary as report_skips

runtime.import_paddle()

# The first example of a test may compile loops or import Paddle: how long it takes says nothing.
settings.register_profile("untimed", parent=settings.default, deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plain", action="store_true", help="run the tests marked plain, without clan.kernels")


def pytest_configure(config: pytest.Config) -> None:
    """Fills the cache of compiled loops, once for all workers and all processes that tests start.

    With `--plain`, neither this process nor those that it starts have kernels.
    """
    if config.getoption("--plain"):
        os.environ["CLAN_KERNELS"] = "0"
        runtime.import_paddle()
        config.option.markexpr = "plain"
    if not hasattr(config, "workerinput"):
        subprocess.run([sys.executable, str(Path(__file__).parent / "warm_up.py")], check=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report_skips(terminalreporter)
    terminalreporter.write_line(f"kernels were {runtime.kernel_state()}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared material beside the project's root: real data and the reference programs' results."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    needed("shared", folder.is_dir())
    return folder


class Golden:
    """The official code's parameters and results."""

    def __init__(self, folder: Path) -> None:
        spec = importlib.util.spec_from_file_location("golden_weights", folder / "weights.py")
        assert spec and spec.loader
        self._weights: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._weights)
        self.folder = folder

    def state(self, network: str, seed: int = 11) -> dict[str, np.ndarray]:
        """Parameters of "segmenter" or "discriminator" under the reference's names."""
        return self._weights.golden_state(network, seed)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """What `name`.npz holds."""
        with np.load(self.folder / f"{name}.npz") as file:
            return dict(file)


@pytest.fixture(scope="session")
def golden(shared: Path) -> Golden:
    return Golden(shared / "golden")


@pytest.fixture(scope="session")
def golden_weights(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The official parameters as files under the reference's names."""
    from clan.models.weight_files import write_arrays

    folder = tmp_path_factory.mktemp("weights")
    paths = {name: folder / f"{name}.safetensors" for name in ("segmenter", "discriminator")}
    for name, path in paths.items():
        write_arrays(golden.state(name), path)
    return paths


def relative(value: object, expected: np.ndarray) -> float:
    """Largest difference over largest expected magnitude."""
    array = np.asarray(value, np.float64)
    assert array.shape == expected.shape
    return float(np.abs(array - expected).max() / np.abs(expected).max())


def variable(array: np.ndarray) -> Any:
    """A tensor that gets a gradient."""
    import paddle  # not above: `import_paddle` has to be first

    return paddle.to_tensor(array, stop_gradient=False)


@pytest.fixture(scope="session")
def worlds(tmp_path_factory) -> Path:
    """`SYNTHIA/RAND_CITYSCAPES` and `Cityscapes`, drawn and tiny; to be read only: copy it to damage it."""
    folder = tmp_path_factory.mktemp("worlds")
    write_worlds(folder, source_images=3, target_train_images=3, target_val_images=2, size=(128, 64), seed=0)
    return folder


@pytest.fixture
def tiny(worlds, tmp_path) -> Callable[..., Config]:
    """Makes the configuration of a run that takes a second; nested fields as `network__num_classes=5`."""
    return partial(tiny_config, worlds, tmp_path / "run")


def tiny_config(worlds: Path, folder: Path, **fields) -> Config:
    """What `tiny` makes, for a given folder of snapshots."""
    base = Config(
        source=DomainConfig(dataset="synthia", root=worlds / "SYNTHIA/RAND_CITYSCAPES", size=(64, 32)),
        target=DomainConfig(dataset="cityscapes", root=worlds / "Cityscapes", size=(64, 32)),
        network=NetworkConfig(backbone="resnet-tiny", discriminator_width=8),
        num_steps=4,
        warmup_steps=1,
        num_workers=0,
        save_every=2,
        save_images=1,
        snapshot_dir=folder,
    )
    values = base.model_dump()
    for name, value in fields.items():
        *sections, field = name.split("__")
        section = values
        for key in sections:
            section = section[key]
        section[field] = value
    return build(Config, values)


@pytest.fixture(scope="session")
def evaluated_runs(worlds, tmp_path_factory) -> Path:
    """Folders `first` and `second` of two runs of four steps, whose snapshots are evaluated in `result`."""
    from clan.data.dataset import Dataset
    from clan.evaluation.bulk import evaluate_and_score
    from clan.training.run import train

    folder = tmp_path_factory.mktemp("runs")
    for name, method in (("first", "clan"), ("second", "source-only")):
        train(tiny_config(worlds, folder / name, method=method))
        dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val")
        options = {"num_classes": None, "upsampling": None}
        evaluate_and_score(folder / name, dataset, folder / "result", folder / "workbooks", **options)
    return folder


def metrics(folder: Path) -> list[dict[str, float]]:
    """What a run's `metrics.jsonl` says, without the seconds."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def assert_same_end(left: Path, right: Path) -> None:
    """Two runs' folders hold the same records and the same latest state, bit for bit."""
    assert metrics(left) == metrics(right)
    one, other = States(left).latest(), States(right).latest()
    assert one
    assert other
    assert one.iteration == other.iteration
    assert one.arrays.keys() == other.arrays.keys()
    assert [name for name in one.arrays if not np.array_equal(one.arrays[name], other.arrays[name])] == []


@pytest.fixture
def error_of(capsys):
    """Runs a command that must fail, and returns its one sentence."""

    def call(main, *arguments):
        with pytest.raises(SystemExit) as stop:
            run_command(lambda: main([str(argument) for argument in arguments]))
        lines = capsys.readouterr().err.splitlines()
        assert stop.value.code == 2
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return call
