"""Eight iterations of MIC through the trainer's own step against the authors' code, on recorded batches and draws."""

import json
import runpy

import numpy as np
import pytest

from clan.data.loader import Batch, PairedBatch
from clan.methods import build_method
from clan.methods.draws import Distortion
from clan.methods.self_training import Draws
from clan.models.options import NetworkConfig
from clan.run.config import AugmentationConfig, LossConfig, OptimizerConfig
from clan.run.method_options import MicOptions
from clan.run.presets import official
from clan.training.batches import to_device
from clan.training.learner import Learner

pytestmark = [pytest.mark.plain, pytest.mark.core]

LOSSES = {
    "loss_seg": "decode.loss_seg",
    "loss_fd": "src.loss_imnet_feat_dist",
    "loss_mix": "mix.decode.loss_seg",
    "loss_mask": "masked.decode.loss_seg",
}
"""Names of the losses here and there."""


@pytest.fixture(scope="module")
def record(shared):
    return json.loads((shared / "golden/selftraining/trajectory_mic.json").read_text())


def run_of(record):
    """The configuration of the recorded run."""
    recorded = record["config"]
    base = official()
    names = list(base.classes.classes)
    (height, width), steps = recorded["size_hw"], recorded["iterations"]
    return base.model_copy(
        update={
            "method": MicOptions(
                teacher_decay=recorded["alpha"],
                confidence=recorded["threshold"],
                ignore_top=recorded["top"],
                ignore_bottom=recorded["bottom"],
                lambda_fd=recorded["fd"],
                things=tuple(names[number] for number in recorded["things"]),
                color_jitter=0.0,
                blur=False,
            ),
            "network": NetworkConfig(
                model="daformer",
                backbone="mit-b0",
                num_heads=1,
                align_corners=False,
                input_normalization="imagenet-rgb",
                drop_path=recorded["drop_path"],
                dropout=recorded["dropout"],
            ),
            "optimizer": OptimizerConfig(
                algorithm="adamw",
                learning_rate=recorded["lr"],
                weight_decay=0.01,
                no_decay=("norm",),
                schedule="warmup-linear",
            ),
            "loss": LossConfig(gamma=0.0),
            "augmentation": AugmentationConfig(random_scale=False, crop_size=(width, height)),
            "num_steps": steps,
            "warmup_steps": recorded["warmup"],
            "batch_size": recorded["batch"],
        }
    )


def reference_name(name):
    """Our name of a parameter or buffer → the authors'."""
    name = name.replace("head1.", "decode_head.").replace("._mean", ".running_mean")
    return name.replace("._variance", ".running_var")


def golden_state(shared, record):
    """The authors' arrays by name."""
    script = runpy.run_path(str(shared / "golden/selftraining/weights.py"))
    return script["golden_state"](record["config"]["parameters_seed"])


def load(segmenter, state):
    """Gives a segmenter the authors' arrays; PyTorch keeps matrices transposed."""
    for name, tensor in segmenter.state_dict().items():
        array = state[reference_name(name)]
        tensor.set_value(array.T if array.ndim == 2 else array)


def batches(shared, config, record):
    """The recorded pairs, normalised as the authors do."""
    mean, std = (np.float32(record["config"][name]).reshape(3, 1, 1) for name in ("mean", "std"))
    size = tuple(record["config"]["size_hw"])
    with np.load(shared / "golden/selftraining/trajectory_mic_batches.npz") as file:
        arrays = dict(file)

    def domain(images, labels=None):
        planes = (images.transpose(0, 3, 1, 2).astype(np.float32) - mean) / std
        return Batch(np.ascontiguousarray(planes), labels, size, ("",) * len(images))

    for number, labels in enumerate(arrays["source_labels"]):
        source = domain(arrays["source_images"][number], labels)
        pair = PairedBatch(source, domain(arrays["target_images"][number]))
        draws = Draws(record["mixed_classes"][number], Distortion(), Distortion(), arrays["block_uniform"][number])
        yield to_device(pair), draws


def test_eight_iterations_equal_the_authors(shared, record):
    config = run_of(record)
    method = build_method(config)
    load(method.segmenter, golden_state(shared, record))
    method.on_weights_loaded()
    learner = Learner(config, method)
    for iteration, (pair, draws) in enumerate(batches(shared, config, record)):
        method.draw = lambda batch, draws=draws: draws
        losses = learner.accumulate(iteration, [pair])
        rates = learner.step(iteration)
        assert rates["learning_rate"] == pytest.approx(record["learning_rates"][iteration], rel=1e-6)
        expected = record["losses"][iteration]
        for ours, theirs in LOSSES.items():
            wanted = expected[theirs] if np.isfinite(expected[theirs]) else 0.0
            tolerance = 1e-4 if iteration < 3 else 5e-3
            assert losses[ours] == pytest.approx(wanted, rel=tolerance, abs=1e-7), f"{ours} of iteration {iteration}"
    for network, name in ((method.segmenter, "student"), (method.teacher, "teacher")):
        off = {}
        for key, tensor in network.state_dict().items():
            _, absolutes, _ = record[name][reference_name(key)]
            off[key] = abs(np.abs(tensor.numpy().astype(np.float64)).sum() / absolutes - 1)
        assert {key: value for key, value in off.items() if value > 5e-4} == {}, name
