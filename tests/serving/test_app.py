"""What the application answers when clients are slow, when too much arrives and when it is broken itself."""

import asyncio
import json

import numpy as np
import pytest

from tests.needs import module

module("fastapi", "serve")
module("uvicorn", "serve")

from clan.core.errors import ConfigError  # noqa: E402
from clan.evaluation.model import load  # noqa: E402
from clan.serving import desk as desks  # noqa: E402
from clan.serving.app import build_app  # noqa: E402
from clan.serving.desk import Desk  # noqa: E402
from clan.serving.pictures import RequestLimits  # noqa: E402
from tests.data.stored import png  # noqa: E402

GOOD = png(np.zeros((16, 24, 3), np.uint8), 8, 2)


async def call(app, pieces, **headers):
    """Status and body of an answer to a body that arrives piece by piece; None is a piece that never comes."""
    left, sent = list(pieces), []

    async def receive():
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        if piece is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    given = {
        "host": "localhost",
        "content-type": "image/png",
        **{name.replace("_", "-"): h for name, h in headers.items()},
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "raw_path": b"/predict",
        "query_string": b"want=labels",
    }
    scope |= {"scheme": "http", "http_version": "1.1", "server": ("localhost", 80), "client": ("localhost", 1)}
    scope |= {"root_path": "", "headers": [(name.encode(), value.encode()) for name, value in given.items()]}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.fixture
def model(network):
    return load(network)


def answers(model, pieces, limits=None, **headers):
    desk = Desk(model, limits or RequestLimits())
    try:
        status, body = asyncio.run(call(build_app(desk), pieces, **headers))
    finally:
        desk.close()
    assert (desk.present, desk.bytes) == (0, 0)
    return status, body


def test_pieces_are_put_together(model):
    status, body = answers(model, [GOOD[:10], GOOD[10:]])
    assert status == 200 and body.startswith(b"\x89PNG")


def test_a_picture_that_does_not_arrive_in_time_is_given_up(model):
    status, body = answers(model, [GOOD[:10], None], RequestLimits(seconds=0.1))
    assert (status, json.loads(body)["error"]) == (408, "the picture did not arrive within 0.1 seconds: send it again")


def test_a_client_that_leaves_costs_nothing(model):
    desk = Desk(model, RequestLimits())

    async def leave():
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b""}
        scope |= {"scheme": "http", "http_version": "1.1", "server": ("localhost", 80), "root_path": ""}
        await build_app(desk)({**scope, "headers": [(b"host", b"localhost")]}, receive, send)

    asyncio.run(leave())
    desk.close()
    assert (desk.present, desk.bytes) == (0, 0)


def test_more_bytes_than_can_be_held_are_turned_away(model, monkeypatch):
    monkeypatch.setattr(desks, "ARRIVING_BYTES", 0)
    limits = RequestLimits(megabytes=len(GOOD) / 1e6)
    desk = Desk(model, limits)

    async def both():
        with desk.arriving() as arrived:
            arrived(1)
            return await call(build_app(desk), [GOOD])

    status, body = asyncio.run(both())
    desk.close()
    assert status == 503 and "too many pictures arrive at once" in json.loads(body)["error"]


def test_what_breaks_inside_stays_inside(model, capsys):
    model.network = None
    status, body = answers(model, [GOOD])
    assert status == 500
    assert json.loads(body) == {"error": "the picture could not be segmented: the terminal of clan serve says more"}
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["megabytes", "megapixels", "waiting", "seconds"])
def test_limits_that_allow_nothing_or_too_much_are_refused(name):
    for value in (0, -1, float("nan"), 1e9):
        with pytest.raises(ConfigError, match=f"--max-{name} .* is no limit"):
            RequestLimits(**{name: value})
