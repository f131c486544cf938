"""`CLAN_train.py`: the flags of the PaddlePaddle 2.1 port, applied to a preset's configuration."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from clan.cli.commandline import Parser, add_resume, model, resumes, run, size
from clan.core import runtime
from clan.core.errors import ConfigError
from clan.core.output import speak, worded
from clan.core.schema import build
from clan.datasets import load_classes
from clan.run.config import Config
from clan.run.presets import PRESETS, SOURCE_ROOTS, preset_name

DEFAULT_WEIGHTS = Path("./model/pretrained.pdparams")
"""Default initial weights, as in the port; optional."""


def _source(text: str) -> str:
    name = text.lower()
    if name not in SOURCE_ROOTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a source: there are SYNTHIA and GTA5")
    return name


def _target(text: str) -> str:
    if text.lower() != "cityscapes":
        raise argparse.ArgumentTypeError(f"{text!r} is not a target: there is Cityscapes")
    return "cityscapes"


def _weights(text: str) -> Path | None:
    return None if text.lower() == "none" else Path(text)


GROUPS: dict[str, tuple[tuple[str, str, Any, str], ...]] = {
    "data": (
        ("--target", "target.dataset", _target, "Cityscapes"),
        ("--data-dir", "source.root", Path, "folder of the source"),
        ("--data-list", "source.list_file", Path, "text file of source image names, one a line"),
        ("--input-size-source", "source.size", size, "WIDTH,HEIGHT of source images"),
        ("--data-dir-target", "target.root", Path, "folder of the target"),
        ("--data-list-target", "target.list_file", Path, "text file of target image names, one a line"),
        ("--input-size-target", "target.size", size, "WIDTH,HEIGHT of target images"),
        ("--set", "target.split", str, "split of the target to adapt to, such as train"),
        ("--ignore-label", "ignore_label", int, "trainId that all losses ignore"),
        ("--batch-size", "batch_size", int, "images of each domain per pass"),
        ("--num-workers", "num_workers", int, "threads that prepare samples"),
        ("--data-timeout", "data_timeout", float, "seconds to wait for a sample before the run ends"),
        ("--tolerate-bad-samples", "tolerate_bad_samples", int, "number of unreadable samples to skip"),
        ("--shuffle", "shuffle", bool, "random order of samples"),
        ("--random-scale", "augmentation.random_scale", bool, "random image scaling"),
        ("--random-mirror", "augmentation.random_mirror", bool, "random mirroring"),
    ),
    "network": (
        ("--model", "network.model", model, "kind of network; there is DeepLab"),
        ("--num-classes", "network.num_classes", int, "number of classes; must be that of --classes"),
        ("--restore-from", "network.restore_from", _weights, f"initial weights, or none; default: {DEFAULT_WEIGHTS}"),
        ("--restore-from-D", "network.restore_discriminator_from", Path, "initial weights of the discriminator"),
        ("--not-restore-last", "network.restore_heads", False, "initialise the heads at random"),
        ("--is-training", "network.batch_norm", "official", "batch statistics, running ones updated"),
        ("--no-is-training", "network.batch_norm", "frozen", "running statistics, not updated"),
        ("--sync-batch-norm", "sync_batch_norm", bool, "batch statistics over all processes, on GPUs"),
    ),
    "optimisation": (
        ("--iter-size", "iter_size", int, "passes per step"),
        ("--learning-rate", "optimizer.learning_rate", float, "base learning rate of the segmenter"),
        ("--learning-rate-D", "optimizer.discriminator_learning_rate", float, "that of the discriminator"),
        ("--momentum", "optimizer.momentum", float, "momentum of SGD"),
        ("--weight-decay", "optimizer.weight_decay", float, "L2 decay of the segmenter"),
        ("--power", "optimizer.power", float, "exponent of the polynomial decay of learning rates"),
        ("--num-steps", "num_steps", int, "number of iterations of the schedules"),
        ("--num-steps-stop", "num_steps_stop", int, "iteration to stop at"),
        ("--warmup-steps", "warmup_steps", int, "warm-up iterations; default: --num-steps / 20"),
        ("--lambda-local", "method.lambda_local", float, "weight of the heads' discrepancy"),
        ("--on-nonfinite", "on_nonfinite", None, "reaction to a loss or gradient that is not finite"),
        ("--random-seed", "seed", int, "random seed of sample order, augmentation and initial weights"),
    ),
    "output and device": (
        ("--snapshot-dir", "snapshot_dir", Path, "output folder of the run"),
        ("--save-pred-every", "save_every", int, "iterations between snapshots"),
        ("--keep-last", "keep_last", int, "number of states to keep"),
        ("--save-num-images", "save_images", int, "number of colour masks saved with each snapshot"),
        ("--device", "device", None, "device to compute on"),
        ("--gpu", "gpu", int, "index among the visible GPUs"),
        ("--precision", "precision", None, "of convolutions and matrix products, on a GPU"),
    ),
}
"""Flag, field of the configuration, value and help, by group.

The value is a converter, `bool` for a switch with `--no-`, None for the choices of the field, or else a constant.
"""

FLAG_FIELDS = {flag: field for options in GROUPS.values() for flag, field, _, _ in options}
"""Flag → field that it sets. Without the flag the preset's value is kept."""

WORDING = {f"--{field.replace('_', '-')}": flag for flag, field in reversed(FLAG_FIELDS.items())}
"""Flag of `clan train`, as errors name it → flag of this command."""


def _argument(flag: str, field: str, value: Any) -> dict[str, Any]:
    """The options of `add_argument` for an entry of `GROUPS`."""
    if value is bool:
        return {"action": argparse.BooleanOptionalAction}
    if value is None:
        return {"choices": get_args(Config.model_fields[field].annotation)}
    if callable(value):
        return {"type": value, "metavar": flag.strip("-").replace("-", "_").upper()}
    return {"action": "store_const", "const": value}


def parser() -> argparse.ArgumentParser:
    """Builds the parser: the port's flags and those added since."""
    given = Parser(
        prog="CLAN_train.py",
        description="Train CLAN from SYNTHIA or GTA5 to Cityscapes.",
        argument_default=argparse.SUPPRESS,
        epilog="Flags that are not given keep the value of the preset (and of the source).",
    )
    presets = "{" + ",".join(PRESETS) + "}"
    about = "which of the published variants to compute"
    given.add_argument("--preset", type=preset_name, metavar=presets, default="official", help=about)
    about = "SYNTHIA or GTA5; sets data, size and λ_local"
    given.add_argument("--source", type=_source, default="synthia", help=about)
    about = "classes to train: cityscapes (19 classes), synthia-16, synthia-13, or a file"
    given.add_argument("--classes", type=Path, help=about)
    add_resume(given)
    for title, options in GROUPS.items():
        group = given.add_argument_group(title)
        for flag, field, value, text in options:
            group.add_argument(flag, dest=field, help=text, **_argument(flag, field, value))
    return given


def configuration(flags: argparse.Namespace) -> Config:
    """Overrides the preset of the flags' source with the given flags.

    What they have no flag for follows them: crops are no larger than the images, rows that a method leaves out are in
    proportion to crops, and the warm-up is a part of the run.

    Raises:
        ConfigError: a value is invalid.
    """
    values = PRESETS[flags.preset](flags.source).model_dump()
    if DEFAULT_WEIGHTS.is_file() and values["network"]["backbone"].startswith("resnet"):
        values["network"]["restore_from"] = DEFAULT_WEIGHTS
    if values["warmup_steps"] and hasattr(flags, "num_steps"):
        values["warmup_steps"] = None
    if hasattr(flags, "classes"):
        values["classes"] = load_classes(flags.classes)
        values["network"]["num_classes"] = len(values["classes"].classes)
    for name in vars(flags).keys() & set(FLAG_FIELDS.values()):
        section, _, field = name.rpartition(".")
        (values[section] if section else values)[field] = getattr(flags, name)
    if crop := values["augmentation"]["crop_size"]:
        fitting = tuple(map(min, crop, values["source"]["size"], values["target"]["size"]))
        values["augmentation"]["crop_size"] = fitting
        for name in {"ignore_top", "ignore_bottom"} & values["method"].keys():
            values["method"][name] = values["method"][name] * fitting[1] // crop[1]
    try:
        return build(Config, values, origin="CLAN_train.py")
    except ConfigError as error:
        nested = {field: flag for flag, field in reversed(FLAG_FIELDS.items()) if "." in field}
        raise ConfigError(worded(str(error), nested)) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains as the command line says."""
    absent = {"weights are given": f"weights are given and there is no {DEFAULT_WEIGHTS}"}
    speak(WORDING | ({} if DEFAULT_WEIGHTS.is_file() else absent))
    flags = parser().parse_args(arguments)
    config = configuration(flags)
    if hasattr(flags, "classes"):
        from clan.data.domains import check_classes

        check_classes(config, print)
    runtime.import_paddle()
    from clan.training.run import train

    train(config, resume=resumes(flags), accept_changes=flags.resume_with_changes)


def entry() -> None:
    """Entry point of `CLAN_train.py`."""
    run(main, computes=True)
