import numpy as np
import paddle
import pytest
from PIL import Image

import clan
from clan.core.errors import ClanError, ConfigError, DataError, WeightsError
from clan.data.image_files import read_rgb
from clan.evaluation.inference import evaluating, total
from clan.evaluation.model import Model, load
from clan.evaluation.model_card import CARD, read_card, write_card
from clan.evaluation.resampling import labels_of, sureness, upsampled
from clan.evaluation.viewed_model import ViewedModel
from clan.evaluation.views import Views
from clan.losses.adversarial import discrepancy_map
from clan.losses.segmentation import class_probabilities
from clan.models.segmenter import upsample
from clan.training.run import train
from tests.conftest import tiny_config

pytestmark = pytest.mark.plain


@pytest.fixture(scope="module")
def weights(worlds, tmp_path_factory):
    return train(tiny_config(worlds, tmp_path_factory.mktemp("run"), num_steps=1, warmup_steps=0, save_every=1))


@pytest.fixture
def picture(worlds):
    return read_rgb(next((worlds / "Cityscapes/leftImg8bit/val").rglob("*.png")))


def test_a_model_says_what_training_computes(weights, picture):
    model = clan.load(weights, input_size=(64, 32))
    planes = np.asarray(picture.resize((64, 32), Image.Resampling.BICUBIC), np.float32).transpose(2, 0, 1)[::-1]
    how = model.card.normalization
    planes = planes - np.float32(how.mean[::-1])[:, None, None]
    segmenter = model.network.segmenter
    with evaluating(segmenter):
        logits = segmenter(paddle.to_tensor(planes[None]))
        whole = upsample(total(logits), (picture.height, picture.width), align_corners=segmenter.align_corners)
        probabilities = [class_probabilities(segmenter.resize(one, planes.shape[1:])) for one in logits]
        summed = class_probabilities(total([segmenter.resize(one, planes.shape[1:]) for one in logits]))
    found = model(np.asarray(picture))
    assert (found.labels == whole.argmax(axis=1)[0].numpy()).mean() > 0.999  # but where two classes are equal
    np.testing.assert_allclose(found._maps[0], summed.max(axis=1)[0].numpy(), atol=2e-6)
    np.testing.assert_allclose(found._maps[1], discrepancy_map(*probabilities)[0, 0].numpy(), atol=2e-6)
    assert found.labels.shape == found.confidence.shape == found.discrepancy.shape == (64, 128)
    assert found.colors.shape == found.overlay(0.5).shape == (64, 128, 3)
    np.testing.assert_array_equal(found.colors, model.label_space.colorize(found.labels))
    opaque = found.overlay(1.0) == found.colors
    assert opaque.mean() > 0.5


def test_a_batch_is_its_images(weights, picture):
    model = clan.load(weights)
    other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for images in ([picture, other], np.stack([np.asarray(picture), np.asarray(other)])):
        for together, alone in zip(model(images), (model(picture), model(other)), strict=True):
            np.testing.assert_allclose(together.logits, alone.logits, atol=1e-4)
    assert [one.size for one in model([picture, picture.resize((40, 90))])] == [(64, 128), (90, 40)]
    assert model([]) == []


def test_the_card_comes_back(weights, tmp_path):
    card = load(weights).card
    write_card(card, tmp_path)
    assert read_card(tmp_path) == card
    assert (card.source.method, card.source.iteration, card.input.size) == ("clan", 1, (64, 32))
    assert card.label_space.colors == load(weights).label_space.colors


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("format: 2", "format: "),
        ("classes: [road, road]", "named twice"),
        ("files: {onnx: ../other.onnx}", "not the name of a file"),
        ("weights: fp7", "fp7"),
        ("", "missing"),
    ],
)
def test_a_wrong_card_is_a_sentence(line, complaint, weights, tmp_path):
    write_card(load(weights).card, tmp_path)
    path = tmp_path / CARD
    key = line.partition(":")[0] or "software"
    rest, skipping = [], False
    for old in path.read_text().splitlines():
        skipping = old.startswith(f"{key}:") or (skipping and old[0] in " -")
        rest += [] if skipping else [old]
    path.write_text("\n".join([*rest, line]))
    with pytest.raises(ConfigError, match=complaint):
        read_card(tmp_path)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), "u1")]
)
def test_arrays_that_are_no_images_are_refused(array, weights):
    with pytest.raises(DataError, match=r"uint8 RGB \[H, W, 3\]"):
        load(weights)(array)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_images_of_more_than_8_bits_are_not_clipped(dtype, weights):
    with pytest.raises(DataError, match="more than 8 bits a channel"):
        load(weights)(Image.fromarray(np.full((4, 4), 300, dtype)))


def test_what_is_not_there_is_a_sentence(tmp_path, weights):
    (tmp_path / "a.onnx").write_bytes(b"junk")
    with pytest.raises(WeightsError, match=r"has no model\.yaml"):
        load(tmp_path / "a.onnx")
    card = load(weights).card
    write_card(card.model_copy(update={"files": {"onnx": "b.onnx"}}), tmp_path)
    for path, complaint in ((tmp_path / "a.onnx", "cannot be loaded"), (tmp_path, "does not exist")):
        with pytest.raises(ClanError, match=complaint):
            load(path)
    with pytest.raises(ConfigError, match="--backbone is for weights"):
        load(tmp_path, backbone="resnet50")
    with pytest.raises(ConfigError, match="0 5 is no size of an image"):
        Model(load(weights).network, card, input_size=(0, 5))


def test_the_card_of_another_network_is_refused(weights, picture):
    model = load(weights)
    card = model.card.model_copy(update={"classes": model.card.classes[:-1]})
    other = Model(model.network, card)
    for look in (other, lambda image: other([image]), ViewedModel(other, Views(flip=True))):
        with pytest.raises(WeightsError, match=r"2 heads of 19 classes, but its model\.yaml tells of 2 of 18"):
            look(picture)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(37, 50), (9, 7), (4, 2)])
def test_upsampling_is_paddles(mode, align_corners, size):
    logits = np.random.default_rng(0).normal(size=(3, 5, 9)).astype(np.float32)
    expected = upsample(paddle.to_tensor(logits[None]), size, mode, align_corners=align_corners)[0].numpy()
    rows = [values for _, values in upsampled(logits, size, mode, align_corners)]
    np.testing.assert_allclose(np.concatenate(rows, axis=1), expected, atol=2e-5)
    agree = labels_of(logits, size, mode=mode, align_corners=align_corners) == expected.argmax(axis=0)
    assert agree.mean() > 0.99


def test_large_images_are_worked_on_in_parts(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(2, 3, 5, 9)).astype(np.float32)
    whole = sureness(logits, (40, 70))
    monkeypatch.setattr("clan.evaluation.resampling.BLOCK", 900)
    for part, expected in zip(sureness(logits, (40, 70)), whole, strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-6)
    assert sureness(logits[:1], (40, 70))[1] is None
