"""Importing Paddle: settings that must stand in the environment before, and faster functions for the CPU after.

Measured on Paddle 3.3.1: importing it sets OMP_NUM_THREADS=1 when that is unset, and its MKL takes a slow
path (SSE, 90 GFLOP/s on two Zen 5 cores) on processors that are not Intel's unless MKL_DEBUG_CPU_TYPE names a
better one first: 5 is AVX2 (220 GFLOP/s), 7 is AVX-512 (440). Nothing here overrides what the user has set.
"""

import contextlib
import importlib
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

from clan.core.errors import ConfigError

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""What a GPU computes convolutions and matrix products in; tf32 rounds their float32 inputs to 10 bits of mantissa."""

OLDEST_PADDLE, NEWEST_PADDLE = "3.0.0", "3.3.1"
"""The versions of Paddle between which this is tested, at both ends."""

CUDA_BUILDS = {"11.8": "cu118", "12.6": "cu126", "12.9": "cu129", "13.0": "cu130"}
"""The CUDA versions that Paddle's installation guide offers builds for, and the folders of its package index."""

PADDLE_INDEX = "https://www.paddlepaddle.org.cn/packages/stable/"


def available_cores() -> int:
    """Cores for this process, of those it may run on (its affinity mask where the system knows one), at least 1.

    Processes that Paddle's launcher started together on one machine share its cores evenly.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of the first processor, such as "vendor_id", "model name" and "flags"; empty elsewhere."""
    try:
        first, _, _ = cpuinfo.read_text(encoding="utf-8").partition("\n\n")
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
"""What MKL's AVX-512 path needs."""


def mkl_path(cpu: Mapping[str, str]) -> str | None:
    """The value of MKL_DEBUG_CPU_TYPE that suits a processor; None: MKL chooses well by itself."""
    flags = set(cpu.get("flags", "").split())
    if cpu.get("vendor_id") != "AuthenticAMD" or not {"avx2", "fma"} <= flags:
        return None
    return "7" if flags >= AVX512 else "5"


def settings() -> dict[str, str]:
    """Environment variables that make Paddle fast on this machine, and their values."""
    threads = str(available_cores())
    chosen = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    # MKL's threads and those of compiled loops are two pools: one that spins while it waits takes the other's cores.
    chosen["OMP_WAIT_POLICY"] = "PASSIVE"
    if path := mkl_path(processor()):
        chosen["MKL_DEBUG_CPU_TYPE"] = path
    return chosen


CHOSEN: set[str] = set()
"""The variables that `configure` set, so that the others are the user's."""


def configure(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets what `settings` chooses and the user has not; call it before the first `import paddle`."""
    if "PADDLE_LOCAL_SIZE" in environment and environment.get("OMP_NUM_THREADS") == "1":
        del environment["OMP_NUM_THREADS"]  # not the user's: the launcher imports Paddle and hands its 1 down
    for name, value in settings().items():
        if name not in environment:
            environment[name] = value
            CHOSEN.add(name)
    environment.setdefault("GLOG_minloglevel", "2")  # Paddle's C++ side logs flag values at the default level


HUGE_PAGES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=16777216:glibc.malloc.trim_threshold=8589934592"
"""GLIBC_TUNABLES: memory in huge pages; arrays up to 16 MB are kept for reuse, larger ones go back to the system."""


def restart_with_huge_pages(environment: MutableMapping[str, str] = os.environ) -> None:
    """Starts this process again with `HUGE_PAGES`, which the C library reads only when a process starts.

    A network makes and drops some hundred arrays; without this each is cleared by the system again, in pages of 4 KiB.
    A training step or a prediction takes 0.6 to 0.8 of the time (docs/performance.md). Does nothing where
    GLIBC_TUNABLES is set, where Paddle is imported already, and where the C library is not glibc. The process keeps its
    number, arguments and open files.
    """
    library = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else None
    if environment.get("GLIBC_TUNABLES") == HUGE_PAGES:
        CHOSEN.add("GLIBC_TUNABLES")
    started = "GLIBC_TUNABLES" in environment or "paddle" in sys.modules  # in a notebook, work would be lost
    if started or not (library and library.startswith("glibc")) or not sys.executable:
        return
    given = {name: value for name, value in environment.items() if name not in CHOSEN}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**given, "GLIBC_TUNABLES": HUGE_PAGES})


def import_paddle() -> None:
    """Imports Paddle without its notices on thread settings and ccache, which no user can act on.

    Then puts `clan.kernels` over models and losses, unless CLAN_KERNELS is 0. To be called again does no harm.

    Raises:
        ConfigError: Paddle is not installed, is too old or lacks a library; or CLAN_KERNELS is neither 0 nor 1.
    """
    configure()
    version = installed_paddle()
    if version is None:
        raise ConfigError(f"PaddlePaddle is not installed: {how_to_install(gpu=False)}; {how_to_install(gpu=True)}")
    if is_older(version, OLDEST_PADDLE):
        raise ConfigError(f"PaddlePaddle {version} is older than {OLDEST_PADDLE}: {_how_to_replace()}")
    # Said by every batch norm whose γ and β are frozen; that is the point of freezing only those.
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(), _own_handler(signal.SIGTERM):
            warnings.simplefilter("ignore")
            import paddle  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        if not (library := re.search(r"\blib[\w+-]+\.so[.\d]*", str(error))):
            raise
        raise ConfigError(
            f"PaddlePaddle {version} does not find {library[0]}: install the build for this machine's CUDA again, with "
            f"its dependencies, or name the library's folder in LD_LIBRARY_PATH; {how_to_install(gpu=True)}"
        ) from None
    _choose_kernels()


@contextlib.contextmanager
def _own_handler(number: int) -> Iterator[None]:
    """Keeps a signal's handler while Paddle is imported, which puts one there that prints a traceback of C++."""
    handler = signal.getsignal(number)
    imported = "paddle" in sys.modules
    yield
    # Threads other than the main one cannot set handlers; what was not set from Python cannot be set again.
    if not imported and handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


def installed_paddle() -> str | None:
    """The version of the Paddle that would be imported, without importing it; None: there is none.

    An old one may well end with an error that tells nothing, since it is not made for this NumPy or this Python.
    """
    spec = find_spec("paddle")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version" / "__init__.py").read_text(encoding="utf-8")
    except OSError:
        return "of an unknown version"
    found = re.search(r"^full_version\s*=\s*['\"](.+?)['\"]", text, re.MULTILINE)
    return found[1] if found else "of an unknown version"


def is_older(version: str, other: str) -> bool:
    """Whether a version comes before another; what is no version, and 0.0.0 of nightly builds, does not."""
    numbers, least = (tuple(int(number) for number in re.findall(r"\d+", text)[:3]) for text in (version, other))
    return any(numbers) and numbers < least


def how_to_install(*, gpu: bool) -> str:
    """What to run to get a Paddle that this is tested with, for the CPU or for every CUDA version."""
    if not gpu:
        return f"for the CPU run `python -m pip install paddlepaddle=={NEWEST_PADDLE}`"
    (first, folder), *others = CUDA_BUILDS.items()
    also = ", ".join(f"{name} for CUDA {cuda}" for cuda, name in others)
    return (
        f"for a GPU with CUDA {first} run `python -m pip install paddlepaddle-gpu=={NEWEST_PADDLE} "
        f"-i {PADDLE_INDEX}{folder}/`, with {also} in place of {folder}"
    )


def _how_to_replace() -> str:
    """What to run where an old Paddle is installed: CPU and CUDA builds are two packages with the same files."""
    return (
        "run `python -m pip uninstall paddlepaddle paddlepaddle-gpu`, then "
        f"{how_to_install(gpu=False)}; {how_to_install(gpu=True)} (`pip install paddlepaddle-gpu` alone gives 2.6.2)"
    )


class KernelState(NamedTuple):
    """Whether `clan.kernels` computes networks and losses on the CPU.

    Args:
        active: whether it computes any of them.
        remark: why Paddle's own operators compute all or some of what it could, and the remedy; None: it computes all.
    """

    active: bool
    remark: str | None

    def __str__(self) -> str:
        return ("active" if self.active else "not active") + (f": {self.remark}" if self.remark else "")

    @property
    def complaint(self) -> str | None:
        """What a user who computes on the CPU should know; None: nothing."""
        return f"the CPU computes networks slowly, by Paddle's own operators: {self.remark}" if self.remark else None


def kernel_state() -> KernelState:
    """What became of `clan.kernels` in `import_paddle`."""
    kernels = _kernels()
    if kernels is None:
        return KernelState(False, "this installation has no clan.kernels: install it again")
    if os.environ.get("CLAN_KERNELS") == "0":
        return KernelState(False, "CLAN_KERNELS is 0: unset it")
    return KernelState(kernels.active(), kernels.remark())


def has_bf16_kernels() -> bool:
    """Whether `clan.kernels` is in place, and this processor multiplies bf16 numbers."""
    kernels = _kernels()
    return kernels is not None and kernels.active() and kernels.multiplies_bf16()


def _choose_kernels() -> None:
    """Puts the kernels in place, or takes them away, as CLAN_KERNELS says: 0 or 1, the latter if unset.

    Raises:
        ConfigError: it says something else.
    """
    wanted = os.environ.get("CLAN_KERNELS", "1")
    if wanted not in ("0", "1"):
        raise ConfigError(f"CLAN_KERNELS is {wanted!r}: set it to 0 for Paddle's own operators, or unset it")
    if kernels := _kernels():
        kernels.install() if wanted == "1" else kernels.uninstall()


@contextlib.contextmanager
def plain_operators() -> Iterator[None]:
    """Within the block Paddle's own operators compute: kernels cannot be traced into a program."""
    kernels = _kernels()
    active = kernels is not None and kernels.active()
    if kernels is not None and active:
        kernels.uninstall()
    try:
        yield
    finally:
        if kernels is not None and active:
            kernels.install()


def _kernels() -> ModuleType | None:
    """The package that makes models and losses faster on the CPU, if it is there: everything works without it.

    It is above the models that it knows, and this module below them; hence its name is a string here.
    """
    try:
        package = importlib.import_module("clan.kernels")
    except ModuleNotFoundError as error:
        if error.name != "clan.kernels":
            raise
        return None
    return package if package.__file__ else None  # a folder with nothing but old bytecode has no file
