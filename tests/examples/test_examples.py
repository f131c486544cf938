"""Every "to add a …" of CONTRIBUTING.md: an example of a few lines, registered by entries of visible dicts alone.

Each trains, resumes bit for bit and passes the contract that those in src pass.
"""

import ast
import importlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from clan.cli import main as cli
from clan.core.errors import ConfigError, WeightsError
from clan.data.domains import config_for_domains
from clan.datasets.description import PACKAGED
from clan.methods import METHODS
from clan.models.options import BACKBONES, HEADS
from clan.models.weight_files import READERS, WRITERS, read_arrays, write_arrays
from clan.run.config import LOGGERS, OPTIMIZERS, SAMPLINGS, load
from clan.run.method_options import METHOD_OPTIONS
from clan.run.presets import DEFAULT_ROOTS
from clan.training.batches import build_samplers
from clan.training.trainer import Trainer
from tests.conftest import assert_same_end
from tests.examples import weights_format
from tests.examples.method import Consistency, ConsistencyOptions
from tests.methods import test_contract as method_contract
from tests.models import test_backbones as backbone_contract

pytestmark = pytest.mark.plain

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """Registers the examples; returns the root of a drawn data set that the example describes."""
    root = tmp_path / "photos"
    for registry, name, entry in (
        (METHODS, "consistency", Consistency),
        (METHOD_OPTIONS, "consistency", ConsistencyOptions),
        (BACKBONES, "plain", "tests.examples.backbone:Plain"),
        (HEADS, "sum", "tests.examples.head:SumHead"),
        (PACKAGED, "photos", FOLDER / "dataset.yaml"),
        (DEFAULT_ROOTS, "photos", root),
        (WRITERS, ".named", weights_format.write),
        (READERS, "named", (weights_format.fits, weights_format.read)),
        (LOGGERS, "csv", "tests.examples.logger:CsvLogger"),
        (SAMPLINGS, "rarest-class", "tests.examples.sampling:RarestClass"),
        (OPTIMIZERS, "lion", "tests.examples.optimizer:Lion"),
    ):
        monkeypatch.setitem(registry, name, entry)
    random = np.random.default_rng(0)
    for kind, shape, high in (("photos", (32, 64, 3), 256), ("masks", (32, 64), 4)):
        (root / "train" / kind).mkdir(parents=True)
        for name in "abc":
            cv2.imwrite(str(root / "train" / kind / f"{name}.png"), random.integers(0, high, shape).astype(np.uint8))
    return root


RUNS = {
    "method": {"method": "consistency", "iter_size": 2},
    "backbone": {"network__backbone": "plain"},
    "head": {"network__model": "sum"},
    "logger": {"loggers": ("csv",)},
    "sampling": {"source__sampling": "rarest-class"},
    "optimizer": {"optimizer__algorithm": "lion", "optimizer__discriminator_algorithm": "lion"},
}


def run(config, *, resume=False):
    Trainer(config, resume=resume, notify=lambda sentence: None).run()
    assert load(config.snapshot_dir / "config.yaml") == config
    return config.snapshot_dir


@pytest.mark.parametrize("what", RUNS)
def test_an_example_trains_and_resumes_bit_for_bit(what, tiny, tmp_path):
    whole = run(tiny(**RUNS[what]))
    halves = tmp_path / "halves"
    run(tiny(**RUNS[what], num_steps_stop=2, snapshot_dir=halves))
    run(tiny(**RUNS[what], snapshot_dir=halves), resume=True)
    assert_same_end(whole, halves)
    for path in whole.glob("csv/*"):
        lines, others = (folder.joinpath("csv", path.name).read_text().splitlines() for folder in (whole, halves))
        kept = [[line for line in some if "speed/" not in line] for some in (lines, others)]
        assert kept[0] == kept[1] and "4,loss/seg," in path.read_text()


def test_the_command_line_knows_all_examples(tiny, worlds, tmp_path, capsys):
    """One run of all of them together, evaluated, and its weights in the example's format."""
    path = run(tiny(num_steps_stop=1)) / "config.yaml"
    flags = (
        "--method consistency --network.backbone plain --network.model sum --optimizer.algorithm lion "
        "--source.sampling rarest-class --loggers csv --num-steps-stop 2 --quiet --snapshot-dir"
    )
    out = tmp_path / "all"
    cli.dispatch(["train", "--config", str(path), *flags.split(), str(out)])
    cli.dispatch(["convert", str(out / "SYS_2.pdparams"), str(tmp_path / "weights.named")])
    data = ["--data-dir", str(worlds / "Cityscapes"), "--workbooks", str(tmp_path / "workbooks")]
    cli.dispatch(["evaluate", str(tmp_path / "weights.named"), "--save", str(tmp_path / "maps"), *data])
    assert "mIoU-19" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.dispatch(["train", "--help"])
    shown = "".join(capsys.readouterr().out.split())
    assert all(name in shown for name in ("consistency", ",plain}", ",sum}", ",lion}", ",rarest-class}", ",csv}"))


def test_a_name_that_is_not_registered_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"network\.backbone: expected resnet101, .*plain, got 'resnet9000'"):
        tiny(network__backbone="resnet9000")
    with pytest.raises(ConfigError, match=r"loggers\.0: expected tensorboard, .*csv, got 'html'"):
        tiny(loggers=("html",))


def contract(module, fixture):
    """The tests of a contract that take the name of what is tested, and further values of theirs."""
    for name, test in vars(module).items():
        if not name.startswith("test_") or fixture not in (
            words := test.__code__.co_varnames[: test.__code__.co_argcount]
        ):
            continue
        values = [mark.args[1] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        for value in values[0] if values else [None]:
            yield pytest.param(
                test, {} if value is None else {words[1]: value}, "tmp_path" in words, id=f"{name}-{value}"
            )


@pytest.mark.parametrize(("test", "values", "writes"), [*contract(method_contract, "name")])
def test_the_method_passes_the_contract(test, values, writes):
    test("consistency", **values)


@pytest.mark.parametrize(("test", "values", "writes"), [*contract(backbone_contract, "backbone")])
def test_the_backbone_passes_the_contract(test, values, writes, tmp_path):
    test("plain", **values, **({"tmp_path": tmp_path} if writes else {}))


def test_the_data_set_is_known_by_name_and_trains(photos, tiny, tmp_path):
    config = config_for_domains(
        tiny(method="oracle"), {"source": "photos", "target": "photos"}, None, notify=lambda sentence: None
    )
    config = config.model_copy(update={"snapshot_dir": tmp_path / "named", "num_steps_stop": 2})
    assert config.source.root == photos
    source, _ = build_samplers(config)
    names = list(config.classes.classes)
    assert set(np.unique(source.batch(0).labels)) == {names.index("road"), names.index("sky"), 255}
    run(config)


def test_weights_come_back_and_damage_is_refused(tmp_path):
    arrays = {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(7)}
    write_arrays(arrays, tmp_path / "w.named")
    found = read_arrays(tmp_path / "w.named")
    assert found.keys() == arrays.keys()
    assert all(found[name].tobytes() == array.tobytes() for name, array in arrays.items())
    content = (tmp_path / "w.named").read_bytes()
    for cut in range(20, len(content), 7):
        (tmp_path / "w.named").write_bytes(content[:cut])
        with pytest.raises(WeightsError):
            read_arrays(tmp_path / "w.named")


def test_the_strategy_prefers_images_with_the_rarest_class(tiny):
    source, _ = build_samplers(tiny(source__sampling="rarest-class"))
    rare = [(source.dataset.read_label(index) == source.sampling.rare).sum() for index in range(3)]
    drawn = np.bincount([source.index(position) for position in range(300)], minlength=3)
    assert (np.argsort(drawn, kind="stable") == np.argsort(rare, kind="stable")).all() or np.ptp(rare) < 3


EXAMPLES = sorted(
    path for path in FOLDER.iterdir() if path.suffix in (".py", ".yaml") and not path.stem.startswith("test_")
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_small_and_takes_nothing_private(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            taken = [one.name for one in node.names] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in taken if name.startswith("_")]


def test_contributing_names_every_example_and_registry_and_file():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    adding = text.partition("## To add")[2].partition("\n## ")[0]
    assert all(f"`tests/examples/{path.name}`" in adding for path in EXAMPLES)
    for registry, file in re.findall(r"`([A-Z_]+)`\s+\(`([\w/.]+)`\)", adding):
        module = importlib.import_module("clan." + file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        assert isinstance(getattr(module, registry), dict), registry
    for file in set(re.findall(r"`([\w/]+\.(?:py|yml|md))`", text)):
        assert (ROOT / "src/clan" / file).exists() or (ROOT / file).exists(), file


def test_contributing_names_every_dependency_and_its_lower_bound():
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Dependencies")[2]
    rows = re.findall(r"^\| ([\w., -]+?)(?: \(.*?\))? \| ([\d., ]+?)(?:, below .*?)? \|", text, re.MULTILINE)
    listed = {
        name: bound for names, bounds in rows for name, bound in zip(names.split(", "), bounds.split(", "), strict=True)
    }
    required = re.findall(r"[\"\[]([\w.-]+)>=([\d.]+)", (ROOT / "pyproject.toml").read_text())
    required = {name: bound for name, bound in required if name != "setuptools"}

    def plain(bounds):
        return {name: re.sub(r"(\.0)+$", "", bound) for name, bound in bounds.items()}

    assert plain(listed) == plain(required)
