"""Weights away from their run: what is kept with them, what their arrays tell, and what is said of the rest."""

import shutil

import pytest

from clan.cli import main as cli
from clan.core.errors import ClanError, ConfigError, WeightsError
from clan.data.dataset import Dataset
from clan.evaluation.label_maps import load_segmenter, options_for
from clan.evaluation.paddle_network import label_space_of
from clan.evaluation.prediction import predict
from clan.models.options import BACKBONES, NetworkConfig
from clan.models.recognition import recognise
from clan.models.segmenter import build_segmenter
from clan.models.weight_files import read_arrays, read_metadata, write_arrays
from clan.models.weights import save_weights, to_file_names
from clan.run.config import load
from clan.run.weights_config import config_of, convert
from clan.training.run import train
from tests.conftest import tiny_config

CLASSES = {"classes": {"路": ("road",), "car": ()}, "colors": {"路": (1, 2, 3), "car": (9, 9, 9)}, "subsets": {}}


@pytest.fixture(scope="module")
def snapshot(worlds, tmp_path_factory):
    """Of a run whose every choice differs from what is usual."""
    folder = tmp_path_factory.mktemp("run")
    options = {"network__num_classes": 2, "network__output_stride": 16, "network__head_dilations": (1, 2)}
    others = {"classes": CLASSES, "network__input_normalization": "imagenet-rgb", "method": "source-only"}
    return train(tiny_config(worlds, folder, num_steps=1, warmup_steps=0, save_every=1, **options, **others))


def options(weights, **given):
    return options_for(weights, num_classes=None, upsampling=None, **given)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pdparams"])
def test_converted_weights_are_used_as_their_run_had_them(snapshot, name, tmp_path):
    _, kept = convert(snapshot, tmp_path / "first.pth")
    assert kept == tmp_path / "first.yaml"
    weights = tmp_path / "far" / name
    weights.parent.mkdir()
    _, kept = convert(tmp_path / "first.pth", weights)
    assert kept == (weights if name == "w.safetensors" else tmp_path / "far/w.yaml")
    assert options(weights) == options(snapshot)
    assert label_space_of(weights, 2) == label_space_of(snapshot, 2)
    run, carried = load(snapshot.parent / "config.yaml"), config_of(weights)
    assert (carried.network, carried.classes) == (run.network, run.classes)
    assert carried.source.root.name == str(carried.source.root) == run.source.root.name


def test_nothing_is_replaced_unless_told_so(snapshot, tmp_path):
    convert(snapshot, tmp_path / "w.pth")
    (tmp_path / "other.yaml").write_text("name: mine\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for source, target in ((snapshot, "w.pth"), (tmp_path / "w.pth", "w.pth"), (snapshot, "other.pth")):
        with pytest.raises(WeightsError, match=r"exists already|is the file to convert itself"):
            convert(source, tmp_path / target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    convert(snapshot, tmp_path / "w.pth", overwrite=True)
    with pytest.raises(WeightsError, match="would be taken for a snapshot of the run in"):
        convert(tmp_path / "w.pth", snapshot.with_name("again.pdparams"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("network: 3", "network: input should be"),
        ("a: [", "line 1"),
        ("x" * 70_000, "over the limit"),
        ("network: &a [*a]", "write it"),
    ],
)
def test_a_strangers_metadata_is_validated(snapshot, text, said, tmp_path):
    write_arrays(read_arrays(snapshot), tmp_path / "w.safetensors", {"config.yaml": text})
    with pytest.raises(ConfigError, match=said) as caught:
        options(tmp_path / "w.safetensors")
    assert str(caught.value).startswith(f"{tmp_path}/w.safetensors (config.yaml in it)")


def test_a_file_beside_them_that_is_no_configuration_is_not_taken_for_one(tmp_path):
    (tmp_path / "w.yaml").write_text("name: w\nimages: x/*.png\n")
    assert config_of(tmp_path / "w.pth") is None


@pytest.mark.parametrize("backbone", BACKBONES)
def test_arrays_tell_the_network(backbone):
    state = build_segmenter(NetworkConfig(backbone=backbone, num_classes=5)).state_dict()
    arrays = {name: tensor.numpy() for name, tensor in to_file_names(state).items()}
    told = recognise(arrays)
    assert (told.backbone, told.num_classes, told.branches) == (backbone, 5, 4)


@pytest.mark.parametrize(("model", "heads"), [("daformer", 1), ("daformer", 2), ("light", 1), ("deeplab", 1)])
def test_arrays_tell_the_heads(model, heads):
    options = {"head_channels": 8} if model == "daformer" else {}
    network = NetworkConfig(backbone="resnet-tiny", num_classes=5, model=model, num_heads=heads, **options)
    told = recognise(
        {name: tensor.numpy() for name, tensor in to_file_names(build_segmenter(network).state_dict()).items()}
    )
    assert (told.model, told.num_heads, told.num_classes) == (model, heads, 5)
    assert told.head_channels == options.get("head_channels")


@pytest.fixture
def bare(tmp_path):
    """Weights of a network for 5 classes, without any configuration."""
    save_weights(build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=5)), tmp_path / "bare.pth")
    return tmp_path / "bare.pth"


def test_weights_alone_are_used_as_their_arrays_tell_and_the_rest_is_said(bare, worlds, tmp_path, capsys):
    picture = next((worlds / "Cityscapes/leftImg8bit/val").rglob("*.png"))
    predict(picture, bare, tmp_path / "out")
    said = capsys.readouterr().out
    assert "bare.pth has no config.yaml beside it: recognised as resnet-tiny for 5 classes" in said
    assert f"nothing says which 5 classes {bare} knows: they are shown by number; --classes names them" in said
    (tmp_path / "five.yaml").write_text("classes: {a: , b: , c: , d: , e: }")
    assert label_space_of(bare, 5, tmp_path / "five.yaml").names == tuple("abcde")
    with pytest.raises(WeightsError, match="knows 255 classes, over the limit of 254"):
        label_space_of(bare, 255)
    with pytest.raises(ClanError, match=r"5 is not .* the 16 classes of synthia-16"):
        predict(picture, bare, tmp_path / "out", classes="synthia-16")
    assert "assumed: --output-stride 8, --head-dilations 6 12 18 24, --input-norm" in said
    assert options(bare, output_stride=16, input_normalization="imagenet-rgb").normalization.channels == "rgb"


def test_weights_alone_for_other_classes_than_the_labels_are_refused(bare, worlds):
    dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val")
    with pytest.raises(WeightsError, match=r"trained for 5 classes, cityscapes has 19: put the config.*--backbone"):
        options(bare, dataset=dataset)


def test_what_arrays_do_not_tell_is_asked_for(bare, snapshot, tmp_path):
    shutil.copy(snapshot, tmp_path / "two.pdparams")
    with pytest.raises(WeightsError, match=r"no config\.yaml beside it, and heads of 2 convolutions.*--head-dilations"):
        options(tmp_path / "two.pdparams")
    assert options(tmp_path / "two.pdparams", head_dilations=(1, 2)).num_classes == 2
    arrays = read_arrays(bare)
    write_arrays({name: array for name, array in arrays.items() if "layer3" not in name}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth has no config.yaml .*--backbone \{resnet101,"):
        options(tmp_path / "odd.pth")
    with pytest.raises(ClanError, match=r"another network.*config.yaml of its run beside it, or .*--backbone"):
        load_segmenter(bare, NetworkConfig(backbone="resnet50", num_classes=5))


def test_the_command_says_what_was_kept(snapshot, bare, tmp_path, capsys):
    cli.dispatch(["convert", str(snapshot), str(tmp_path / "a.safetensors")])
    cli.dispatch(["convert", str(bare), str(tmp_path / "b.safetensors")])
    said = capsys.readouterr().out
    assert f"classes and options kept in {tmp_path}/a.safetensors" in said
    assert f"no config.yaml beside {bare}: classes are not kept" in said
    assert read_metadata(tmp_path / "a.safetensors").keys() == {"config.yaml"}
