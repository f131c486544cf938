"""`CLAN_train.py`: the seed's flags, on a preset's configuration."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from clan.cli.commandline import Parser, add_resume, model, resumes, run, size
from clan.core import runtime
from clan.core.errors import ConfigError
from clan.core.output import speak, worded
from clan.core.runtime import Precision
from clan.core.schema import build
from clan.datasets import load_classes
from clan.run.config import Config
from clan.run.presets import PRESETS, SOURCE_ROOTS, preset_name

DEFAULT_WEIGHTS = Path("./model/pretrained.pdparams")
"""Where the seed looks for initial weights; they need not be there."""

FLAG_FIELDS: dict[str, tuple[str, ...]] = {
    "batch_size": ("batch_size",),
    "iter_size": ("iter_size",),
    "num_workers": ("num_workers",),
    "model": ("network", "model"),
    "data_dir": ("source", "root"),
    "data_list": ("source", "list_file"),
    "input_size_source": ("source", "size"),
    "target": ("target", "dataset"),
    "data_dir_target": ("target", "root"),
    "data_list_target": ("target", "list_file"),
    "input_size_target": ("target", "size"),
    "set": ("target", "split"),
    "ignore_label": ("ignore_label",),
    "num_classes": ("network", "num_classes"),
    "is_training": ("network", "batch_norm"),
    "learning_rate": ("optimizer", "learning_rate"),
    "learning_rate_D": ("optimizer", "discriminator_learning_rate"),
    "momentum": ("optimizer", "momentum"),
    "weight_decay": ("optimizer", "weight_decay"),
    "power": ("optimizer", "power"),
    "num_steps": ("num_steps",),
    "num_steps_stop": ("num_steps_stop",),
    "warmup_steps": ("warmup_steps",),
    "lambda_local": ("method", "lambda_local"),
    "shuffle": ("shuffle",),
    "random_scale": ("augmentation", "random_scale"),
    "random_mirror": ("augmentation", "random_mirror"),
    "random_seed": ("seed",),
    "restore_from": ("network", "restore_from"),
    "restore_from_D": ("network", "restore_discriminator_from"),
    "restore_heads": ("network", "restore_heads"),
    "save_num_images": ("save_images",),
    "save_pred_every": ("save_every",),
    "keep_last": ("keep_last",),
    "on_nonfinite": ("on_nonfinite",),
    "tolerate_bad_samples": ("tolerate_bad_samples",),
    "data_timeout": ("data_timeout",),
    "snapshot_dir": ("snapshot_dir",),
    "device": ("device",),
    "gpu": ("gpu",),
    "precision": ("precision",),
    "sync_batch_norm": ("sync_batch_norm",),
}
"""Flag → the field of the configuration that it sets. A flag that is not given leaves the preset's value."""


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


WORDING = {_flag(".".join(path)): _flag(flag) for flag, path in FLAG_FIELDS.items()}
"""A flag of `clan train`, as errors name it, and the one that this command has in its place."""


def parser() -> argparse.ArgumentParser:
    """The seed's flags and those added since."""
    given = Parser(
        prog="CLAN_train.py",
        description="Train CLAN from SYNTHIA or GTA5 to Cityscapes.",
        argument_default=argparse.SUPPRESS,
        epilog="Flags that are not given keep the value of the preset (and of the source).",
    )
    switch: Any = argparse.BooleanOptionalAction
    add = given.add_argument
    presets = "{" + ",".join(PRESETS) + "}"
    about = "which of the published variants to compute"
    add("--preset", type=preset_name, metavar=presets, default="official", help=about)
    add("--source", type=_source, default="synthia", help="SYNTHIA or GTA5; sets data, size and λ_local")
    add_resume(given)

    data = given.add_argument_group("data").add_argument
    data("--target", type=_target, help="Cityscapes")
    data("--data-dir", type=Path, help="folder of the source")
    data("--data-list", type=Path, help="text file of source image names, one a line")
    data("--input-size-source", type=size, help="WIDTH,HEIGHT of source images")
    data("--data-dir-target", type=Path, help="folder of the target")
    data("--data-list-target", type=Path, help="text file of target image names, one a line")
    data("--input-size-target", type=size, help="WIDTH,HEIGHT of target images")
    data("--set", help="split of the target to adapt to, such as train")
    data("--classes", type=Path, help="what to train: cityscapes (19 classes), synthia-16, synthia-13, or a file")
    data("--ignore-label", type=int, help="trainId that takes part in no loss")
    data("--batch-size", type=int, help="images of each domain per pass")
    data("--num-workers", type=int, help="threads preparing samples")
    data("--data-timeout", type=float, help="seconds to wait for a sample before the run ends")
    data("--tolerate-bad-samples", type=int, help="samples that may turn out unreadable, each recorded")
    data("--shuffle", action=switch, help="random order of samples")
    data("--random-scale", action=switch, help="random image scaling")
    data("--random-mirror", action=switch, help="random mirroring")

    network = given.add_argument_group("network").add_argument
    network("--model", type=model, help="kind of network; there is DeepLab")
    network("--num-classes", type=int, help="number of classes; another one than that of the classes is refused")
    network("--restore-from", type=_weights, help=f"initial weights, or none; default: {DEFAULT_WEIGHTS} if there")
    network("--restore-from-D", type=Path, help="initial weights of the discriminator")
    network("--not-restore-last", dest="restore_heads", action="store_false", help="leave the heads random")
    network("--sync-batch-norm", action=switch, help="batch statistics of all processes together, on GPUs")
    network("--is-training", action="store_const", const="official", help="batch statistics, running ones updated")
    network("--no-is-training", dest="is_training", action="store_const", const="frozen", help="running statistics")

    optimisation = given.add_argument_group("optimisation").add_argument
    optimisation("--iter-size", type=int, help="passes per step")
    optimisation("--learning-rate", type=float, help="base rate of the segmenter")
    optimisation("--learning-rate-D", type=float, help="base rate of the discriminator")
    optimisation("--momentum", type=float, help="momentum of SGD")
    optimisation("--weight-decay", type=float, help="L2 decay of the segmenter")
    optimisation("--power", type=float, help="exponent of the rates' polynomial decay")
    optimisation("--num-steps", type=int, help="iterations that schedules are laid out for")
    optimisation("--num-steps-stop", type=int, help="iteration to stop at")
    optimisation("--warmup-steps", type=int, help="iterations of warm-up; default: a twentieth of --num-steps")
    optimisation("--lambda-local", type=float, help="weight of the heads' discrepancy")
    optimisation("--on-nonfinite", choices=("stop", "skip"), help="upon a loss or gradient that is not finite")
    optimisation("--random-seed", type=int, help="seed of order, augmentation and initial weights")

    output = given.add_argument_group("output and device").add_argument
    output("--snapshot-dir", type=Path, help="folder of everything the run writes")
    output("--save-pred-every", type=int, help="iterations between snapshots")
    output("--keep-last", type=int, help="states to resume from that are kept")
    output("--save-num-images", type=int, help="colour masks of target images saved with each snapshot")
    output("--device", choices=("auto", "cpu", "gpu"), help="where to compute")
    output("--gpu", type=int, help="index of the GPU among the visible ones")
    output("--precision", choices=get_args(Precision), help="of convolutions and matrix products, on a GPU")
    return given


def configuration(flags: argparse.Namespace) -> Config:
    """The preset of the flags' source with the given flags laid over it.

    Raises:
        ConfigError: a value does not fit.
    """
    config = PRESETS[flags.preset](flags.source)
    values = config.model_dump()
    if DEFAULT_WEIGHTS.is_file():
        values["network"]["restore_from"] = DEFAULT_WEIGHTS
    if hasattr(flags, "classes"):
        values["classes"] = load_classes(flags.classes)
        values["network"]["num_classes"] = len(values["classes"].classes)
    for flag, (*sections, field) in FLAG_FIELDS.items():
        if hasattr(flags, flag):
            section = values
            for name in sections:
                section = section[name]
            section[field] = getattr(flags, flag)
    try:
        return build(Config, values, origin="CLAN_train.py")
    except ConfigError as error:
        nested = {".".join(path): _flag(flag) for flag, path in FLAG_FIELDS.items() if path[1:]}
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


def entry() -> None:
    """What the script at the repository's root calls."""
    run(main)
