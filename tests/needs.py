"""What tests may need that is not a dependency, how to get it, and which of it may be missing in CI.

At its end a run lists what was skipped. With `CI=true` it fails if that was anything but an optional need.
"""

import os
from collections import defaultdict
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
    "export": Need("onnx, onnxruntime or paddle2onnx", "`make setup` installs them, or pip install -e '.[export]'"),
    "serve": Need("FastAPI or uvicorn", "`make setup` installs them, or pip install -e '.[serve]'"),
    "web": Need("ONNX Runtime for browsers", "`make programs` fetches it by npm", optional=True),
    "shared": Need("../shared, real data and results of the official code", "it belongs to others", optional=True),
    "torch": Need("PyTorch to compare with", "pip install torch", optional=True),
    "visualdl": Need("VisualDL", "pip install visualdl", optional=True),
    "wandb": Need("Weights & Biases", "pip install wandb", optional=True),
    "disk": Need("the right to mount a small disk", "run as root, outside an unprivileged container", optional=True),
    "kernels": Need("the kernels for the CPU", "`clan doctor` says what keeps them away"),
    "mkl": Need("a Paddle with MKL", "its x86 builds have it", optional=True),
    "bf16": Need("a processor that multiplies bf16 numbers", "AVX-512 BF16 or AMX, and Paddle's oneDNN", optional=True),
    "proc": Need("/proc", "run on Linux", optional=True),
    "cpu build": Need("a CPU build of Paddle", "pip install paddlepaddle", optional=True),
}


def needed(name: str, found: object) -> None:
    """Skips the test, or all of a module, unless something of `NEEDS` was found."""
    if not found:
        pytest.skip(NEEDS[name].reason, allow_module_level=True)


def module(name: str, need: str):
    """A package, imported; without it the test or module is skipped."""
    return pytest.importorskip(name, reason=NEEDS[need].reason)


def skips(reporter) -> dict[str, set[str]]:
    """Tests by the reason that they were skipped for; a module counts as one."""
    found = defaultdict(set)
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple | list) else str(report.longrepr)
        found[reason.removeprefix("Skipped: ")].add(report.nodeid)
    return dict(found)


def forbidden(reporter) -> list[str]:
    """Reasons that CI takes no skip for."""
    optional = {need.reason for need in NEEDS.values() if need.optional}
    return sorted(skips(reporter).keys() - optional) if os.environ.get("CI", "").lower() in ("1", "true") else []


def pytest_terminal_summary(terminalreporter):
    for reason, tests in sorted(skips(terminalreporter).items()):
        terminalreporter.write_line(f"skipped {len(tests)}, first {min(tests)}: {reason}")
    for reason in forbidden(terminalreporter):
        terminalreporter.write_line(f"CI takes no skip for this: {reason}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and not hasattr(session.config, "workerinput") and forbidden(reporter) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
