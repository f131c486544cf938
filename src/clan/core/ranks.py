"""Ranks: processes that train or evaluate as one, a device each, started by Paddle's launcher.

The launcher tells every process its rank and how many there are; processes started without it are alone,
and everything here then does nothing. After each iteration all ranks hold the same state, bit for bit.
"""

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import paddle
from paddle import Tensor, distributed
from paddle.base import core

from clan.core.device import explain
from clan.core.errors import ClanError, ConfigError
from clan.core.heartbeat import Heartbeat, rank_timeout
from clan.core.runtime import Precision, has_bf16_kernels, kernel_state

Value = TypeVar("Value")
Item = TypeVar("Item")


class RankError(ClanError):
    """What another rank could not do; its sentence is that rank's."""


@dataclass
class Ranks:
    """The processes that work together, seen from one of them.

    Args:
        rank: this one's number, 0…size−1.
        size: how many there are.
        store: Paddle's key-value store, which all of them reach, where they meet over gloo.
        heartbeat: watches the others while this one waits for them.
    """

    rank: int = 0
    size: int = 1
    store: Any = None
    heartbeat: Heartbeat | None = None
    _meetings: int = field(default=0, init=False)

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the one that writes files and talks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The part of this rank, of what is dealt out in turn."""
        return items[self.rank :: self.size]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Waits, after the block, until all ranks are through theirs; what one of them cannot do, none does.

        Raises:
            ClanError: the block raised one here or, as a `RankError`, on another rank; a device's memory that is
                used up is one. Any other exception ends this process, and then the launcher ends the others.
        """
        failure: ClanError | None = None
        try:
            yield
        except ClanError as error:
            failure = error
        except Exception as error:
            failure = explain(error)
            if failure is None:
                raise
        if self.size > 1:
            with self._meeting():
                failure = self._agree(failure)
        if failure is not None:
            raise failure

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """Within the block this rank talks to the others.

        Raises:
            ClanError: it cannot, since one of them is gone.
        """
        with self.heartbeat.waiting() if self.heartbeat else nullcontext():
            try:
                yield
            except ClanError:
                raise
            except Exception as error:
                text = " ".join(str(error).split())[:200]
                raise explain(error) or RankError(
                    f"the connection to another rank is lost ({text}): see what the logs of all ranks say, then start "
                    "all again with --resume from the last state, which is intact"
                ) from error

    def _agree(self, failure: ClanError | None) -> ClanError | None:
        """Waits for all ranks; returns this one's failure, else another's, if there is any."""
        self._wait()
        failed = paddle.to_tensor([0 if failure is None else 1])
        distributed.all_reduce(failed, distributed.ReduceOp.MAX)
        if not failed.numpy().any():  # unlike `item`, it lets other threads run while it waits, the heartbeat above all
            return None
        complaints: list[str | None] = []
        distributed.all_gather_object(complaints, None if failure is None else str(failure))
        return failure or RankError(next(filter(None, complaints)))

    def _wait(self) -> None:
        """Waits for all ranks as long as it takes.

        Gloo gives up after 30 seconds, which Paddle 3.3.1 does not let one change, and one CPU may well take that
        much longer than another to compute or to save. So ranks count themselves in at the store first. That takes
        0.1 s; NCCL, whose limit is half an hour (`PADDLE_PG_TIMEOUT`) if it keeps one, does without.
        """
        if self.store is None:
            return
        self._meetings += 1
        arrived = self.store.add("clan/arrived", 1)
        while arrived < self._meetings * self.size:
            time.sleep(0.005)
            arrived = self.store.add("clan/arrived", 0)

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What `make` returns on rank 0, the only one to call it, for all of them.

        Raises:
            ClanError: `make` raised it.
        """
        box: list[Any] = [None]
        with self.together():
            if self.first:
                box = [make()]
        if self.size > 1:
            with self._meeting():
                distributed.broadcast_object_list(box, src=0)
        return box[0]

    def average(self, losses: Mapping[str, float], tensors: Sequence[Tensor]) -> dict[str, float]:
        """Replaces float32 tensors by their means over the ranks; returns the means of the losses.

        One all-reduce of one flat buffer does it all, since many small ones would cost more than they carry.

        Args:
            losses: by name, the same names on every rank.
            tensors: the same shapes on every rank, in the same order.
        """
        if self.size == 1:
            return dict(losses)
        with self._meeting(), paddle.no_grad():
            values = paddle.to_tensor(list(losses.values()), "float32")
            parts = [values, *tensors]
            flat = paddle.concat([part.flatten() for part in parts])
            distributed.all_reduce(flat)
            flat.scale_(1.0 / self.size)
            means = paddle.split(flat, [part.size for part in parts])
            for part, mean in zip(parts, means, strict=True):
                part.set_value(mean.reshape(part.shape))
            numbers = values.numpy()
        return dict(zip(losses, map(float, numbers), strict=True))

    def sum(self, counts: np.ndarray) -> np.ndarray:
        """The sum over the ranks of an int64 array, exactly."""
        if self.size == 1:
            return counts
        with self._meeting():
            total = paddle.to_tensor(counts)
            distributed.all_reduce(total)
            return total.numpy()


ALONE = Ranks()
"""A process that works by itself."""


def launched() -> bool:
    """Whether Paddle's launcher started this process together with others."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1


@functools.cache
def connect() -> Ranks:
    """Meets the other ranks, over NCCL where this one computes on a GPU and over gloo on the CPU.

    Raises:
        ConfigError: `clan.kernels` are active on some ranks alone, so that `environment.json` would not hold for all;
            or the environment's timeout is no number.
    """
    if not launched():
        return ALONE
    timeout = rank_timeout()
    gloo = paddle.device.get_device() == "cpu"
    os.environ["PADDLE_DISTRI_BACKEND"] = "gloo" if gloo else "nccl"
    distributed.init_parallel_env()
    store = core.create_or_get_global_tcp_store() if gloo else None
    rank, size = distributed.get_rank(), distributed.get_world_size()
    ranks = Ranks(rank, size, store, Heartbeat(_own_connection(size), rank, size, timeout))
    if gloo:
        _require_same_kernels(ranks)
    return ranks


def _own_connection(size: int) -> Any:
    """Another connection to Paddle's store, at the address that `init_parallel_env` takes it from."""
    environment = os.environ
    address = f"{environment.get('MASTER_ADDR', '')}:{environment.get('MASTER_PORT', '')}"
    if address.startswith(":") or address.endswith(":"):
        address = environment.get("PADDLE_MASTER") or environment["PADDLE_TRAINER_ENDPOINTS"].partition(",")[0]
    host, _, port = address.removeprefix("http://").rpartition(":")
    return core.TCPStore(host, int(port), False, size)


def _require_same_kernels(ranks: Ranks) -> None:
    own = kernel_state()
    first = ranks.from_first(lambda: own)
    with ranks.together():
        if own.active != first.active:
            raise ConfigError(
                f"kernels are {own} on rank {ranks.rank}, but {first} on rank 0: set CLAN_KERNELS=0 on all machines"
            )


def require_same_products(ranks: Ranks, precision: Precision) -> None:
    """Refuses processors that compute differently what all of them are asked for.

    Raises:
        ConfigError: bf16 is asked for, and some of them multiply in it and others in float32.
    """
    if ranks.size == 1 or precision != "bf16" or paddle.device.get_device() != "cpu":
        return
    own = has_bf16_kernels()
    first = ranks.from_first(lambda: own)
    with ranks.together():
        if own != first:
            has, lacks = (ranks.rank, 0) if own else (0, ranks.rank)
            raise ConfigError(
                f"--precision bf16: the processor of rank {has} multiplies in bf16, and that of rank {lacks} in "
                "float32: use --precision fp32, or machines that are alike"
            )
