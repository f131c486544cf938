"""What stands before every request: where it comes from, and answers that are sentences."""

import asyncio
import ipaddress
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from clan.serving.pictures import Refused

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer: nothing is loaded from elsewhere, and no other page sees an answer."""

BROKEN = "the picture could not be segmented: the terminal of clan serve says more"
"""What a client is told of an error that is none of its own."""


class Guard:
    """Refuses requests of other pages, and keeps what goes wrong inside from clients.

    A page elsewhere can make a browser send requests here: under a name of its own that leads to this machine (DNS
    rebinding, seen by the header Host), or across origins (seen by Origin and Sec-Fetch-Site).

    Args:
        app: what answers.
        names: names under which this machine may be asked for, besides localhost and addresses.
    """

    def __init__(self, app: App, names: Collection[str] = ()) -> None:
        self.app, self.names = app, {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Called by the server, as ASGI says."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def forward(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", []), *_encoded(HEADERS)]
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receive, forward)
        except Refused as refusal:
            await refuse(forward, refusal)
        except asyncio.CancelledError:  # the server ends, and has waited
            if not begun:
                await refuse(forward, Refused(503, "clan serve is ending: send the picture again when it runs"))
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if not begun:
                await refuse(forward, Refused(500, BROKEN))

    def _check(self, scope: Message) -> None:
        headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
        hosts = [value for key, value in headers if key == "host"]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            raise Refused(
                403, "the request names another host than this one: open the address that clan serve has printed"
            )
        given = dict(headers)
        origin = given.get("origin")
        elsewhere = origin is not None and origin.lower() != f"{scope['scheme']}://{hosts[0].lower()}"
        if elsewhere or given.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refused(403, "the request comes from another page: open the address that clan serve has printed")

    def _is_own(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            urlsplit(f"//{host}").port  # noqa: B018 (raises for what is no port)
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address cannot be made to lead elsewhere


async def refuse(send: Any, refusal: Refused) -> None:
    """Sends a refusal: {"error": a sentence}."""
    headers = {"content-type": "application/json"}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    body = json.dumps({"error": refusal.sentence}, ensure_ascii=False).encode()
    headers["content-length"] = str(len(body))
    await send({"type": "http.response.start", "status": refusal.status, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
