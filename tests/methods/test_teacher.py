"""What dacs, daformer and mic make of their options and draws; test_contract.py has what all methods share."""

from dataclasses import replace

import numpy as np
import paddle
import pytest

from clan.core.errors import ConfigError
from clan.datasets import packaged
from clan.losses.self_training import teacher_decay
from clan.methods.base import Domain, LabelledDomain, Pair
from clan.methods.draws import ColorScale, Distortion, draw_classes, draw_distortion
from clan.models.normalization import CAFFE, IMAGENET
from clan.models.weight_files import read_arrays
from clan.models.weights import to_file_names
from clan.training.trainer import Trainer
from tests.methods.test_contract import CLASSES, build

pytestmark = pytest.mark.core

SIZE = (40, 56)


def labelled(labels, scale=1.0, seed=0):
    height, width = (int(side * scale) for side in SIZE)
    images = np.random.default_rng(seed).normal(0, 50, (len(labels), 3, height, width)).astype(np.float32)
    return LabelledDomain(paddle.to_tensor(images), SIZE, paddle.to_tensor(labels), is_source=True)


def quarters(count=2):
    """Labels of four large areas: classes 0, 1, 2 and ignored."""
    labels = np.zeros((count, *SIZE), np.uint8)
    labels[:, :20, 28:], labels[:, 20:, :28], labels[:, 20:, 28:] = 1, 2, 255
    return labels


def pair(**options):
    source = labelled(quarters(), **options)
    return Pair(source, Domain(labelled(quarters(), seed=1, **options).images, SIZE), np.random.default_rng(3))


def test_the_teacher_is_the_mean_of_its_students_at_first_and_keeps_its_statistics():
    method = build("dacs")
    method.on_weights_loaded()
    name, weight = next((name, p) for name, p in method.segmenter.named_parameters() if name.endswith("0.weight"))
    statistics = {key: value.numpy() for key, value in method.teacher.state_dict().items() if key.endswith("_mean")}
    students = []
    for iteration in range(4):
        students.append(weight.numpy().copy())
        method.before_step(iteration)
        found = dict(method.teacher.named_parameters())[name].numpy()
        np.testing.assert_allclose(found, np.mean(students, axis=0), rtol=1e-5, atol=1e-6)
        weight.set_value(weight + float(iteration + 1))
        for layer in method.segmenter.norms():
            layer._mean.set_value(layer._mean + 1.0)
    for key, value in statistics.items():
        np.testing.assert_array_equal(method.teacher.state_dict()[key].numpy(), value)
    assert teacher_decay(10**6, 0.99) == 0.99


@pytest.mark.parametrize("of_batch", [True, False])
def test_half_the_classes_present_are_drawn_for_each_image(of_batch):
    labels = np.stack([np.repeat([0, 3, 255], 4), np.repeat([1, 1, 7], 4)]).reshape(2, 3, 4).astype(np.uint8)
    present = [{0, 1, 3, 7, 255}] * 2 if of_batch else [{0, 3, 255}, {1, 7}]
    seen = [set(), set()]
    for seed in range(40):
        drawn = draw_classes(np.random.default_rng(seed), labels, of_batch=of_batch)
        assert [len(set(classes)) for classes in drawn] == [-(-len(all_) // 2) for all_ in present]
        seen = [before | set(classes) for before, classes in zip(seen, drawn, strict=True)]
    assert seen == present


def test_distortions_are_drawn_as_often_and_as_strong_as_published():
    drawn = [draw_distortion(np.random.default_rng(seed), 2, [0.2] * 4) for seed in range(600)]
    jitters = [one for one in drawn if one.order is not None]
    assert 0.76 < len(jitters) / 600 < 0.84
    assert 0.45 < sum(one.sigma is not None for one in drawn) / 600 < 0.55
    sigmas = [one.sigma for one in drawn if one.sigma is not None]
    assert (0.15 <= min(sigmas) < 0.2) and (1.1 < max(sigmas) <= 1.15)
    factors = np.concatenate([one.factors for one in jitters])
    np.testing.assert_allclose(factors.min(axis=0), [0.8, 0.8, 0.8, -0.2], atol=0.01)
    np.testing.assert_allclose(factors.max(axis=0), [1.2, 1.2, 1.2, 0.2], atol=0.01)
    assert len({one.order for one in jitters}) == 24
    nothing = draw_distortion(np.random.default_rng(0), 2, [0.0] * 4, blurs=False)
    assert nothing == Distortion()


@pytest.mark.parametrize("how", [CAFFE, IMAGENET])
def test_a_jitter_sees_the_colours_that_were_normalised(how):
    """Brightness of all channels by a quarter of white, at any normalisation."""
    scale = ColorScale.of(how)
    white = (255.0 - scale.mean) / scale.std
    grey = (127.5 - scale.mean) / scale.std
    brighter = Distortion((0, 1, 2, 3), np.float32([[1.25, 1.0, 1.0, 0.0]]))
    found = brighter.apply(grey.expand([1, 3, 4, 4]), scale)
    expected = grey + 0.25 * (white - (0.0 - scale.mean) / scale.std)
    np.testing.assert_allclose(found.numpy(), expected.expand([1, 3, 4, 4]).numpy(), rtol=1e-5, atol=1e-3)


def test_domains_with_statistics_of_their_own_are_mixed_as_the_network_sees_them():
    """Every pixel is jittered in its own domain's colours: grey of both becomes equally bright."""
    method = build("dacs")
    method.same_scale, method.source_scale = False, ColorScale.of(replace(CAFFE, mean=(10.0, 20.0, 30.0)))
    source = labelled(quarters(1))
    grey = [scale.mean * 0 + 100.0 - scale.mean for scale in (method.source_scale, method.target_scale)]
    source = replace(source, images=grey[0].expand([1, 3, *SIZE]))
    target = Domain(grey[1].expand([1, 3, *SIZE]), SIZE)
    pseudo, _ = method.label(target)
    draws = replace(method.draw(Pair(source, target)), classes=((1, 255),))
    draws = replace(draws, mixed=Distortion((0, 1, 2, 3), np.float32([[1.1, 1.0, 1.0, 0.0]])))
    mixed = method.mix(source, pseudo, draws).images.numpy()
    taken = np.isin(quarters(1), [1, 255])[0]
    bright = 100.0 + 0.1 * 255
    for pixels, scale in ((mixed[0][:, taken], method.source_scale), (mixed[0][:, ~taken], method.target_scale)):
        np.testing.assert_allclose(
            pixels, np.broadcast_to(bright - scale.mean.numpy()[0, :, 0], pixels.shape), atol=1e-3
        )


@pytest.mark.plain
@pytest.mark.parametrize("scale", [0.8, 1.1])
def test_images_of_another_size_than_their_labels_are_mixed_at_that_of_the_labels(scale):
    method = build("mic")
    losses = method.train_step(pair(scale=scale), None, lambda loss: loss.backward())
    assert method.views["mixed"].shape == [2, 3, *SIZE]
    assert method.views["masked"].shape[2:] == [int(side * scale) for side in SIZE]
    assert all(np.isfinite(float(loss)) for loss in losses.values())


def test_masked_pixels_are_zero_and_their_share_is_the_ratio():
    method = build("mic")
    shares = []
    for seed in range(20):
        method.train_step(replace(pair(), random=np.random.default_rng(seed)), None, lambda loss: None)
        shares.append(float((method.views["masked"] == 0).all(axis=1).astype("float32").mean()))
    assert 0.55 < np.mean(shares) < 0.85


@pytest.mark.plain
def test_features_are_held_to_the_initial_ones_on_things_alone():
    method = build("daformer", num_classes=CLASSES)
    method.on_weights_loaded()
    for parameter in method.segmenter.backbone.parameters():
        parameter.set_value(parameter * 1.1)
    source = labelled(quarters())
    found = {}
    for things in ([0], [1], [4]):
        method.things = things
        found[things[0]] = float(method.source_losses(source)["loss_fd"])
    assert found[0] > 0 and found[1] > 0 and found[0] != found[1]
    assert found[4] == 0


def complaints(tiny, **fields):
    with pytest.raises(ConfigError) as caught:
        tiny(**fields)
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target__size": (64, 40)}, ("64×32 and 64×40", "augmentation.crop_size")),
        ({"ignore_top": 20, "ignore_bottom": 12}, ("20", "12", "32 rows")),
        ({"mask_block": 65}, ("mask_block 65", "64×32", "at most 32")),
        ({"things": ("lantern",)}, ("'lantern'", "road")),
        (
            {"classes": {"classes": {"road": [], "sky": []}}, "network__num_classes": 2},
            ("method.things", "lambda-fd 0"),
        ),
    ],
)
def test_what_does_not_suit_a_method_is_refused_with_a_remedy(tiny, fields, words):
    own = {name: value for name, value in fields.items() if "__" not in name and name != "classes"}
    others = {name: value for name, value in fields.items() if name not in own}
    message = complaints(tiny, method={"name": "mic", **own}, **others)
    assert all(word in message for word in words), message


def test_rows_left_out_are_remarked_of_targets_other_than_cityscapes(tiny):
    camera = packaged("cityscapes").model_copy(update={"name": "camera"})
    for target, rows, remarked in (("cityscapes", 5, False), (camera, 0, False), (camera, 5, True)):
        config = tiny(method={"name": "mic", "ignore_bottom": rows}, loss__gamma=0, target__dataset=target)
        found = config.method.remarks(config)
        assert len(found) == remarked
        assert all("camera" in remark and "--method.ignore-bottom 0" in remark for remark in found)


def test_things_are_those_of_the_names_or_the_ones_listed(tiny):
    assert build("mic").things == [6, 7, *range(11, 19)]
    config = tiny(method={"name": "daformer", "things": ("pole", "car")})
    assert config.method.thing_ids(config.classes.owners) == [5, 13]


@pytest.mark.parametrize("export", ["student", "teacher"])
def test_the_network_to_save_is_the_one_asked_for(tiny, export):
    notes = []
    config = tiny(method={"name": "mic", "export": export})
    trainer = Trainer(config, notify=notes.append)
    trainer.run()
    method = trainer.method
    saved = read_arrays(trainer.snapshots.path(4))
    expected = {"student": method.segmenter, "teacher": method.teacher}[export].state_dict()
    for name, tensor in to_file_names(expected).items():
        np.testing.assert_array_equal(saved[name], tensor.numpy())
    weight = "head1.conv2d_list.0.weight"
    assert not np.array_equal(
        method.segmenter.state_dict()[weight].numpy(), method.teacher.state_dict()[weight].numpy()
    )
    assert any("initial weights, which are random" in note for note in notes)
