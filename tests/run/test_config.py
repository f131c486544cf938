"""A configuration is a value: it survives its file, refuses what it does not know, and every option acts."""

import re
import tracemalloc
import types
import typing
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clan.cli import main as cli
from clan.core.errors import ConfigError
from clan.core.schema import Section
from clan.data.dataset import Dataset
from clan.evaluation.label_maps import evaluate, load_segmenter, options_for
from clan.run import presets as recipes
from clan.run.checkpoint import changes
from clan.run.config import Config, load, to_yaml
from clan.run.method_options import METHOD_OPTIONS, AdaptSegNetMultiOptions, ClanOptions, MethodOptions
from clan.training.run import train
from clan.training.trainer import Trainer
from tests.conftest import tiny_config


def save(config_or_text, folder):
    path = folder / "config.yaml"
    text = config_or_text if isinstance(config_or_text, str) else to_yaml(config_or_text)
    path.write_text(text, encoding="utf-8")
    return path


def changed(path, *keys, value):
    """Sets an entry of a YAML file."""
    values = section = yaml.safe_load(path.read_text())
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    path.write_text(yaml.safe_dump(values))
    return path


RECIPES = {
    f"{preset} {source}": make(source) for preset, make in recipes.PRESETS.items() for source in ("synthia", "gta5")
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_config_survives_its_file(name, tmp_path):
    assert load(save(RECIPES[name], tmp_path)) == RECIPES[name]


def test_unusual_values_survive_their_file(tiny, tmp_path):
    config = tiny(
        source__list_file=tmp_path / ("a rather long name, with spaces: " * 5) / "Straße#1.txt",
        network__restore_from="null.pdparams",
        augmentation__scales=((0.1, 0.25), (1e-7, 0.75)),
        method__lambda_adv=1e-30,
        optimizer__learning_rate=0.0,
        num_steps_stop=None,
        target__split="off",
    )
    assert load(save(config, tmp_path)) == config


def test_the_defaults_are_the_official_recipe_s():
    official = recipes.official("synthia")
    assert Config(source=official.source, target=official.target, snapshot_dir=official.snapshot_dir) == official


FAULTS = {
    "unknown key": (("loss", "lambda_locl"), 3, "loss.lambda_locl is not an option"),
    "unknown key at the top": (("warmup",), 3, "warmup is not an option"),
    "word for a number": (("num_steps",), "many", "num_steps: .*'many'"),
    "fraction for an integer": (("batch_size",), 1.5, "batch_size: .*1.5"),
    "zero images": (("batch_size",), 0, "batch_size: .*0"),
    "negative rate": (("optimizer", "learning_rate"), -1e-3, "optimizer.learning_rate: .*-0.001"),
    "momentum beyond 1": (("optimizer", "momentum"), 9, "optimizer.momentum: .*9"),
    "infinite weight": (("method", "lambda_adv"), float("inf"), "method.lambda_adv: .*inf"),
    "option of another method": (("method", "lambda_entropy"), 1, "method.lambda_entropy: not an option here"),
    "option that moved": (("loss", "lambda_adv"), 1, "loss.lambda_adv: .* write method.lambda_adv"),
    "no number": (("loss", "gamma"), float("nan"), "loss.gamma: .*nan"),
    "one number for a size": (("source", "size"), [1280], "source.size"),
    "another method": (("method",), "dann", "method: .*'dann'"),
    "another backbone": (("network", "backbone"), "vgg", "network.backbone: .*'vgg'"),
    "another data set": (("source", "dataset"), "kitti", "source.dataset: .*'kitti'"),
    "section that is none": (("loss",), 3, "loss: .*3"),
    "probabilities": (("augmentation", "scales"), [[1.0, 0.3]], "sum to 0.3"),
    "stop beyond the end": (("num_steps_stop",), 5, "num_steps_stop 5 .*num_steps 4"),
    "warm-up beyond the end": (("warmup_steps",), 5, "warmup_steps 5 .*num_steps 4"),
    "crop beyond the image": (("augmentation", "crop_size"), [16, 8], "scale_labels on or .*random_scale off"),
    "share without a crop": (
        ("augmentation", "crop_class_share"),
        0.5,
        "crop_class_share .* without augmentation.crop_size",
    ),
    "label that no image holds": (("ignore_label",), 256, "ignore_label: .*256"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_named_in_a_sentence(fault, tiny, tmp_path):
    keys, value, message = FAULTS[fault]
    path = changed(save(tiny(), tmp_path), *keys, value=value)
    with pytest.raises(ConfigError, match=message) as error:
        load(path)
    assert re.match(rf"{path}(, line \d+)?: ", str(error.value))
    assert "\n" not in str(error.value)


def numbers(section=Config, path=()):
    """Every option that is a number, and whether it counts something."""
    for name, field in section.model_fields.items():
        kinds = {field.annotation}
        if typing.get_origin(field.annotation) in (typing.Union, types.UnionType):
            kinds = set(typing.get_args(field.annotation))
        kinds |= {typing.get_args(kind)[0] for kind in kinds if typing.get_origin(kind) is typing.Annotated}
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from numbers(field.annotation, (*path, name))
        elif kinds & {int, float}:
            yield (*path, name), int in kinds


def test_numbers_are_found():
    found = dict(numbers())
    assert found[("num_workers",)] and found[("network", "discriminator_width")] and found[("num_steps_stop",)]
    assert found[("optimizer", "power")] is False


@settings(deadline=None)
@given(st.sampled_from([path for path, counts in numbers() if counts]), st.integers(19, 400), st.booleans())
def test_no_count_may_be_absurd(worlds, path, digits, negative):
    value = -1 if negative else 10**digits
    with pytest.raises(ConfigError, match=rf"{'.'.join(path)}: input should be (less|greater)") as error:
        tiny_config(worlds, Path("run"), **{"__".join(path): value})
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


ABSURD = {
    "sizes": {"source__size": [10**6, 8]},
    "large batches of large images": {"batch_size": 1000, "target__size": [16384, 16384]},
    "many passes": {"iter_size": 10**9},
    "a scale": {"augmentation__scales": [[1e300, 1.0]]},
    "a dilation": {"network__head_dilations": [10**6]},
    "many dilations": {"network__head_dilations": [1] * 1000},
    "time": {"data_timeout": 1e300},
}


@pytest.mark.parametrize("what", ABSURD)
def test_absurd_runs_end_in_a_sentence_before_anything_is_made(what, worlds, tmp_path, error_of):
    path = save(tiny_config(worlds, tmp_path / "run"), tmp_path)
    for name, value in ABSURD[what].items():
        changed(path, *name.split("__"), value=value)
    tracemalloc.start()
    error_of(cli.dispatch, "train", "--config", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text", ["", "- a list", "just words", "a: [1", "a: 1\na: &x *y", "\x00", "!!python/object:os.x {}"]
)
def test_what_is_no_config_is_refused(text, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.yaml") as error:
        load(save(text, tmp_path))
    assert "\n" not in str(error.value)


def test_a_config_that_is_not_there_or_not_text_is_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    for path in (tmp_path / "nowhere.yaml", tmp_path, tmp_path / "binary.yaml"):
        with pytest.raises(ConfigError, match=path.name):
            load(path)


def test_a_config_cannot_be_changed(tiny):
    with pytest.raises(ValueError, match="frozen"):
        tiny().loss.gamma = 1.0


def leaves(section=Config, path=()):
    """Every option as a path of names, but those with a single legal value, which have nothing to choose."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if kind is MethodOptions:
            for method, options in METHOD_OPTIONS.items():
                yield from leaves(options, (name, method))
        elif isinstance(kind, type) and issubclass(kind, Section):
            yield from leaves(kind, (*path, name))
        elif typing.get_origin(kind) is not typing.Literal or len(typing.get_args(kind)) > 1:
            yield (*path, name)


@pytest.fixture
def read_options(monkeypatch):
    """The options that code reads from any `Config` from now on; writing one as YAML does not count."""
    seen = set()
    sections = {}  # id → the section, kept alive, and its path
    plain = Section.__getattribute__

    def recording(self, name):
        value = plain(self, name)
        if name in type(self).model_fields:
            own = ("method", self.name) if isinstance(self, MethodOptions) else sections.get(id(self), (None, ()))[1]
            path = (*own, name)
            if isinstance(value, Section):
                sections[id(value)] = (value, path)
            else:
                seen.add(path)
        return value

    monkeypatch.setattr(Section, "__getattribute__", recording, raising=False)
    return seen


def test_every_option_is_read_by_training_or_evaluation(tiny, tmp_path, read_options, capsys):
    first = train(tiny(num_steps=1, snapshot_dir=tmp_path / "first"))
    selves = {"method__lambda_self": 0.1, "method__self_training_start": 0.0}
    config = tiny(num_steps_stop=2, warmup_steps=0, validate_every=2, network__restore_from=first, **selves)
    read_options.clear()
    snapshot = train(config)
    options = options_for(snapshot, num_classes=None, upsampling=None, input_size=(64, 32))
    segmenter = load_segmenter(snapshot, options.network)
    validation = Dataset(config.target.dataset, config.target.root, split="val")
    evaluate(segmenter, validation, tmp_path / "result", options=options)
    validation.read_label(0)
    cropped = {"augmentation__random_scale": False, "augmentation__crop_size": (32, 16)}
    train(tiny(num_steps=1, augmentation__style="amplitude", snapshot_dir=tmp_path / "second", **cropped))
    for name in METHOD_OPTIONS:
        train(tiny(method=name, num_steps=1, target__split="val", validate_every=1, snapshot_dir=tmp_path / name))
    rare = dict.fromkeys(("source__sampling", "target__sampling"), "rare-class") | cropped
    train(
        tiny(
            method="oracle",
            num_steps=1,
            target__split="val",
            snapshot_dir=tmp_path / "rare",
            network__model="daformer",
            **rare,
        )
    )
    few = tmp_path / "few.txt"
    few.write_text(f"{validation.names[0]}\n")
    train(tiny(num_steps=1, target__split="val", target_labels=few, snapshot_dir=tmp_path / "few"))
    unread = [".".join(path) for path in leaves() if path not in read_options]
    assert not unread


def test_a_focal_loss_of_pseudo_labels_is_remarked_on(tiny):
    for method in ("dacs", "daformer", "mic", "vfm", {"name": "clan", "lambda_self": 1.0}):
        config = tiny(method=method, loss__gamma=1.5, network__num_heads=2)
        said = []
        Trainer(config, notify=said.append)
        assert sum(one.startswith("loss.gamma 1.5 makes the losses of pseudo-labels focal") for one in said) == 1
        assert config.method.remarks(tiny(loss__gamma=0.0)) == []
    assert tiny(loss__gamma=1.5).method.remarks(tiny(loss__gamma=1.5)) == []


# --- files and command lines of older versions ---

STORED = Path(__file__).parent / "stored" / "config.yaml"
"""Of a version whose methods had their options in one list under `loss`."""


def test_an_older_file_means_what_it_meant():
    config = load(STORED)
    options = AdaptSegNetMultiOptions(lambda_adv=0.003, lambda_adv_aux=0.0004, lambda_seg_aux=0.2, damping=False)
    assert config.method == options
    assert (config.loss.gamma, config.loss.class_weighting, config.num_steps) == (1.5, "sqrt-inverse", 77)
    assert changes(STORED.read_text(encoding="utf-8"), to_yaml(config)) == "", "so that its states go on"


@pytest.fixture
def started(monkeypatch):
    """Runs `clan train` up to the run, and returns its configuration."""
    configs = []
    monkeypatch.setattr("clan.training.run.train", lambda config, **options: configs.append(config))

    def call(*words):
        cli.train_command(words)
        return configs[-1]

    return call


@pytest.mark.parametrize("section", ["loss", "method"])
def test_flags_of_a_method_s_options_are_taken_under_their_former_names_too(started, section):
    options = started("--method", "minent", f"--{section}.lambda-entropy", "0.5", f"--{section}.no-damping").method
    assert (options.name, options.lambda_entropy, options.damping) == ("minent", 0.5, False)
    assert started(f"--{section}.lambda-local=3").method == ClanOptions(lambda_local=3.0)


def test_another_method_keeps_what_it_shares_with_the_preset_s(started):
    assert started("--preset", "paper", "--method", "adaptsegnet-single").method.damping is False
    assert started("--config", str(STORED), "--method", "clan").method == ClanOptions(lambda_adv=0.003, damping=False)


@pytest.mark.parametrize("flag", ["--loss.lambda-entropy", "--method.lambda-entropy"])
def test_options_of_another_method_are_refused(error_of, flag):
    message = error_of(cli.train_command, "--method", "source-only", flag, "1")
    assert flag in message and "minent" in message and "source-only" in message


def test_help_shows_the_options_of_the_chosen_method_alone(capsys):
    with pytest.raises(SystemExit):
        cli.train_command(["--method", "minent", "--help"])
    shown = capsys.readouterr().out
    assert "--method.lambda-entropy" in shown and "--method.lambda-adv" not in shown


def test_the_former_name_of_a_preset_is_taken(started):
    assert started("--preset", "seed") == recipes.port() == started("--preset", "port")


def test_an_option_that_may_be_left_open_is_switched_like_others(started):
    assert started().optimizer.repeated_updates is None
    assert started("--optimizer.no-repeated-updates", "--num-steps", "5").optimizer.repeated_updates is False
    assert started("--num-steps", "5", "--optimizer.repeated-updates").optimizer.repeated_updates is True


def test_a_changed_config_is_validated_as_a_whole(tiny):
    config = tiny()
    other = config.changed(num_steps=9, method="advent", **{"loss.gamma": 0, "target.size": (32, 16)})
    assert (other.num_steps, other.method.name, other.loss.gamma, other.target.size) == (9, "advent", 0.0, (32, 16))
    assert other.changed(num_steps=4, method=config.method, loss=config.loss, target=config.target) == config
    assert config.loss.changed(gamma=1).gamma == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"loss.gamma": -1}, r"^loss\.gamma: .*greater than or equal to 0, got -1$"),
        ({"num_step": 5}, r"^num_step is not an option here: did you mean num_steps\?$"),
        ({"loss.gama": 5}, r"^gama is not an option here: did you mean gamma\?$"),
        ({"los.gamma": 5}, r"^los\.gamma is not an option: los has none within$"),
        ({"seed.x.y": 5}, r"^seed\.x\.y is not an option: seed has none within$"),
        ({"num_steps_stop": 500}, r"^num_steps_stop 500 lies beyond num_steps 4$"),
        ({"network.num_classes": 3}, r"^network\.num_classes: "),
        ({"source.dataset": "camvid"}, r"^source\.dataset: expected synthia"),
    ],
)
def test_a_change_that_does_not_fit_ends_in_a_sentence(given, sentence, tiny):
    with pytest.raises(ConfigError, match=sentence):
        tiny().changed(**given)
