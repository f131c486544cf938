"""Which flags `CLAN_train.py` has, how their values are read, and what is chosen where none is given."""

from pathlib import Path

import pytest

from clan.cli.port.train import FLAG_FIELDS, configuration, parser
from clan.datasets import packaged
from clan.run import presets as recipes

PORT_FLAGS = {
    *("--model", "--source", "--target", "--batch-size", "--iter-size", "--num-workers", "--data-dir"),
    *("--data-list", "--ignore-label", "--input-size-source", "--data-dir-target", "--data-list-target"),
    *("--input-size-target", "--is-training", "--learning-rate", "--learning-rate-D", "--momentum"),
    *("--not-restore-last", "--num-classes", "--num-steps", "--num-steps-stop", "--power", "--random-mirror"),
    *("--random-scale", "--random-seed", "--restore-from", "--save-num-images", "--save-pred-every"),
    *("--snapshot-dir", "--weight-decay", "--gpu", "--set"),
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """No initial weights lie about."""
    monkeypatch.chdir(tmp_path)


def configured(*arguments):
    return configuration(parser().parse_args([*arguments]))


def test_no_flag_of_the_port_is_missing():
    known = {name for action in parser()._actions for name in action.option_strings}
    assert known >= PORT_FLAGS
    assert known >= {"--no-shuffle", "--no-random-scale", "--no-random-mirror"}


def test_every_flag_has_a_field():
    others = {"help", "preset", "source", "classes", "resume", "resume_with_changes"}
    assert {action.dest for action in parser()._actions} == set(FLAG_FIELDS.values()) | others


VALUES = {
    "--input-size-source 640,380": (640, 380),
    "--input-size-target 512,256": (512, 256),
    "--learning-rate 1e-3": 1e-3,
    "--weight-decay 0": 0.0,
    "--num-steps-stop 50": 50,
    "--warmup-steps 0": 0,
    "--data-list a/b.txt": Path("a/b.txt"),
    "--restore-from a.pth": Path("a.pth"),
    "--restore-from-D a.pth": Path("a.pth"),
    "--not-restore-last": False,
    "--no-is-training": "frozen",
    "--model DeepLab": "deeplab",
    "--target CityScapes": packaged("cityscapes"),
}


@pytest.mark.parametrize("words", VALUES)
def test_how_values_are_read(words):
    arguments = words.split()
    (field,) = vars(parser().parse_args(arguments)).keys() & set(FLAG_FIELDS.values())
    value = configured(*arguments)
    for name in field.split("."):
        value = getattr(value, name)
    assert value == VALUES[words]


@pytest.mark.parametrize("switch", ["is-training", "shuffle", "random-scale", "random-mirror"])
def test_a_switch_turns_on_too(switch):
    assert configured(f"--no-{switch}", f"--{switch}") == configured()


@pytest.mark.parametrize("name", ["GTA5", "gta5"])
def test_a_source_s_name_is_read_in_any_case(name):
    assert configured("--source", name) == recipes.official("gta5")


@pytest.mark.parametrize("preset", recipes.PRESETS)
@pytest.mark.parametrize("source", ["synthia", "gta5"])
def test_a_preset_is_its_recipe(preset, source):
    assert configured("--preset", preset, "--source", source) == recipes.PRESETS[preset](source)


def test_initial_weights_are_found_where_the_port_keeps_them(tmp_path):
    assert configured().network.restore_from is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model/pretrained.pdparams").touch()
    assert configured().network.restore_from == Path("model/pretrained.pdparams")
    assert configured("--restore-from", "None").network.restore_from is None
    assert configured("--restore-from", "a.pth").network.restore_from == Path("a.pth")
