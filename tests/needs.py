"""What tests may need that is not a dependency, how to get it, and which of it may be missing in CI."""

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Need:
    """Something that may be missing.

    Args:
        what: it is.
        remedy: how to get it.
        optional: whether CI may go without.
    """

    what: str
    remedy: str
    optional: bool = False

    @property
    def reason(self) -> str:
        return f"{self.what} missing: {self.remedy}"


PROGRAMS = "`make programs` installs it (Debian and Ubuntu, as root), or the system's package manager"

NEEDS = {
    "browser": Need("Chromium or its chromedriver", PROGRAMS),
    "fonts": Need("a font with Chinese characters", PROGRAMS),
    "extras": Need("matplotlib or scikit-learn", "`make setup` installs them, or pip install -e '.[inspect]'"),
    "shared": Need("../shared, real data and results of the official code", "it belongs to others", optional=True),
    "torch": Need("PyTorch to compare with", "pip install torch", optional=True),
    "visualdl": Need("VisualDL", "pip install visualdl", optional=True),
    "wandb": Need("Weights & Biases", "pip install wandb", optional=True),
    "disk": Need("the right to mount a small disk", "run as root, outside an unprivileged container", optional=True),
    "mkl": Need("a Paddle with MKL", "its x86 builds have it", optional=True),
    "proc": Need("/proc", "run on Linux", optional=True),
    "cpu build": Need("a CPU build of Paddle", "pip install paddlepaddle", optional=True),
}


def needed(name: str, found: object) -> None:
    """Skips the test, or all of a module, unless something of `NEEDS` was found."""
    if not found:
        pytest.skip(NEEDS[name].reason, allow_module_level=True)


def module(name: str, need: str):
    """A package, imported; without it the test or module is skipped."""
    return pytest.importorskip(name, reason=NEEDS[need].reason, exc_type=ImportError)
