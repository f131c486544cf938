"""Exported networks compute what evaluation computes, and need nothing of it."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

import clan
from clan.cli import main as cli
from clan.core.errors import ClanError, ConfigError, DeviceError, WeightsError
from clan.core.runtime import plain_operators
from clan.data.image_files import read_id_label, read_rgb
from clan.data.transforms import resize_image
from clan.deployment.exporting import ExportOptions, export_weights
from clan.evaluation.model import load
from clan.evaluation.model_card import CARD, read_card
from clan.training.run import train
from tests.conftest import tiny_config
from tests.needs import module
from tests.without_paddle import make_environment

onnx = module("onnx", "export")
onnxruntime = module("onnxruntime", "export")
module("paddle2onnx", "export")

SIZES = ((1, 61, 97), (3, 33, 150), (1, 32, 64), (1, 200, 31), (3, 5, 2))
"""Batch, height and width."""


@pytest.fixture(scope="module")
def weights(worlds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(worlds, folder, num_steps=6, warmup_steps=0, save_every=6, optimizer__learning_rate=0.001)
    return train(config)


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    """Both formats with all maps."""
    folder = tmp_path_factory.mktemp("exported") / "net"
    export_weights(weights, folder, ExportOptions(maps=("discrepancy", "confidence")), notify=lambda sentence: None)
    return folder


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options)


def images_of(shape):
    return np.random.default_rng(shape[1]).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("format", ["onnx", "paddle"])
def test_the_graph_holds_all_that_evaluation_does(format, weights, exported):
    card, reference = read_card(exported), load(weights, input_size=(64, 32))
    assert card.outputs == ("labels", "logits", "confidence", "discrepancy")
    if format == "onnx":
        graph = session(exported / card.files["onnx"])
        run = lambda images: graph.run(None, {"image": images})  # noqa: E731
    else:
        program = paddle.jit.load(str(exported / "model"))
        run = lambda images: [one.numpy() for one in program(paddle.to_tensor(images))]  # noqa: E731
    for shape in SIZES:
        images = images_of(shape)
        labels, logits, confidence, discrepancy = run(images)
        assert (labels.dtype, labels.shape) == (np.uint8, shape)
        for number, expected in enumerate(reference(images)):
            np.testing.assert_allclose(logits[number], expected.logits, rtol=1e-5, atol=1e-4)
            assert (labels[number] == expected.labels).mean() >= 0.999
            np.testing.assert_allclose(confidence[number], expected.confidence, atol=1e-4)
            np.testing.assert_allclose(discrepancy[number], expected.discrepancy, atol=1e-4)


def test_any_other_size_may_be_given_with_an_image(weights, exported):
    """`clan predict` keeps proportions with an exported network as with weights."""
    picture = images_of((1, 90, 70))[0]
    ours, theirs = load(exported)(picture), load(weights)(picture)
    assert ours.seen == theirs.seen != (32, 64)
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_images_may_be_seen_as_they_are(weights, tmp_path):
    export_weights(weights, tmp_path / "net", ExportOptions(("onnx",), resize=False, half=True), notify=lambda _: None)
    graph, reference = session(tmp_path / "net/model.onnx"), load(weights)
    images = images_of((1, 45, 77))
    _, logits = graph.run(None, {"image": images})
    expected = reference.network.logits(images)
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())  # the weights are halves
    model = load(tmp_path / "net")
    assert model(images[0]).seen == (45, 77)
    assert model.card.weights == "fp16"


def test_eight_bits_are_close(weights, exported, worlds, tmp_path):
    pictures = worlds / "Cityscapes/leftImg8bit"
    options, level = ExportOptions(("onnx",), int8=pictures), logging.getLogger().level
    export_weights(weights, tmp_path / "net", options, notify=lambda _: None)
    assert logging.getLogger().level == level
    picture = np.asarray(read_rgb(next((pictures / "val").rglob("*.png"))))
    whole, small = load(exported)(picture), load(tmp_path / "net")(picture)
    assert (whole.labels == small.labels).mean() > 0.9
    assert (tmp_path / "net/model.onnx").stat().st_size < 0.8 * (exported / "model.onnx").stat().st_size
    graph = onnx.load(tmp_path / "net/model.onnx").graph
    assert "QuantizeLinear" in {node.op_type for node in graph.node}
    from_8_bits = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    exact = [not from_8_bits & set(node.input) for node in graph.node if node.op_type == "Conv"]
    branches = 2 * 4  # of the heads
    assert [number for number, one in enumerate(exact) if one] == [0, *range(len(exact) - branches, len(exact))]


def test_an_environment_without_paddle_predicts_the_same_files(weights, exported, worlds, tmp_path, monkeypatch):
    """From a trained run by `clan export` to label maps where Paddle is not installed."""
    python = make_environment(tmp_path / "environment", ("onnx",))
    assert subprocess.run([python, "-c", "import paddle"], capture_output=True).returncode == 1
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    for name in (CARD, "model.onnx"):
        shutil.copy(exported / name, alone)
    pictures = worlds / "Cityscapes/leftImg8bit/val"
    for model in (alone, alone / "model.onnx"):
        out = tmp_path / f"out-{model.name}"
        words = ["predict", pictures, "--model", model, "-o", out]
        ended = subprocess.run([python, "-m", "clan", *map(str, words)], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    words = ["predict", pictures, "--weights", weights, "-o", tmp_path / "expected"]
    monkeypatch.setattr(sys, "argv", ["clan", *map(str, words)])
    cli.main()
    files = sorted(path.relative_to(tmp_path / "expected") for path in (tmp_path / "expected").rglob("*.*"))
    assert len(files) == 11
    for file in files:
        expected = tmp_path / "expected" / file
        for out in ("out-elsewhere", "out-model.onnx"):
            if file.suffix == ".png" and not file.name.endswith(("_confidence.png", "_discrepancy.png", "legend.png")):
                np.testing.assert_array_equal(read_id_label(tmp_path / out / file), read_id_label(expected))
            else:
                one, other = (
                    np.asarray(Image.open(place / file)).astype(int)
                    for place in (tmp_path / out, tmp_path / "expected")
                )
                assert np.abs(one - other).max() <= 1


def test_an_export_appears_completely_or_not_at_all(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["clan", "export", str(weights), "-o", str(tmp_path / "net"), "--format", "onnx"])
    cli.main()
    first = read_card(tmp_path / "net")
    cli.main()
    assert read_card(tmp_path / "net.before") == first
    assert "saved model.onnx and model.yaml" in capsys.readouterr().out
    monkeypatch.setattr("clan.deployment.exporting.check", lambda *given: (_ for _ in ()).throw(WeightsError("other")))
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.before"]


def test_what_cannot_be_written_is_a_sentence(weights, tmp_path, monkeypatch):
    (tmp_path / "used").mkdir()
    (tmp_path / "used/photo.jpg").touch()
    with pytest.raises(ConfigError, match="is in use"):
        export_weights(weights, tmp_path / "used")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (Path(), tmp_path / "here"):
        with pytest.raises(ConfigError, match="the folder that you are in"):
            export_weights(weights, folder)
    for wrong, complaint in (
        ({"half": True, "int8": tmp_path}, "exclude each other"),
        ({"half": True, "formats": ("paddle",)}, "for ONNX"),
        ({"size": (64, 32), "resize": False}, "exclude each other"),
        ({"formats": ()}, "nothing to write"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            ExportOptions(**wrong)
    monkeypatch.setattr("clan.deployment.conversion.find_spec", lambda name: None if name == "paddle2onnx" else name)
    with pytest.raises(ConfigError, match=r"paddle2onnx is not installed.*clan-paddle\[export\]"):
        export_weights(weights, tmp_path / "net")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "used"]


def damaged(exported, tmp_path, change):
    model = onnx.load(exported / "model.onnx")
    change(model.graph)
    shutil.copy(exported / CARD, tmp_path)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path


def other_operator(graph):
    node = next(node for node in graph.node if node.op_type == "ArgMax")
    node.op_type = "Guess"


def other_rank(graph):
    del graph.node[:], graph.output[:], graph.input[:], graph.initializer[:]
    value = onnx.helper.make_tensor_value_info
    graph.input.append(value("image", onnx.TensorProto.FLOAT, ["n", 3]))
    graph.output.append(value("logits", onnx.TensorProto.FLOAT, ["n", 3]))
    graph.node.append(onnx.helper.make_node("Identity", ["image"], ["logits"]))


def other_input(graph):
    graph.input[0].name = "picture"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (other_operator, "operator"),
        (other_rank, "rank 2"),
        (other_input, "cannot be loaded|has the inputs"),
    ],
    ids=["operator", "rank", "input"],
)
def test_other_files_are_refused_in_a_sentence(change, complaint, exported, tmp_path):
    with pytest.raises(WeightsError, match=complaint):
        load(damaged(exported, tmp_path, change))


def test_truncated_files_are_refused_in_a_sentence(exported, tmp_path):
    for name in ("model.onnx", "model.json", "model.pdiparams"):
        shutil.copytree(exported, tmp_path / name)
        whole = (exported / name).read_bytes()
        (tmp_path / name / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClanError, match="cannot be loaded"):
        load(tmp_path / "model.onnx")
    card = tmp_path / "model.json" / CARD
    card.write_text(card.read_text().replace("  onnx: model.onnx\n", ""))
    with pytest.raises(ClanError, match="cannot be loaded"):
        load(tmp_path / "model.json")


def test_what_onnx_runtime_cannot_compute_is_a_sentence(exported, monkeypatch, capfd):
    network = load(exported).network
    with pytest.raises(WeightsError, match=r"model\.onnx cannot be computed for an image of 8x6 .*Got: 4 Expected: 3"):
        network.logits(np.zeros((1, 6, 8, 4), np.uint8))

    class Full:
        def run(self, *given):
            raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("Failed to allocate memory for requested buffer")

    monkeypatch.setattr(network, "session", Full())
    with pytest.raises(DeviceError, match="memory of cpu is used up"):
        network.logits(np.zeros((1, 6, 8, 3), np.uint8))
    assert capfd.readouterr().err == ""


def test_a_folder_without_onnx_is_computed_by_paddle(exported, weights, tmp_path):
    shutil.copytree(exported, tmp_path / "net")
    card = tmp_path / "net" / CARD
    card.write_text(card.read_text().replace("  onnx: model.onnx\n", ""))
    (tmp_path / "net/model.onnx").unlink()
    picture = images_of((1, 61, 97))[0]
    with plain_operators():
        expected = clan.load(weights, input_size=(64, 32))(picture)
    found = clan.load(tmp_path / "net")(picture)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
    with pytest.raises(ConfigError, match="64x32 alone"):
        load(tmp_path / "net", input_size=(32, 32))


def test_resizing_begins_with_rows(worlds):
    """As earlier Pillows, whichever is installed."""
    image = Image.fromarray(images_of((1, 300, 97))[0])
    rows = image.resize((96, 300), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize_image(image, (96, 64)), rows.resize((96, 64), Image.Resampling.BICUBIC))
