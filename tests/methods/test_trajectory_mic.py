"""Eight iterations of MIC with MiT-B0 and DAFormer's head, against those of the authors' code.

The golden arrays lie in ../shared: parameters, batches, the classes that were mixed, and the draws of the masks.
"""

import json
from dataclasses import replace

import numpy as np
import paddle
import pytest

from clan.datasets.labels import CITYSCAPES
from clan.methods import build_method
from clan.methods.base import Domain, LabelledDomain, Pair
from clan.models.normalization import IMAGENET
from clan.models.weight_files import write_arrays
from clan.models.weights import load_weights, to_file_names
from clan.training.learner import Learner
from tests.conftest import Golden, tiny_config

pytestmark = pytest.mark.plain

LOSSES = {
    "loss_seg": "decode.loss_seg",
    "loss_fd": "src.loss_imnet_feat_dist",
    "loss_mix": "mix.decode.loss_seg",
    "loss_mask": "masked.decode.loss_seg",
}
"""Our names of losses, and the authors'."""


@pytest.fixture(scope="module")
def official(shared) -> Golden:
    return Golden(shared / "golden/selftraining")


@pytest.fixture(scope="module")
def recorded(official) -> dict:
    return json.loads((official.folder / "trajectory_mic.json").read_text())


@pytest.fixture(scope="module")
def trained(official, recorded, worlds, tmp_path_factory):
    """The learner after the golden's iterations, and the losses and the rate of each."""
    folder, given = tmp_path_factory.mktemp("mic"), recorded["config"]
    height, width = given["size_hw"]
    config = tiny_config(
        worlds,
        folder / "run",
        method={
            "name": "mic",
            "teacher_decay": given["alpha"],
            "confidence": given["threshold"],
            "ignore_top": given["top"],
            "ignore_bottom": given["bottom"],
            "lambda_fd": given["fd"],
            "things": [CITYSCAPES.names[train_id] for train_id in given["things"]],
            "mask_block": given["block"],
            "color_jitter": 0,
            "blur": False,
        },
        source__size=(width, height),
        target__size=(width, height),
        network__backbone="mit-b0",
        network__model="daformer",
        network__num_heads=1,
        network__align_corners=False,
        network__input_normalization="imagenet-rgb",
        network__drop_path=0.0,
        network__dropout=0.0,
        augmentation__random_scale=False,
        loss__gamma=0,
        optimizer__algorithm="adamw",
        optimizer__learning_rate=given["lr"],
        optimizer__weight_decay=0.01,
        optimizer__no_decay=["norm"],
        optimizer__schedule="warmup-linear",
        num_steps=given["iterations"],
        warmup_steps=given["warmup"],
        batch_size=given["batch"],
    )
    write_arrays(official._weights.golden_state(given["parameters_seed"]), folder / "golden.pth")
    method = build_method(config)
    assert not load_weights(method.segmenter, folder / "golden.pth", strict=True).unexpected
    method.on_weights_loaded()
    learner = Learner(config, method)
    batches, draw, losses, rates = official.arrays("trajectory_mic_batches"), method.draw, [], []
    for iteration in range(given["iterations"]):
        drawn = {
            "classes": tuple(map(tuple, recorded["mixed_classes"][iteration])),
            "blocks": batches["block_uniform"][iteration],
        }
        method.draw = lambda batch, drawn=drawn: replace(draw(batch), **drawn)
        passes = learner.accumulate(iteration, [pair(batches, iteration, (height, width))])
        losses.append(passes.losses)
        rates.append(learner.step(iteration)["learning_rate"])
    return learner, losses, rates


def pair(batches: dict, iteration: int, size: tuple[int, int]) -> Pair:
    def images(role: str) -> paddle.Tensor:
        planes = (batches[f"{role}_images"][iteration].astype(np.float32) - IMAGENET.mean) / IMAGENET.std
        return paddle.to_tensor(planes.astype(np.float32).transpose(0, 3, 1, 2))

    labels = paddle.to_tensor(batches["source_labels"][iteration])
    return Pair(LabelledDomain(images("source"), size, labels, is_source=True), Domain(images("target"), size))


def test_rates_equal_the_authors(trained, recorded):
    np.testing.assert_allclose(trained[2], recorded["learning_rates"], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_the_authors(trained, recorded, name):
    ours = [losses[name] for losses in trained[1]]
    theirs = np.nan_to_num([losses[LOSSES[name]] for losses in recorded["losses"]])  # NaN: no cell, here 0
    np.testing.assert_allclose(ours[:3], theirs[:3], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(ours, theirs, rtol=5e-3, atol=1e-7)


@pytest.mark.parametrize(("network", "recorded_as"), [("segmenter", "student"), ("teacher", "teacher")])
def test_final_arrays_equal_the_authors(trained, recorded, network, recorded_as):
    state = to_file_names(trained[0].method.networks[network].layer.state_dict())
    names = to_file_names({name: name for name in recorded[recorded_as]})
    assert set(state) == set(names)
    for name, official in names.items():
        # Paddle keeps the biased variance of a batch as the running one, PyTorch the unbiased.
        tolerance = 3e-3 if official.endswith("running_var") else 5e-4
        absolutes = np.abs(state[name].numpy().astype(np.float64)).sum()
        assert absolutes == pytest.approx(recorded[recorded_as][official][1], rel=tolerance), official
