"""Presets of self-training have the published values; tests/cli/port has those of the other presets."""

import pytest

from clan.run.config import load, to_yaml
from clan.run.presets import PRESETS, RUN_NAMES

DACS = {
    "method.name": "dacs",
    "method.teacher_decay": 0.99,
    "method.confidence": 0.968,
    "method.color_jitter": 0.25,
    "method.ignore_top": 0,
    "network.backbone": "resnet101",
    "network.model": "deeplab",
    "network.num_heads": 1,
    "network.input_normalization": "caffe-bgr",
    "optimizer.algorithm": "sgd",
    "optimizer.learning_rate": 2.5e-4,
    "optimizer.head_multiplier": 10,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-4,
    "optimizer.schedule": "poly",
    "optimizer.power": 0.9,
    "optimizer.repeated_updates": False,
    "num_steps": 250_000,
    "source.sampling": "uniform",
}
DAFORMER = {
    "method.name": "daformer",
    "method.teacher_decay": 0.999,
    "method.confidence": 0.968,
    "method.color_jitter": 0.2,
    "method.lambda_fd": 0.005,
    "method.ignore_top": 15,
    "method.ignore_bottom": 120,
    "network.backbone": "mit-b5",
    "network.model": "daformer",
    "network.head_channels": 256,
    "network.dropout": 0.1,
    "network.num_heads": 1,
    "network.input_normalization": "imagenet-rgb",
    "optimizer.algorithm": "adamw",
    "optimizer.betas": [0.9, 0.999],
    "optimizer.learning_rate": 6e-5,
    "optimizer.head_multiplier": 10,
    "optimizer.weight_decay": 0.01,
    "optimizer.no_decay": ["norm"],
    "optimizer.schedule": "warmup-linear",
    "optimizer.warmup_ratio": 1e-6,
    "num_steps": 40_000,
    "warmup_steps": 1500,
    "source.sampling": "rare-class",
    "source.rare_class.temperature": 0.01,
    "source.rare_class.pixels": 3000,
    "source.rare_class.crop_share": 0.5,
    "target.sampling": "uniform",
    "augmentation.crop_class_share": 0.75,
    "augmentation.random_mirror": True,
}
MIC = DAFORMER | {
    "method.name": "mic",
    "method.lambda_mask": 1,
    "method.mask_ratio": 0.7,
    "method.mask_block": 32,
}
VFM = {
    "method.name": "vfm",
    "method.confidence": 0.968,
    "method.ignore_top": 0,
    "method.mask_ratio": 0.7,
    "network.backbone": "dinov2-b",
    "network.model": "light",
    "network.input_normalization": "imagenet-rgb",
    "optimizer.algorithm": "adamw",
    "optimizer.head_multiplier": 10,
    "optimizer.weight_decay": 0.01,
    "num_steps": 40_000,
    "warmup_steps": 1500,
    "source.sampling": "rare-class",
    "source.rare_class.temperature": 0.05,
    "augmentation.crop_class_share": 0.75,
    "augmentation.crop_size": [1024, 1024],
}
BOTH = {
    "augmentation.crop_size": [512, 512],
    "augmentation.random_scale": False,
    "network.align_corners": False,
    "loss.gamma": 0,
    "batch_size": 2,
    "target.size": [1024, 512],
}


@pytest.mark.parametrize(("source", "size"), [("synthia", [1280, 760]), ("gta5", [1280, 720])])
@pytest.mark.parametrize(("name", "published"), [("dacs", DACS), ("daformer", DAFORMER), ("mic", MIC)])
def test_presets_of_self_training_have_the_published_values(tmp_path, name, published, source, size):
    config = PRESETS[name](source)
    found = config.options()
    assert {key: found[key] for key in published | BOTH} == published | BOTH
    assert found["source.size"] == size
    assert config.snapshot_dir.name == RUN_NAMES[source]
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load(path) == config


@pytest.mark.parametrize("source", ["synthia", "gta5"])
def test_the_preset_of_vfm_has_the_published_values(source):
    found = PRESETS["vfm"](source).options()
    assert {key: found[key] for key in VFM} == VFM
    assert found["optimizer.learning_rate"] * 10 == pytest.approx(5e-5 * 8**0.5)


@pytest.mark.parametrize("source", ["synthia", "gta5"])
def test_the_preset_for_own_domains_is_mic_without_what_belongs_to_cityscapes(source):
    best, mic = PRESETS["best"](source), PRESETS["mic"](source)
    assert best != mic
    assert best.model_copy(update={"method": mic.method}) == mic
    assert best.method.model_copy(update={"ignore_top": 15, "ignore_bottom": 120}) == mic.method
