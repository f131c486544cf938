# ruff: noqa: E402
"""What `test_distributed` starts on two ranks: laws of `Ranks` that need more than one process.

Writes what went wrong to stderr and exits with 1 then; with "die" rank 1, with "die-first" rank 0 ends
without a word, with "slow" rank 1 takes longer than ranks may be silent.
"""

import os
import signal
import sys
import time

import numpy as np

from clan.core import runtime

runtime.import_paddle()

import paddle

from clan.cli.commandline import run
from clan.core.errors import DataError
from clan.core.ranks import RankError, connect

ranks = connect()
assert ranks.size == 2
assert connect() is ranks

assert list(ranks.share("abcde")) == (["a", "c", "e"] if ranks.first else ["b", "d"])

counts = np.array([[2**40 + ranks.rank, 2**53]])
assert ranks.sum(counts).tolist() == [[2**41 + 1, 2**54]], "exact, beyond what a float holds"

small, large = paddle.full([2, 3], ranks.rank, "float32"), paddle.arange(5, dtype="float32") * (1 + ranks.rank)
means = ranks.average({"a": 1.0 + ranks.rank, "b": 4.0}, [small, large])
assert means == {"a": 1.5, "b": 4.0}
assert (small.numpy() == 0.5).all()
assert np.array_equal(large.numpy(), np.arange(5) * 1.5)

assert ranks.from_first(lambda: {"made by": ranks.rank}) == {"made by": 0}


def cannot() -> None:
    raise DataError("rank 0 cannot")


try:
    ranks.from_first(cannot)
except DataError:
    assert ranks.first
except RankError as error:
    assert not ranks.first
    assert str(error) == "rank 0 cannot"
else:
    raise AssertionError("nobody complained")


def meet() -> None:
    with ranks.together():
        pass


if sys.argv[1:] == ["slow"] and not ranks.first:
    time.sleep(3.0)

if sys.argv[1:] in (["die"], ["die-first"]):
    if ranks.first == (sys.argv[1] == "die-first"):
        time.sleep(2.0)  # the other one waits by now
        os.kill(os.getpid(), signal.SIGKILL)
    run(meet)
    raise AssertionError("a rank went on without the other")

for number in range(20):  # a fast rank's next meeting never mixes with a slow one's last
    with ranks.together():
        time.sleep(0.01 * (number % 2 == ranks.rank))
print("all laws hold")
