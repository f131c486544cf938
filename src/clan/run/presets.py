"""Preset configurations for each source domain, and the demo's; docs/deviations.md compares their values."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from clan.datasets import Description, packaged
from clan.run.config import (
    AugmentationConfig,
    Config,
    DomainConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    RareClassConfig,
)
from clan.run.method_options import (
    ClanOptions,
    DacsOptions,
    DaformerOptions,
    MethodOptions,
    MicOptions,
    VfmOptions,
    switched,
)

Source = Literal["synthia", "gta5"]

SOURCE_ROOTS: dict[Source, Path] = {"synthia": Path("data/SYNTHIA/RAND_CITYSCAPES"), "gta5": Path("data/GTA5")}
DEFAULT_ROOTS: dict[str, Path] = {**SOURCE_ROOTS, "cityscapes": Path("data/Cityscapes")}
SOURCE_SIZES = {"synthia": (1280, 760), "gta5": (1280, 720)}
OFFICIAL_LAMBDA_LOCAL = {"synthia": 10.0, "gta5": 40.0}
RUN_NAMES = {"synthia": "SYS2Cityscapes", "gta5": "GTA2Cityscapes"}


def _cityscapes(size: tuple[int, int]) -> DomainConfig:
    return DomainConfig(dataset=packaged("cityscapes"), root=DEFAULT_ROOTS["cityscapes"], size=size)


def _source(name: Source, size: tuple[int, int] | None = None, **sampling: Any) -> DomainConfig:
    return DomainConfig(dataset=packaged(name), root=SOURCE_ROOTS[name], size=size or SOURCE_SIZES[name], **sampling)


def _run(source: Source, target_size: tuple[int, int] = (1024, 512)) -> dict[str, Any]:
    return {
        "target": _cityscapes(target_size),
        "snapshot_dir": Path("snapshots") / RUN_NAMES[source],
    }


def official(source: Source = "synthia") -> Config:
    """Settings of the official code; published mIoU: 47.8 (SYNTHIA, 13 classes) and 43.2 (GTA5, 19 classes)."""
    return Config(
        source=_source(source), method=ClanOptions(lambda_local=OFFICIAL_LAMBDA_LOCAL[source]), **_run(source)
    )


def paper(source: Source = "synthia") -> Config:
    """Equations and hyper-parameters as stated in the paper."""
    return Config(
        source=_source(source),
        method=ClanOptions(lambda_local=40.0, weight_multiplier=1.0, damping=False),
        loss=LossConfig(gamma=0.0),
        optimizer=OptimizerConfig(
            repeated_updates=False,
            schedule="poly",
            discriminator_learning_rate=5e-5,
            discriminator_schedule="constant",
            discriminator_weight_decay=5e-4,
        ),
        **_run(source),
    )


def port(source: Source = "synthia") -> Config:
    """The PaddlePaddle 2.1 port that this project replaces; 45.59 (SYNTHIA, 13 classes), 42.2 (GTA5, 19)."""
    return Config(
        source=_source(source, (1024, 512) if source == "synthia" else None),
        augmentation=AugmentationConfig(scales=((1.5, 1.0),)),
        network=NetworkConfig(train_batch_norm_affine=True, projection_bias=True, evaluation_upsampling="bicubic"),
        method=ClanOptions(lambda_local=OFFICIAL_LAMBDA_LOCAL[source]),
        loss=LossConfig(gamma=0.0),
        optimizer=OptimizerConfig(
            learning_rate=2.5e-3,
            head_multiplier=1.0,
            repeated_updates=False,
            discriminator_learning_rate=1e-3,
        ),
        **_run(source),
    )


def dacs(source: Source = "synthia") -> Config:
    """DACS as published: DeepLab-v2 with ResNet-101, SGD; 52.1 (GTA5), 48.3 (SYNTHIA, 16 classes), 54.8 (13)."""
    return Config(
        source=_source(source),
        augmentation=AugmentationConfig(random_scale=False, crop_size=(512, 512), random_mirror=False),
        network=NetworkConfig(num_heads=1, head_dilations=(6, 12), align_corners=False),
        method=DacsOptions(),
        loss=LossConfig(gamma=0.0),
        optimizer=OptimizerConfig(schedule="poly", repeated_updates=False),
        num_steps=250_000,
        warmup_steps=0,
        batch_size=2,
        **_run(source),
    )


def daformer(source: Source = "synthia") -> Config:
    """DAFormer as published: MiT-B5, rare-class sampling, features held to ImageNet's; 68.3 (GTA5), 60.9 (SYNTHIA, 16).

    Needs MiT-B5's ImageNet weights: `--network.restore-from mit_b5.pth`.
    """
    return _on_mit(source, DaformerOptions(ignore_top=CROPPED_TOP, ignore_bottom=CROPPED_BOTTOM))


def mic(source: Source = "synthia") -> Config:
    """MIC on DAFormer as published: DAFormer, and consistency of masked target images; 70.6 (GTA5, 19 classes).

    Needs MiT-B5's ImageNet weights: `--network.restore-from mit_b5.pth`.
    """
    return _on_mit(source, MicOptions(ignore_top=CROPPED_TOP, ignore_bottom=CROPPED_BOTTOM))


def best(source: Source = "synthia") -> Config:
    """For domains of one's own, the method that measured best (docs/benchmarks.md): `mic`, on all rows of images.

    Measured with a small network at a small size; network and rates are those that were published for MiT-B5.
    """
    return _on_mit(source, MicOptions())


def _on_mit(source: Source, method: MethodOptions) -> Config:
    """What DAFormer and MIC share."""
    return Config(
        source=_source(source, sampling="rare-class"),
        augmentation=AugmentationConfig(random_scale=False, crop_size=(512, 512), crop_class_share=0.75),
        network=NetworkConfig(
            backbone="mit-b5",
            model="daformer",
            num_heads=1,
            align_corners=False,
            input_normalization="imagenet-rgb",
        ),
        method=method,
        loss=LossConfig(gamma=0.0),
        optimizer=OptimizerConfig(
            algorithm="adamw",
            learning_rate=6e-5,
            head_multiplier=10.0,
            weight_decay=0.01,
            no_decay=("norm",),
            schedule="warmup-linear",
        ),
        num_steps=40_000,
        warmup_steps=1500,
        batch_size=2,
        **_run(source),
    )


CROPPED_TOP, CROPPED_BOTTOM = 15, 120
"""Rows of Cityscapes crops of 512 without weight: the rectification's edge and the car's bonnet."""


def vfm(source: Source = "synthia") -> Config:
    """VFM-UDA as published: DINOv2 ViT-B/14, 8 images of a domain per step; 77.1 (GTA5, 19 classes), 78.4 with ViT-L.

    Needs DINOv2's weights: `--network.restore-from dinov2_vitb14_pretrain.pth`, or with `--network.backbone dinov2-s`
    dinov2_vits14_pretrain.pth. The rate is 5e-5·√8, a tenth of it for the backbone; scale it with the root of
    batch_size · iter_size · processes.
    """
    width, height = SOURCE_SIZES[source]
    return Config(
        source=_source(
            source, (2 * width, 2 * height), sampling="rare-class", rare_class=RareClassConfig(temperature=0.05)
        ),
        augmentation=AugmentationConfig(random_scale=False, crop_size=(1024, 1024), crop_class_share=0.75),
        network=NetworkConfig(
            backbone="dinov2-b", model="light", num_heads=1, align_corners=False, input_normalization="imagenet-rgb"
        ),
        method=VfmOptions(),
        loss=LossConfig(gamma=0.0),
        optimizer=OptimizerConfig(
            algorithm="adamw",
            learning_rate=5e-6 * math.sqrt(8),
            head_multiplier=10.0,
            weight_decay=0.01,
            schedule="warmup-then-linear",
            warmup_ratio=1e-3,
        ),
        num_steps=40_000,
        warmup_steps=1500,
        batch_size=2,
        iter_size=4,
        **_run(source, (2048, 1024)),
    )


def demo_domains() -> tuple[Description, Description]:
    """Descriptions of the demo's worlds: the layouts of SYNTHIA and Cityscapes under other names."""
    names = {"synthia": "drawn-rendered", "cityscapes": "drawn-camera"}
    source, target = (packaged(like).model_copy(update={"name": name}) for like, name in names.items())
    return source, target


def demo(folder: Path, method: Literal["clan", "source-only"], *, steps: int, seed: int) -> Config:
    """A small segmenter, trained from scratch on the demo's worlds in `folder`; takes minutes on a laptop."""
    worlds = folder / "worlds"
    source, target = demo_domains()
    return Config(
        method=switched(ClanOptions(lambda_adv=0.01), method),
        source=DomainConfig(dataset=source, root=worlds / "SYNTHIA/RAND_CITYSCAPES", size=DEMO_TRAINING_SIZE),
        target=DomainConfig(dataset=target, root=worlds / "Cityscapes", size=DEMO_TRAINING_SIZE),
        augmentation=AugmentationConfig(random_scale=False),
        network=NetworkConfig(backbone="resnet-tiny", discriminator_width=16),
        loss=LossConfig(gamma=0.0),
        optimizer=OptimizerConfig(learning_rate=0.02, head_multiplier=1.0, repeated_updates=False),
        num_steps=steps,
        warmup_steps=steps // 10,
        batch_size=2,
        num_workers=2,
        save_every=-(-steps // DEMO_SNAPSHOTS),
        save_images=0,
        select_without_labels=True,
        seed=seed,
        snapshot_dir=folder / method,
    )


DEMO_SIZE = (320, 160)
"""Width and height in pixels of the demo's images."""

DEMO_SNAPSHOTS = 6
"""Snapshots of each of the demo's runs."""

DEMO_TRAINING_SIZE = (256, 128)
"""Width and height in pixels of the demo network's input."""

PRESETS: dict[str, Callable[[Source], Config]] = {
    "official": official,
    "paper": paper,
    "port": port,
    "best": best,
    "dacs": dacs,
    "daformer": daformer,
    "mic": mic,
    "vfm": vfm,
}
"""Presets by name, for `--preset`."""

FORMER_PRESETS = {"seed": "port"}
"""Former name of a preset → today's."""


def preset_name(text: str) -> str:
    """Converts a command line argument, possibly a former name, to a key of `PRESETS`.

    Raises:
        ArgumentTypeError: there is no such preset.
    """
    name = FORMER_PRESETS.get(text, text)
    if name not in PRESETS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a preset: there are {', '.join(PRESETS)}")
    return name


def closest(config: Config) -> tuple[str, dict[str, Any]]:
    """Returns the label and the options by full name of the preset with the fewest differences from `config`."""
    options = config.options()
    presets = {
        f"{name}, from {source}": make(source).options() for name, make in PRESETS.items() for source in SOURCE_ROOTS
    }

    def differing(name: str) -> int:
        return sum(value != presets[name].get(key) for key, value in options.items())

    name = min(presets, key=differing)
    return name, presets[name]
