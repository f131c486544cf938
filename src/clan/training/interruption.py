"""Signals that ask a run to end: it finishes its iteration and saves before it does."""

import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Literal

from clan.core.errors import Interrupted
from clan.core.output import write_unbuffered

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)  # Windows has no SIGUSR1


Resume = bool | Literal["auto"]
"""Whether a run goes on from a state: "auto" means from the latest, if there is one."""


class Interruption:
    """Within its block the first signal is only noted; a second SIGINT ends the process at once.

    Once one came, SIGTERM and SIGUSR1 stay without effect after the block too: launchers send them several times, and
    the process is still to say how to go on.

    Args:
        resume: how the run was started.

    Attributes:
        signal: the number of the first that came, 0 if none did.
        say: takes a sentence for the user; it is called in the handler, so it must not print.
    """

    def __init__(self, resume: Resume = False) -> None:
        self.resume: Resume = resume
        self.say: Callable[[str], None] = write_unbuffered
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():  # others cannot take signals
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
            for number in SIGNALS:
                # System calls go on afterwards: Paddle's store takes an interrupted one for a lost connection.
                signal.siginterrupt(number, False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if number == signal.SIGINT or not self.signal:
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = ""
        if number == signal.SIGINT:
            # The system's own handler: Python's would wait for the end of a long computation.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            again = "; again: leaving at once"
        if not self.signal:
            self.signal = number
            self.say(f"{signal.Signals(number).name}: finishing the iteration and saving{again}")

    def stop(self, iteration: int, total: int) -> Interrupted:
        """What ends the run once it is saved."""
        number = self.signal or signal.SIGTERM  # of another rank's, the number is not known
        return Interrupted(
            f"{signal.Signals(number).name}: stopped at iteration {iteration} of {total}, all saved; go on with: "
            f"{resuming_command(self.resume)}",
            number,
        )


def resuming_command(resume: Resume) -> str:
    """The command that this process was started with, as one that resumes.

    Args:
        resume: whether it does already.
    """
    if "PADDLE_TRAINERS_NUM" in os.environ:
        return "the same command" + (", with --resume" if not resume else "")
    command = sys.orig_argv
    if not resume:
        text = "\0".join(command)
        command = [*re.sub(r"\0--resume(=|\0)never(?=\0|$)", "", text).split("\0"), "--resume"]
    return shlex.join(command)
