"""Experiments of `adaptation.py`: pairs of data sets, and the methods and options to compare on each.

Every option is a flag of `clan train`. All experiments of a pair share `COMMON` and add the options beside their name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Flags = Mapping[str, object]

DOMAINS = Path("benchmarks/domains")

COMMON: Flags = {
    "source.size": (240, 160),
    "target.size": (240, 160),
    "batch-size": 2,
    "num-steps": 600,
    "network.backbone": "mobilenetv2",
    "network.head-dilations": (3, 6, 9, 12),
    "network.input-normalization": "imagenet-rgb",
    "network.restore-from": Path("../shared/weights/mobilenet_v2_imagenet.pt"),
    "loss.gamma": 0,
    "optimizer.learning-rate": 2.5e-3,
    "optimizer.head-multiplier": 0.1,
    "optimizer.repeated-updates": False,
    "augmentation.random-scale": False,
    "num-workers": 2,
    "save-images": 0,
}


@dataclass(frozen=True)
class Pair:
    """A source with labels, a target, and the classes that they share: files in `benchmarks/domains`."""

    source: str
    target: str
    classes: str
    flags: Flags = field(default_factory=dict)

    def domain_flags(self) -> Flags:
        files = {"source": self.source, "target": self.target, "classes": self.classes}
        return {name: DOMAINS / f"{file}.yaml" for name, file in files.items()}


PAIRS = {
    "rendered_to_camvid": Pair("rendered_streets", "camvid", "rendered_to_camvid"),
    "idd_to_camvid": Pair("idd_lite", "camvid", "idd_to_camvid"),
}

ADVERSARY: Flags = {"loss.lambda-adv": 0.01, "optimizer.discriminator-learning-rate": 1e-3}
"""Of every method with a discriminator. Ten times the official weight and rate: the run is 160 times shorter."""

PROPORTIONS: Flags = {"source.size": (272, 152), "target.size": (224, 168)}
"""Each data set's own, in about as many pixels."""

ROBUST: Flags = {"augmentation.color-jitter": 0.4, "loss.lambda-self": 1.0}
"""What tuning favours beside an adversary."""

FINAL: Mapping[str, Flags] = {
    "source-only": {"method": "source-only"},
    "adaptsegnet-single": {"method": "adaptsegnet-single", **ADVERSARY},
    "clan": {"method": "clan", **ADVERSARY},
    "best": {"method": "clan", **ROBUST, **ADVERSARY},
    "oracle": {"method": "oracle"},
    "adaptsegnet-multi": {"method": "adaptsegnet-multi", **ADVERSARY, "loss.lambda-adv-aux": 0.002},
    "minent": {"method": "minent"},
    "advent": {"method": "advent", **ADVERSARY},
}
"""What the tables compare, in their order."""

ONE_SEED = ("adaptsegnet-multi", "minent", "advent")
"""Of `FINAL`, those that run with the first seed alone."""

TUNING: Mapping[str, Flags] = {
    "clan-official-adversary": {"method": "clan"},
    "clan-adv-0.01": {"method": "clan", "loss.lambda-adv": 0.01},
    "clan-judge-1e-3": {"method": "clan", "optimizer.discriminator-learning-rate": 1e-3},
    "clan-undamped": {"method": "clan", **ADVERSARY, "loss.damping": False},
    "clan-adv-0.01-undamped": {"method": "clan", "loss.lambda-adv": 0.01, "loss.damping": False},
    "clan-local-40": {"method": "clan", **ADVERSARY, "loss.lambda-local": 40},
    "clan-jitter-self-sqrt-inverse": {
        "method": "clan",
        **ROBUST,
        **ADVERSARY,
        "loss.class-weighting": "sqrt-inverse",
    },
    "clan-jitter-self-proportions": {"method": "clan", **ROBUST, **ADVERSARY, **PROPORTIONS},
    "clan-jitter-self-official-adversary": {"method": "clan", **ROBUST},
    "clan-jitter-self-early": {
        "method": "clan",
        **ROBUST,
        **ADVERSARY,
        "loss.self-training-start": 0.25,
        "loss.self-training-share": 0.7,
    },
    "minent-0.01": {"method": "minent", "loss.lambda-entropy": 0.01},
}
"""Options tried on CamVid's val alone."""


def flags_of(pair: str, experiment: str) -> dict[str, object]:
    """Every flag of an experiment but its seed and its folder."""
    own = {**TUNING, **FINAL}[experiment]
    return {**PAIRS[pair].domain_flags(), **COMMON, **PAIRS[pair].flags, **own}


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
