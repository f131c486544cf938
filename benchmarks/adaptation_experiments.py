"""Experiments of `adaptation.py`: pairs of data sets, and the methods and options to compare on each.

Every option is a flag of `clan train`. All experiments of a pair share `COMMON` and add the options beside their name.
The first edition, with another network and smaller images, has its records in `results/adaptation/first_edition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Flags = Mapping[str, object]

DOMAINS = Path("benchmarks/domains")

COMMON: Flags = {
    "source.size": (480, 270),
    "target.size": (480, 360),
    "augmentation.crop-size": (320, 256),
    "augmentation.random-scale": False,
    "batch-size": 2,
    "num-steps": 480,
    "warmup-steps": 48,
    "network.backbone": "mobilenetv2",
    "network.model": "daformer",
    "network.head-channels": 96,
    "network.num-heads": 1,
    "network.align-corners": False,
    "network.train-batch-norm-affine": True,
    "network.input-normalization": "imagenet-rgb",
    "network.restore-from": Path("../shared/weights/mobilenet_v2_imagenet.pt"),
    "loss.gamma": 0,
    "optimizer.algorithm": "adamw",
    "optimizer.learning-rate": 1e-3,
    "optimizer.head-multiplier": 5,
    "optimizer.weight-decay": 0.01,
    "optimizer.schedule": "warmup-linear",
    "num-workers": 1,
    "save-images": 0,
}
"""MobileNetV2 at its native stride 32 with DAFormer's head, whose logits are for 4×4 pixels: poles and signs fit."""


@dataclass(frozen=True)
class Pair:
    """A source with labels, a target, and the classes that they share: files in `benchmarks/domains`.

    Args:
        things: the classes on which features are held to those of ImageNet.
        flags: further options of every experiment.
    """

    source: str
    target: str
    classes: str
    things: tuple[str, ...]
    flags: Flags = field(default_factory=dict)

    def domain_flags(self) -> Flags:
        files = {"source": self.source, "target": self.target, "classes": self.classes}
        return {name: DOMAINS / f"{file}.yaml" for name, file in files.items()}


PAIRS = {
    "rendered_to_camvid": Pair(
        "rendered_streets", "camvid", "rendered_to_camvid", ("pole", "sign", "pedestrian", "car")
    ),
    "idd_to_camvid": Pair(
        "idd_lite", "camvid", "idd_to_camvid", ("living", "vehicle"), {"source.size": (384, 272)}
    ),
}  # fmt: skip

ADVERSARY: Flags = {
    "network.num-heads": 2,
    "method.lambda-adv": 0.01,
    "optimizer.discriminator-learning-rate": 1e-3,
}
"""Of every method with a discriminator. Ten times the official weight and rate: the run is 160 times shorter."""

TEACHER: Flags = {"method.teacher-decay": 0.99}
"""Of every method with a teacher, which in 480 iterations cannot be an average of thousands."""

MASKED: Flags = {"method.mask-block": 16}
"""Of crops of 256 pixels what the published 32 are of 512."""

RARE: Flags = {"source.sampling": "rare-class", "augmentation.crop-class-share": 0.75}
"""DAFormer's sampling of the source, of `daformer` and `mic` as published."""

FINAL: Mapping[str, Flags] = {
    "source-only": {"method": "source-only"},
    "adaptsegnet-single": {"method": "adaptsegnet-single", **ADVERSARY},
    "advent": {"method": "advent", **ADVERSARY},
    "clan": {"method": "clan", **ADVERSARY},
    "dacs": {"method": "dacs", **TEACHER},
    "daformer": {"method": "daformer", **TEACHER, **RARE},
    "mic": {"method": "mic", **TEACHER, **MASKED, **RARE},
    "oracle": {"method": "oracle"},
}
"""What the tables compare, in their order."""

ONE_SEED: tuple[str, ...] = ()
"""Of `FINAL`, those that run with the first seed alone."""

QUICK: Flags = {"method.teacher-decay": 0.95, "method.confidence": 0.9}
"""Of a teacher that follows within twenty iterations, and is believed earlier."""

LONG: Flags = {"num-steps": 800, "warmup-steps": 80}
"""The length that was tried first: a run of mic takes longer than half an hour."""

SLOW: Flags = {**LONG, "optimizer.learning-rate": 3e-4}
"""The rate that was tried first, with which nothing finds a pole or a pedestrian."""

TUNING: Mapping[str, Flags] = {
    "source-only-rare": {"method": "source-only", **RARE},
    "oracle-long": {"method": "oracle", **LONG},
    "oracle-rate-2e-3": {"method": "oracle", "optimizer.learning-rate": 2e-3},
    "oracle-rate-3e-4": {"method": "oracle", **SLOW},
    "source-only-rate-3e-4": {"method": "source-only", **SLOW},
    "source-only-rare-rate-3e-4": {"method": "source-only", **SLOW, **RARE},
    "dacs-rate-3e-4": {"method": "dacs", **TEACHER, **SLOW},
    "dacs-rare": {"method": "dacs", **TEACHER, **RARE},
    "dacs-quick": {"method": "dacs", **QUICK},
    "mic-quick": {"method": "mic", **QUICK, **MASKED},
    "mic-uniform": {"method": "mic", **TEACHER, **MASKED},
    "mic-quick-rare": {"method": "mic", **QUICK, **MASKED, **RARE},
    "mic-no-distance": {"method": "mic", **TEACHER, **MASKED, **RARE, "method.lambda-fd": 0},
    "clan-official-adversary": {"method": "clan", "network.num-heads": 2},
    "clan-plain-weight": {"method": "clan", **ADVERSARY, "method.lambda-local": 0, "method.epsilon": 1},
    "clan-bf16": {"method": "clan", **ADVERSARY, "precision": "bf16"},
    "minent-strong": {"method": "minent", "method.lambda-entropy": 0.1},
}
"""Options to try on CamVid's val alone.

`clan-plain-weight` is CLAN without its adaptive weight; `minent-strong` weighs entropy so much that classes disappear.
"""

WITH_THINGS = ("daformer", "mic")
"""Methods that compare features."""


def flags_of(pair: str, experiment: str) -> dict[str, object]:
    """Every flag of an experiment but its seed and its folder."""
    own = {**TUNING, **FINAL}[experiment]
    things = {"method.things": PAIRS[pair].things} if own["method"] in WITH_THINGS else {}
    return {**PAIRS[pair].domain_flags(), **COMMON, **PAIRS[pair].flags, **things, **own}


def as_arguments(flags: Flags) -> list[str]:
    """{"a.b-c": False, "size": (1, 2)} → ["--a.no-b-c", "--size", "1", "2"]."""
    arguments: list[str] = []
    for name, value in flags.items():
        if isinstance(value, bool):
            *rooms, option = name.split(".")
            arguments.append("--" + ".".join([*rooms, option if value else f"no-{option}"]))
        else:
            values = value if isinstance(value, tuple) else (value,)
            arguments += [f"--{name}", *map(str, values)]
    return arguments
