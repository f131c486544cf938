"""Running the server until a signal ends it."""

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clan.core.errors import ConfigError
from clan.evaluation.model import Model
from clan.serving.app import build_app
from clan.serving.desk import Desk
from clan.serving.pictures import RequestLimits

HEADER_SECONDS = 10
"""Within which the headers of a request must have arrived."""

GRACE_SECONDS = 5
"""That requests get to end when the server ends."""

END_SECONDS = 1
"""That threads get to end after that."""


class _Connection(H11Protocol):
    """A connection that is closed when the headers of a request take too long."""

    _timer: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def _wait(self) -> None:
        """Watches the clock while the headers of a request are incomplete."""
        import h11

        incomplete = self.conn.their_state is h11.IDLE
        if incomplete and not self._timer:
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)
        elif not incomplete and self._timer:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    """A server that SIGINT and SIGTERM end as they should, without an error; `ready` is called when they would."""

    ready: Callable[[], object] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does."""
        await super().startup(sockets)
        self.ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but the signals are not raised again; in a thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        usual = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free.

    Raises:
        ConfigError: the port is taken or forbidden, or the host is not this machine.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        place = socket.socket(kind, socket.SOCK_STREAM)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
        place.listen(128)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is taken: end what uses it, or give another --port") from None
        raise ConfigError(f"cannot listen at {host}, port {port} ({error}): give another --host or --port") from None
    return place


def address_of(place: socket.socket) -> str:
    """What to type into a browser."""
    host, port = place.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(
    model: Model,
    place: socket.socket,
    limits: RequestLimits,
    host: str,
    *,
    ready: Callable[[], object] = lambda: None,
) -> bool:
    """Serves until a signal.

    Args:
        model: the network.
        place: listens.
        limits: what a client may ask for.
        host: the name that the socket was bound to.
        ready: called when pictures are served, as fast as later ones.

    Returns:
        Whether all threads have ended; otherwise the network still sees a picture that nobody waits for.
    """
    width, height = model.card.input.size
    model(np.zeros((height, width, 3), np.uint8)).labels  # noqa: B018 (the first one takes longest)
    desk = Desk(model, limits)
    config = uvicorn.Config(
        build_app(desk, [host]),
        http=_Connection,
        ws="none",
        lifespan="off",
        log_level="critical",  # the guard prints what goes wrong
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=HEADER_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        limit_concurrency=256,
        backlog=128,
    )
    server = _Server(config)
    server.ready = ready
    try:
        server.run([place])
    finally:
        ended = desk.close(END_SECONDS)
    return ended
