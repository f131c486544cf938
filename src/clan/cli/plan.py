"""`clan plan`: what a run will take, from the flags of `clan train`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from clan.cli.commandline import Parser, fail
from clan.cli.train import read_configuration, start_parser
from clan.core.errors import LESS_MEMORY, ClanError
from clan.core.output import clock, speak, worded

if TYPE_CHECKING:
    from clan.run.config import Config
    from clan.training.fitting import Changed, Limits
    from clan.training.plan import Estimate, Speed

ABOUT = (
    "Nothing is trained or written: a process of its own measures a few steps on drawn images at two sizes, and memory "
    "and time are extrapolated to the sizes of the run; --no-measure leaves that out. The data are counted where they "
    "are on the disk. --memory and --hours try what would make the run fit. --images-per-second or --step-seconds give "
    "the speed of another device, and --presets plans all published presets for it. "
)


def plan_command(arguments: Sequence[str]) -> None:
    """Predict what a run will take, from the flags of clan train."""
    speak({LESS_MEMORY: "plan smaller --source.size and --target.size, or a smaller --augmentation.crop-size"})
    start = plan_parser()
    flags, config = read_configuration(start, arguments, "Predict what a run will take.", ABOUT, _notify)
    from clan.training.plan import Speed

    speed = Speed(flags.images_per_second, flags.step_seconds)
    measured = flags.measure if flags.measure is not None else not flags.presets
    if flags.presets:
        _require_presets_alone(arguments)
        _plan_presets(config, speed, measured, flags)
    else:
        _plan_run(config, speed, measured, flags)


def plan_parser() -> Parser:
    """Returns the parser of the command's own flags."""
    start = start_parser("clan plan")
    add = start.add_argument
    add("--memory", type=memory_size, metavar="SIZE", help="what the device has, such as 8GB: show what makes it fit")
    add("--hours", type=_positive, metavar="X", help="what the run may take: show what makes it fit")
    speed = start.add_mutually_exclusive_group()
    speed.add_argument(
        "--images-per-second", type=_positive, metavar="X", help="speed of another device, images of both domains"
    )
    speed.add_argument("--step-seconds", type=_positive, metavar="X", help="seconds of an iteration on another device")
    add("--presets", action="store_true", help="plan all published presets, from both sources")
    add(
        "--measure",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="measure steps on this device; by default yes, with --presets no",
    )
    add("--json", dest="output", action="store_const", const="json", default="text", help="print JSON")
    return start


def memory_size(text: str) -> float:
    """Converts `8GB`, `8 GiB`, `800MB` or `8` (GB) to bytes.

    Raises:
        ArgumentTypeError: it is nothing of this kind.
    """
    units = {"": 1e9, "g": 1e9, "gb": 1e9, "gib": 2**30, "m": 1e6, "mb": 1e6, "mib": 2**20}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", text.strip())
    if found is None or found[2].lower() not in units or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of a memory such as 8GB")
    return float(found[1]) * units[found[2].lower()]


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e-9 <= value <= 1e9:  # what is computed of them stays finite
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, up to 1e9")
    return value


def _require_presets_alone(arguments: Sequence[str]) -> None:
    """Fails if a flag is given that presets as they were published do not have."""
    known = {"presets", "device", "gpu", "images-per-second", "step-seconds", "measure", "no-measure", "json"}
    names = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    if others := [name for name in names if name[2:] not in known]:
        fail(f"--presets plans them as they were published: leave {others[0]} out, or name one --preset")


def _notify(sentence: str) -> None:
    print(worded(sentence), file=sys.stderr, flush=True)


def _plan_run(config: Config, speed: Speed, measured: bool, flags: argparse.Namespace) -> None:
    from clan.training.fitting import Limits
    from clan.training.plan import estimate

    limits = Limits(flags.memory, flags.hours)
    if not measured and (flags.memory or (flags.hours and speed.seconds(config) is None)):
        fail("--memory and --hours need measured steps: leave --no-measure out")

    def predict(changed: Config) -> Estimate:
        return estimate(changed, measured=measured, speed=speed, notify=_notify)

    def say(sentence: str) -> None:
        if flags.output == "text":
            print(sentence, flush=True)

    first = predict(config)
    record = first.record()
    say(_text(first))
    if flags.memory or flags.hours:
        record |= _fitted(first, limits, predict, say)
    if flags.output == "json":
        _print_json(record)


def _fitted(
    first: Estimate, limits: Limits, predict: Callable[[Config], Estimate], say: Callable[[str], None]
) -> dict[str, Any]:
    """Returns whether a run fits, the changes that were tried, and why none was; says all of it."""
    from clan.training.fitting import proposals

    if limits.hold(first):
        say("it fits")
        return {"fits": True, "changes": [], "trouble": None}
    if trouble := _not_judged(first, limits):
        say(trouble)
        return {"fits": False, "changes": [], "trouble": trouble}
    say("it does not fit; trying what would make it fit:")
    changes = []
    for proposal in proposals(first, limits, predict):
        changes.append(_proposal_record(proposal, proposal.fits(limits)))
        say(_proposal_text(proposal, proposal.fits(limits)))
    if not any(change["fits"] for change in changes):
        tried = "none of these fits" if changes else "there is no change to try"
        say(f"{tried}: raise --memory or --hours, or take a smaller --network.backbone")
    return {"fits": False, "changes": changes, "trouble": None}


def _not_judged(plan: Estimate, limits: Limits) -> str | None:
    """Returns why changes of a run that does not hold the limits cannot be judged; None: they can."""
    from dataclasses import replace

    if limits.memory and plan.memory() is None:
        return "it is not known whether it fits, since this system does not report the peak memory: leave --memory out"
    if plan.speed.seconds(plan.config) is not None and replace(limits, hours=None).hold(plan):
        return "it does not fit, and no change can be judged at a named speed: raise --hours, or lower --num-steps-stop"
    return None


def _plan_presets(config: Config, speed: Speed, measured: bool, flags: argparse.Namespace) -> None:
    from clan.run.presets import PRESETS, SOURCE_ROOTS
    from clan.training.plan import estimate

    records = []
    if flags.output == "text":
        print(_row(["preset", "source", "steps", "images", "epochs of target", "hours", "peak memory", "disk"]))
    for name, make in PRESETS.items():
        for source in SOURCE_ROOTS:
            one = make(source).model_copy(update={"device": config.device, "gpu": config.gpu})
            try:
                plan = estimate(one, measured=measured, speed=speed, notify=_notify)
                records.append({"preset": name, "source": source, **plan.record(), "trouble": None})
            except ClanError as error:  # the others may be smaller
                records.append({"preset": name, "source": source, "trouble": worded(str(error))})
                if flags.output == "text":
                    print(f"{name:>8} {source:>8} {records[-1]['trouble']}", flush=True)
                continue
            if flags.output == "text":
                cells = [name, source, f"{one.stop:,}", f"{plan.seen():,}", _number(plan.epochs("target"))]
                cells += [_number(plan.hours()), _bytes(plan.memory()), _bytes(plan.facts["disk_bytes"])]
                print(_row(cells), flush=True)
    if all(record["trouble"] for record in records):
        fail(records[-1]["trouble"])
    if flags.output == "json":
        _print_json(records)


def _print_json(record: Any) -> None:
    from json import dumps

    print(dumps(record, indent=2))


def _row(cells: Sequence[str]) -> str:
    widths = (8, 8, 9, 9, 17, 9, 12, 9)
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _bytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e9:.2f} GB"


def _text(plan: Estimate) -> str:
    """Formats a plan."""
    from clan.training.plan import free_space

    config, seconds = plan.config, plan.seconds()
    per_step = config.batch_size * config.iter_size
    lines = [
        f"method {config.method.name}, {config.network.backbone}, {plan.facts['parameters'] / 1e6:.1f} M parameters"
    ]
    lines.append(f"steps        {config.stop:,}, each of {per_step} image{'s' * (per_step > 1)} of each domain")
    for role in ("source", "target"):
        lines.append(f"{role:12} {_images(plan, role)}")
    if seconds is None:
        lines.append("time         not measured: give --images-per-second or --step-seconds, or leave --no-measure out")
    else:
        by = "as you say" if plan.speed.seconds(config) is not None else f"measured on {plan.facts['device']}"
        lines.append(f"time         {clock((plan.hours() or 0) * 3600)} (h:mm:ss), {seconds:.3g} s a step, {by}")
        if remark := _busy(plan):
            lines.append(f"             {remark}")
    if plan.sizes:
        words = [f"{_bytes(plan.memory('host'))} of this process"]
        words += [f"{_bytes(plan.memory('gpu'))} on the GPU"] if plan.device == "gpu" else []
        lines.append(f"peak memory  {', '.join(words)}")
    disk = f"{_bytes(plan.facts['disk_bytes'])} for snapshots and states"
    lines.append(f"disk         {disk}; {_bytes(free_space(config.snapshot_dir))} are free in {config.snapshot_dir}")
    return "\n".join(lines)


def _images(plan: Estimate, role: str) -> str:
    """Formats the number of images of a domain and the epochs."""
    known, epochs = plan.images(role), plan.epochs(role)
    if known is None or epochs is None:
        return f"{plan.seen():,} images; epochs are not known: {plan.facts['images'][role]}"
    count, counted = known
    of = f"{count:,} images" if counted else f"{count:,} published images (they are not on the disk)"
    return f"{plan.seen():,} images, {epochs:,.1f} epochs of {of}"


def _busy(plan: Estimate) -> str | None:
    """Returns a remark if other programs took much of the processor while steps were measured."""
    if plan.device == "gpu" or not plan.sizes or plan.speed.seconds(plan.config) is not None:
        return None
    elapsed, own = plan.sizes[-1]["pass"]
    if own > 0.6 * elapsed:
        return None
    return (
        f"the steps had {own / elapsed:.1f} of {plan.facts['cores']} cores while measured: on an idle machine "
        "the run is shorter"
    )


def _proposal_text(proposal: Changed, fits: bool) -> str:
    if proposal.estimate is None:
        return f"  ?    {proposal.flags}: {proposal.trouble}"
    plan = proposal.estimate
    memory, hours = _bytes(plan.memory()), _number(plan.hours())
    return f"  {'fits' if fits else 'no  '} {memory:>9} {hours:>8} h  {proposal.flags}"


def _proposal_record(proposal: Changed, fits: bool) -> dict[str, Any]:
    plan = proposal.estimate
    return {
        "flags": proposal.flags,
        "fits": fits,
        "trouble": proposal.trouble or None,
        "peak_memory_bytes": plan and plan.memory(),
        "hours": plan and plan.hours(),
    }
