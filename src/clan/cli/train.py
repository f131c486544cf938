"""`clan train`, and reading a run's configuration from flags, which `clan plan` does too."""

from __future__ import annotations

import functools
import itertools
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clan.cli.arguments import parse_section
from clan.cli.commandline import Parser, add_resume, resumes
from clan.core import runtime
from clan.core.output import speak

if TYPE_CHECKING:
    from clan.run.config import Config


def train_command(arguments: Sequence[str]) -> None:
    """Train from a preset or a config.yaml, with any field overridden."""
    speak({"--num-classes": "--network.num-classes"})
    start = start_parser("clan train")
    add_resume(start)
    shown = start.add_mutually_exclusive_group()
    option = functools.partial(shown.add_argument, dest="output", action="store_const", default="text")
    option("--quiet", const="quiet", help="print only errors and the last snapshot")
    option("--json", const="json", help="print one JSON object per line")
    about = (
        "--resume continues the run "
        "in the snapshot folder, --resume auto does so or, without one, starts it, --resume-with-changes goes on "
        "under options that changed. --quiet prints only errors and the last snapshot, --json prints one object "
        "per line. "
    )
    flags, config = read_configuration(start, arguments, "Train a segmenter.", about)
    runtime.import_paddle()
    from clan.training.run import train as run_training

    run_training(config, resume=resumes(flags), accept_changes=flags.resume_with_changes, output=flags.output)


def start_parser(prog: str) -> Parser:
    """Returns a parser of the flags that say where a configuration starts from."""
    from clan.run.method_options import METHOD_OPTIONS
    from clan.run.presets import PRESETS, preset_name

    start = Parser(prog=prog, add_help=False)
    start.add_argument("--preset", type=preset_name, default="official", metavar="{" + ",".join(PRESETS) + "}")
    start.add_argument("--method", choices=METHOD_OPTIONS)
    start.add_argument("--source", metavar="NAME|FILE", help="synthia, gta5 or a description file")
    start.add_argument("--target", metavar="NAME|FILE", help="cityscapes or a description file")
    start.add_argument("--classes", type=Path, metavar="NAME|FILE")
    start.add_argument("--config", type=Path, metavar="FILE", help="the config.yaml of another run")
    return start


def read_configuration(
    start: Parser,
    arguments: Sequence[str],
    purpose: str,
    about: str,
    notify: Callable[[str], None] | None = None,
) -> tuple[Namespace, Config]:
    """Reads a configuration from the flags of a command.

    Args:
        start: parser of `start_parser`, with the command's own flags.
        arguments: the command line.
        purpose: first sentence of the help.
        about: sentences on the command's own flags.
        notify: takes sentences for the user; None: the display of `flags.output`.

    Returns:
        The values of `start`'s flags, and the configuration.
    """
    from clan.data.domains import config_for_domains, load_classes, named_domain
    from clan.datasets import Classes, Description
    from clan.run.config import load
    from clan.run.method_options import METHOD_OPTIONS, known_flags, switched
    from clan.run.presets import PRESETS, SOURCE_ROOTS
    from clan.training.display import open_display

    flags, rest = start.parse_known_args(arguments)
    source = flags.source if flags.source in SOURCE_ROOTS else None
    base = load(flags.config) if flags.config else PRESETS[flags.preset](source or "synthia")
    domains = {"source": None if source and not flags.config else flags.source, "target": flags.target}
    if any(domains.values()) or flags.classes:
        roots = {role: _given(f"--{role}.root", rest) for role in domains}
        base = config_for_domains(
            base, domains, flags.classes, roots=roots, notify=notify or open_display(flags.output).note
        )
    if flags.method:
        base = base.model_copy(update={"method": switched(base.method, flags.method)})
    help_text = (
        f"{purpose} First choose where to start from: --preset {{{','.join(PRESETS)}}} (official), "
        "--source (synthia, gta5 or the description file of your own) and --target (cityscapes or a description "
        "file) with --classes, the classes that both share (a file, cityscapes, synthia-16 or synthia-13), or "
        "--config FILE, the config.yaml of another run; and "
        f"--method {{{','.join(METHOD_OPTIONS)}}} (clan), each with options of its own. {about}"
        "Then override any field; the defaults shown are those of what you chose."
    )
    readers = {Description: lambda name: named_domain(name).description, Classes: lambda path: load_classes(Path(path))}
    return flags, parse_section(base, known_flags(rest, base.method), help_text, readers, start)


def _given(flag: str, arguments: Sequence[str]) -> str | None:
    """Returns the value of a flag, `--x value` or `--x=value`; None: the flag is not given."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        if argument == flag:
            return following
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None
