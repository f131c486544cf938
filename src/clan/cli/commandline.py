"""Shared by all commands: a strict parser, errors as one sentence with exit code 2, common flags."""

import argparse
import difflib
import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, Literal, NoReturn

from clan.core.errors import ClanError, Interrupted
from clan.core.output import lost_output, nowhere, open_streams, speak, worded
from clan.core.runtime import restart_with_huge_pages

_UNUSABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE)
"""What the system says of a file or folder that is there, or may be, and cannot be looked at."""


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` with errors of one sentence and without abbreviated flags."""

    def __init__(self, **options: Any) -> None:
        usual = {"allow_abbrev": False, "formatter_class": argparse.ArgumentDefaultsHelpFormatter}
        super().__init__(**{**usual, **options})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parses as argparse does; the error for an unknown flag suggests the most similar one."""
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
        """Prints a message and ends the program with exit code 2."""
        fail(f"{message}; see {self.prog} --help")


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Adds --resume and --resume-with-changes."""
    parser.add_argument(
        "--resume",
        nargs="?",
        choices=("auto", "must", "never"),
        const="must",
        default="never",
        help="continue the run in the snapshot folder; auto: only if it has a state, else start a new run",
    )
    parser.add_argument(
        "--resume-with-changes", action="store_true", default=False, help="continue it under options that changed"
    )


def resumes(flags: argparse.Namespace) -> bool | Literal["auto"]:
    """Returns the value of `train(resume=…)` for the flags of `add_resume`."""
    if flags.resume == "auto":
        return "auto"
    return flags.resume == "must" or flags.resume_with_changes


def size(text: str) -> tuple[int, int]:
    """`WIDTH,HEIGHT` → two positive integers."""
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write WIDTH,HEIGHT such as 1280,760")
    return int(parts[0]), int(parts[1])


def ids_wording(label_ids: bool) -> dict[str, str]:
    """The wording, for `speak`, of errors of scoring: what `prediction_ids` is called by --label-ids."""
    return {"set prediction_ids": "omit --label-ids" if label_ids else "give --label-ids"}


def fail(message: str) -> NoReturn:
    """Prints a message and ends the program with exit code 2."""
    print(f"error: {worded(message)}", file=sys.stderr)
    raise SystemExit(2)


def run(main: Callable[[], None], *, computes: bool = False) -> None:
    """Runs a command; exits with 2 and one sentence after an error of the user's, with 128 + n after signal n.

    Under Paddle's launcher only the first process prints; the others print only the error that ends them.

    Args:
        main: the command.
        computes: whether it runs networks, which are faster with memory in huge pages.
    """
    if computes and not {"-h", "--help"} & set(sys.argv):
        restart_with_huge_pages()
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
            # The launcher terminates all processes when one has exited; keep this one's exit code.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        fail(str(error))
    except (MemoryError, RuntimeError, OSError, SystemError) as error:
        if (sentence := _explained(error)) is None:
            raise
        fail(sentence)
    except Interrupted as stop:
        print(worded(str(stop)), file=sys.stderr)
        raise SystemExit(128 + stop.signal) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    if reason := lost_output():
        fail(f"not all of the output could be written ({reason}): free disk space or write it elsewhere")


def _explained(error: Exception) -> str | None:
    """A sentence on an exception of the device, or of a path that the system refuses; None: it is a bug."""
    device = sys.modules.get("clan.core.device")  # not imported here: it imports Paddle
    if device is not None and (sentence := device.explain(error)) is not None:
        return str(sentence)
    if isinstance(error, OSError) and error.errno in _UNUSABLE and isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)} cannot be used ({error.strerror}): check its name and permissions"
    return None


def model(text: str) -> str:
    """Converts the port's `--model`: DeepLab in any case, which the port also calls ResNet."""
    if text.lower() not in ("deeplab", "resnet"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a model: there is DeepLab")
    return "deeplab"
