"""What `adaptation.py` runs: pairs of data sets, and the methods and options to compare on each, as data.

Everything is a flag of `clan train`. All experiments of a pair share `COMMON` and differ in what stands beside their
name alone.
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

PROPORTIONS: Flags = {"source.size": (272, 152), "target.size": (224, 168)}
"""Each data set's own, in about as many pixels."""
LARGER: Flags = {"source.size": (320, 240), "target.size": (320, 240), "batch-size": 1}
"""As many pixels in an iteration, of one image instead of two."""

BEST: Flags = {"method": "clan", "augmentation.color-jitter": 0.4, "loss.lambda-self": 1.0}
"""CLAN with the options that tuning favours: on val, 38.2 ± 0.6 over three seeds, where CLAN alone has 34.9 ± 1.6."""

FINAL: Mapping[str, Flags] = {
    "source-only": {"method": "source-only"},
    "adaptsegnet-single": {"method": "adaptsegnet-single"},
    "clan": {"method": "clan"},
    "best": BEST,
    "oracle": {"method": "oracle"},
    "adaptsegnet-multi": {"method": "adaptsegnet-multi"},
    "minent": {"method": "minent"},
    "advent": {"method": "advent"},
}
"""What the tables compare, in their order."""

ONE_SEED = ("adaptsegnet-multi", "minent", "advent")
"""Of `FINAL`, those that run with the first seed alone."""

TUNING: Mapping[str, Flags] = {
    "source-statistics": {"method": "source-only", "augmentation.style": "statistics"},
    "source-amplitude": {"method": "source-only", "augmentation.style": "amplitude"},
    "source-jitter": {"method": "source-only", "augmentation.color-jitter": 0.4},
    "source-sqrt-inverse": {"method": "source-only", "loss.class-weighting": "sqrt-inverse"},
    "source-statistics-jitter": {
        "method": "source-only",
        "augmentation.style": "statistics",
        "augmentation.color-jitter": 0.4,
    },
    "source-proportions": {"method": "source-only", **PROPORTIONS},
    "source-larger": {"method": "source-only", **LARGER},
    "oracle-larger": {"method": "oracle", **LARGER},
    "clan-larger": {"method": "clan", **LARGER},
    "clan-adv-0.01": {"method": "clan", "loss.lambda-adv": 0.01},
    "single-adv-0.01": {"method": "adaptsegnet-single", "loss.lambda-adv": 0.01},
    "clan-judge-1e-3": {"method": "clan", "optimizer.discriminator-learning-rate": 1e-3},
    "clan-adv-0.01-judge-1e-3": {
        "method": "clan",
        "loss.lambda-adv": 0.01,
        "optimizer.discriminator-learning-rate": 1e-3,
    },
    "clan-adv-0.01-undamped": {"method": "clan", "loss.lambda-adv": 0.01, "loss.damping": False},
    "clan-adv-0.01-judge-1e-3-undamped": {
        "method": "clan",
        "loss.lambda-adv": 0.01,
        "loss.damping": False,
        "optimizer.discriminator-learning-rate": 1e-3,
    },
    "clan-adv-0.03-judge-1e-3": {
        "method": "clan",
        "loss.lambda-adv": 0.03,
        "optimizer.discriminator-learning-rate": 1e-3,
    },
    "single-adv-0.01-judge-1e-3": {
        "method": "adaptsegnet-single",
        "loss.lambda-adv": 0.01,
        "optimizer.discriminator-learning-rate": 1e-3,
    },
    "clan-jitter-self-adv-0.01-judge-1e-3": {
        "method": "clan",
        "augmentation.color-jitter": 0.4,
        "loss.lambda-self": 1.0,
        "loss.lambda-adv": 0.01,
        "optimizer.discriminator-learning-rate": 1e-3,
    },
    "clan-statistics": {"method": "clan", "augmentation.style": "statistics"},
    "clan-amplitude": {"method": "clan", "augmentation.style": "amplitude"},
    "clan-sqrt-inverse": {"method": "clan", "loss.class-weighting": "sqrt-inverse"},
    "clan-ema": {"method": "clan", "optimizer.ema-decay": 0.99},
    "clan-per-domain": {"method": "clan", "network.batch-norm": "per-domain"},
    "clan-self": {"method": "clan", "loss.lambda-self": 1.0},
    "clan-jitter": {"method": "clan", "augmentation.color-jitter": 0.4},
    "clan-statistics-self": {"method": "clan", "augmentation.style": "statistics", "loss.lambda-self": 1.0},
    "clan-jitter-self": {"method": "clan", "augmentation.color-jitter": 0.4, "loss.lambda-self": 1.0},
    "clan-jitter-self-proportions": {
        "method": "clan",
        "augmentation.color-jitter": 0.4,
        "loss.lambda-self": 1.0,
        **PROPORTIONS,
    },
    "clan-jitter-self-sqrt-inverse": {
        "method": "clan",
        "augmentation.color-jitter": 0.4,
        "loss.lambda-self": 1.0,
        "loss.class-weighting": "sqrt-inverse",
    },
    "clan-jitter-self-sqrt-inverse-proportions": {
        "method": "clan",
        "augmentation.color-jitter": 0.4,
        "loss.lambda-self": 1.0,
        "loss.class-weighting": "sqrt-inverse",
        **PROPORTIONS,
    },
    "clan-jitter-statistics": {"method": "clan", "augmentation.style": "statistics", "augmentation.color-jitter": 0.4},
}
"""Options one at a time, tried on CamVid's val alone; those that change the source's images cheaply, without CLAN."""


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
