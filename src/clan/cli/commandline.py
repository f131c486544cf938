"""What every command shares: a strict parser, and errors as one sentence."""

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, Literal, NoReturn

from clan.core.errors import ClanError, Interrupted
from clan.core.output import lost_output, nowhere, open_streams, speak, worded


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are one sentence and whose flags cannot be abbreviated."""

    def __init__(self, **options: Any) -> None:
        usual = {"allow_abbrev": False, "formatter_class": argparse.ArgumentDefaultsHelpFormatter}
        super().__init__(**{**usual, **options})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Like argparse's, but what is not known is answered with the flag that resembles it most."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = min(unknown, key=lambda word: not word.startswith("-")).partition("=")[0]  # flags first
            if not word.startswith("-"):
                self.error(f"{word} is one argument too many")
            known = [flag for action in self._actions for flag in action.option_strings]
            close = difflib.get_close_matches(word, known, n=1)
            self.error(f"{word} is not an option here" + (f", {close[0]} is" if close else ""))
        return found

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        fail(f"{message}; see {self.prog} --help")


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say whether a run goes on."""
    parser.add_argument(
        "--resume",
        nargs="?",
        choices=("auto", "must", "never"),
        const="must",
        default="never",
        help="continue the run in the snapshot folder; auto: if it has a state to go on from, else start anew",
    )
    parser.add_argument(
        "--resume-with-changes", action="store_true", default=False, help="continue it under options that changed"
    )


def resumes(flags: argparse.Namespace) -> bool | Literal["auto"]:
    """What the flags of `add_resume` ask for."""
    if flags.resume == "auto":
        return "auto"
    return flags.resume == "must" or flags.resume_with_changes


def size(text: str) -> tuple[int, int]:
    """`WIDTH,HEIGHT` → two positive integers."""
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write WIDTH,HEIGHT such as 1280,760")
    return int(parts[0]), int(parts[1])


def fail(message: str) -> NoReturn:
    """Prints one sentence and ends the program with exit code 2."""
    print(f"error: {worded(message)}", file=sys.stderr)
    raise SystemExit(2)


def run(main: Callable[[], None]) -> None:
    """Runs a command, turning what a user can cause into a sentence and exit code 2; 128 + n after signal n.

    Of the processes that Paddle's launcher starts together the first one alone talks; the others say what ends them.
    """
    open_streams()
    speak({})
    try:
        if os.environ.get("PADDLE_TRAINER_ID", "0") == "0":
            main()
        else:
            with nowhere() as silence, redirect_stdout(silence), redirect_stderr(silence):
                main()
    except ClanError as error:
        if "PADDLE_TRAINER_ID" in os.environ:
            # The launcher ends all when one is gone; this one is going, with an exit code of its own.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        fail(str(error))
    except (MemoryError, RuntimeError, OSError, SystemError) as error:
        device = sys.modules.get("clan.core.device")  # not imported here: it imports Paddle
        if device is None or (sentence := device.explain(error)) is None:
            raise
        fail(str(sentence))
    except Interrupted as stop:
        print(worded(str(stop)), file=sys.stderr)
        raise SystemExit(128 + stop.signal) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    if reason := lost_output():
        fail(f"not all of the output could be written ({reason}): free disk space or write it elsewhere")


def model(text: str) -> str:
    """The seed's `--model`: DeepLab, in any case; ResNet is what the seed called the same network."""
    if text.lower() not in ("deeplab", "resnet"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a model: there is DeepLab")
    return "deeplab"
