"""VFM-UDA: what differs from the other self-training, on a tiny vision transformer."""

from dataclasses import replace

import numpy as np
import paddle
import pytest
from PIL import Image

from clan.cli import main as cli
from clan.evaluation.inference import evaluating
from clan.losses.segmentation import class_probabilities
from clan.methods.base import Progress
from clan.models.dinov2 import DINOv2
from clan.models.options import BACKBONES
from clan.run.config import Config
from clan.run.presets import vfm
from clan.training.run import train
from tests.conftest import assert_same_end, metrics, tiny_config
from tests.methods.test_contract import CLASSES, SIZE, build, pair
from tests.needs import module

pytestmark = pytest.mark.plain

START = Progress(iteration=0, total=100, warmup=10)


class TinyViT(DINOv2):
    def __init__(self, *, output_stride=8):
        super().__init__(16, 4, 2, output_stride=output_stride)


@pytest.fixture(autouse=True)
def vit(monkeypatch) -> None:
    monkeypatch.setitem(BACKBONES, "vit-tiny", "tests.methods.test_vfm:TinyViT")


def made(**options):
    method = build("vfm", backbone="vit-tiny", model="light", num_heads=1, align_corners=False)
    method.options = method.options.model_copy(update=options)
    return method


PLAIN = {"color_jitter": 0.0, "blur": False, "domain_jitter": False}


def test_labels_are_those_of_the_mean_over_an_image_and_its_mirror_image():
    method, target = made(confidence=0.3), pair().target
    with evaluating(method.teacher), paddle.no_grad():

        def prob(images):
            return class_probabilities(method.teacher.resize(*method.teacher(images), SIZE)).numpy()

        mean = (prob(target.images) + prob(target.images.flip(3))[..., ::-1]) / 2
    pseudo, share = method.label(target)
    np.testing.assert_array_equal(pseudo.labels.numpy(), mean.argmax(axis=1))
    assert float(share) == pytest.approx((mean.max(axis=1) >= 0.3).mean(), abs=1e-4)
    np.testing.assert_allclose(pseudo.weight.numpy(), np.full((2, *SIZE), float(share)), rtol=1e-6)


@pytest.mark.parametrize("iteration", [0, 3, 5000])
def test_the_teacher_follows_after_the_step_with_its_statistics(iteration):
    """Also on a network with batch norms."""
    method = build("vfm")
    for parameter in method.segmenter.parameters():
        parameter.set_value(parameter + 1.0)
    before = {name: tensor.numpy().copy() for name, tensor in method.teacher.state_dict().items()}
    method.before_step(iteration)
    method.after_step(iteration)
    decay = min(1 - 1 / (iteration + 2), 0.999)
    student = method.segmenter.state_dict()
    assert any(name.endswith("_mean") for name in student)
    for name, tensor in method.teacher.state_dict().items():
        expected = decay * before[name] + (1 - decay) * student[name].numpy()
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_source_counts_by_valid_pixels_and_mixtures_by_all():
    method, batch = made(**PLAIN), pair()
    losses = method.train_step(batch, START, lambda loss: None)
    with paddle.no_grad():
        (logits,) = method.logits(batch.source)
        labels = batch.source.labels.numpy().astype(int)
        valid = labels < CLASSES
        log = np.log(class_probabilities(logits).numpy())
        picked = np.take_along_axis(log, np.where(valid, labels, 0)[:, None], 1)[:, 0]
        expected = -((1 - np.exp(picked)) ** 2 * picked)[valid].mean()  # the official preset's focal loss
    assert float(losses["loss_seg"]) == pytest.approx(expected, rel=1e-4)
    draws = method.draw(replace(batch, random=np.random.default_rng(0)))
    pseudo, _ = method.label(batch.target)
    mixed = method.mix(batch.source, pseudo, draws)
    chosen = np.stack(
        [np.isin(image, drawn) for image, drawn in zip(batch.source.labels.numpy(), draws.classes, strict=True)]
    )
    np.testing.assert_array_equal(mixed.labels.numpy(), np.where(chosen, batch.source.labels, pseudo.labels))
    images = np.where(chosen[:, None], batch.source.images.numpy(), batch.target.images.numpy())
    np.testing.assert_allclose(mixed.images.numpy(), images, rtol=1e-6)


def test_the_masked_loss_is_of_the_network_without_the_drawn_patches():
    method, batch = made(**PLAIN), pair()
    draws = method.draw(batch)
    assert draws.blocks.shape == (2, 1, *method.segmenter.backbone.grid(SIZE))
    pseudo, _ = method.label(batch.target)
    with paddle.no_grad():
        *_, (name, loss) = method.target_losses(batch.source, pseudo, draws)
        logits = method.logits(batch.target, mask=paddle.to_tensor(draws.blocks < 0.7))
        expected = method.supervise(logits, pseudo.labels, weight_BHW=pseudo.weight, mean_over="pixels")
    assert name == "loss_mask"
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert "loss_mask" not in made(mask_ratio=0.0).train_step(batch, START, lambda loss: None)


def test_each_image_has_its_own_distortion():
    method, batch = made(), pair()
    draws = method.draw(batch)
    images = draws.source.apply(batch.source.images, method.source_scale)
    for k, one in enumerate(draws.source.each):
        alone = one.apply(batch.source.images[k : k + 1], method.source_scale)
        np.testing.assert_allclose(images[k : k + 1].numpy(), alone.numpy(), rtol=1e-6)


def test_every_parameter_of_the_transformer_gets_a_gradient():
    method = made()
    method.train_step(pair(), START, lambda loss: loss.backward())
    assert [name for name, p in method.segmenter.named_parameters() if p.grad is None] == []


def run_config(worlds, folder, **fields) -> Config:
    options = {"network__backbone": "vit-tiny", "network__model": "light", "network__num_heads": 1}
    options |= {"optimizer__algorithm": "adamw", "optimizer__schedule": "warmup-then-linear"}
    options |= {"network__input_normalization": "imagenet-rgb", "network__align_corners": False}
    return tiny_config(worlds, folder, method={"name": "vfm", "confidence": 0.1}, **options | fields)


def test_a_resumed_run_equals_an_uninterrupted_one(worlds, tmp_path):
    train(run_config(worlds, tmp_path / "whole", batch_size=2))
    train(run_config(worlds, tmp_path / "halves", batch_size=2, num_steps_stop=2))
    train(run_config(worlds, tmp_path / "halves", batch_size=2), resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "halves")
    assert {"loss_seg", "loss_mix", "loss_mask", "pseudo_share"} <= metrics(tmp_path / "whole")[0].keys()


@pytest.mark.parametrize("source", ["synthia", "gta5"])
def test_the_preset_s_groups_and_rates(source):
    config = vfm(source)
    optimizer = config.optimizer
    assert optimizer.learning_rate * optimizer.head_multiplier == pytest.approx(5e-5 * np.sqrt(8))
    assert config.batch_size * config.iter_size == 8
    assert (optimizer.weight_decay, optimizer.no_decay) == (0.01, ())
    assert config.network.normalization(config.target.dataset).channels == "rgb"


def test_commands_take_its_weights_at_any_size(worlds, tmp_path, capsys):
    module("matplotlib", "extras")
    run, out = tmp_path / "run", tmp_path / "out"
    weights = train(run_config(worlds, run, num_steps=2))
    sizes = [(33, 20), (90, 41), (14, 97)]
    (tmp_path / "in").mkdir()
    for number, size in enumerate(sizes):
        Image.fromarray(np.full((*size[::-1], 3), 99, np.uint8)).save(tmp_path / f"in/{number}.png")
        pixels = ["--input-size", str(size[0]), str(size[1])]
        evaluated = ["--save", str(out / f"e{number}"), "--workbooks", str(out / f"w{number}")]
        cli.dispatch(["evaluate", str(weights), "--batch-size", "2", *evaluated, *pixels])
        assert "mIoU" in capsys.readouterr().out
    cli.dispatch(["predict", str(tmp_path / "in"), "--weights", str(weights), "-o", str(out / "p"), "--no-overlay"])
    found = [Image.open(path).size for path in (out / "p").rglob("*.png")]
    assert set(sizes) <= set(found)
    cli.dispatch(["inspect", str(run), "--images", "2", "--points", "5"])
    assert list((run / "inspect").glob("*.png"))
