"""A configuration is a value: it survives its file, refuses what it does not know, and every option acts."""

import re
import typing

import pytest
import yaml

from clan import recipes
from clan.config import Config, load, to_yaml
from clan.data.datasets import Dataset
from clan.errors import ConfigError
from clan.evaluate import evaluate, load_segmenter, options_for
from clan.schema import Section
from clan.train import train


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
        loss__lambda_adv=1e-30,
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
    "infinite weight": (("loss", "lambda_adv"), float("inf"), "loss.lambda_adv: .*inf"),
    "no number": (("loss", "gamma"), float("nan"), "loss.gamma: .*nan"),
    "one number for a size": (("source", "size"), [1280], "source.size"),
    "another method": (("method",), "dann", "method: .*'dann'"),
    "another backbone": (("network", "backbone"), "vgg", "network.backbone: .*'vgg'"),
    "another data set": (("source", "dataset"), "kitti", "source.dataset: .*'kitti'"),
    "section that is none": (("loss",), 3, "loss: .*3"),
    "probabilities": (("augmentation", "scales"), [[1.0, 0.3]], "sum to 0.3"),
    "stop beyond the end": (("num_steps_stop",), 5, "num_steps_stop 5 .*num_steps 4"),
    "warm-up beyond the end": (("warmup_steps",), 5, "warmup_steps 5 .*num_steps 4"),
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
        if isinstance(kind, type) and issubclass(kind, Section):
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
            path = (*sections.get(id(self), (None, ()))[1], name)
            if isinstance(value, Section):
                sections[id(value)] = (value, path)
            else:
                seen.add(path)
        return value

    monkeypatch.setattr(Section, "__getattribute__", recording, raising=False)
    return seen


def test_every_option_is_read_by_training_or_evaluation(tiny, tmp_path, read_options, capsys):
    first = train(tiny(num_steps=1, snapshot_dir=tmp_path / "first"))
    selves = {"loss__lambda_self": 0.1, "loss__self_training_start": 0.0}
    config = tiny(num_steps_stop=2, warmup_steps=0, validate_every=2, network__restore_from=first, **selves)
    read_options.clear()
    snapshot = train(config)
    options = options_for(snapshot, num_classes=None, upsampling=None, input_size=(64, 32))
    segmenter = load_segmenter(snapshot, backbone=options.backbone, num_classes=options.num_classes)
    validation = Dataset(config.target.dataset, config.target.root, split="val")
    evaluate(segmenter, validation, tmp_path / "result", options=options)
    validation.read_label(0)
    train(tiny(method="adaptsegnet-multi", num_steps=1, snapshot_dir=tmp_path / "second"))
    train(tiny(method="minent", num_steps=1, augmentation__style="amplitude", snapshot_dir=tmp_path / "third"))
    unread = [".".join(path) for path in leaves() if path not in read_options]
    assert not unread
