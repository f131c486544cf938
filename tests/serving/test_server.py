"""`clan serve` from outside: what clients get for good, bad and hostile requests, alone and many at once."""

import base64
import io
import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clan.cli import main as cli
from clan.evaluation.model import load
from tests.data.stored import png
from tests.needs import module, needed
from tests.serving import hostile
from tests.serving.conftest import require_clean_end, running
from tests.without_paddle import make_environment

PICTURE = np.asarray(Image.effect_noise((128, 64), 90).convert("RGB"))


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def require_sentence(content):
    """An error's body: one sentence, and nothing of what is inside."""
    text = json.loads(content)["error"]
    assert text and "\n" not in text
    assert not re.search(r"Traceback|\.py\b|/tmp|clan-serve|site-packages|Error\(", text)


def test_an_answer_is_what_the_network_makes_of_the_picture(served, network):
    prediction = load(network)(PICTURE)
    status, headers, body = served.ask(png(PICTURE, 8, 2))
    assert status == 200
    found = json.loads(body)
    assert (found["width"], found["height"]) == (128, 64)
    np.testing.assert_array_equal(opened(base64.b64decode(found["labels"])), prediction.labels)
    confidence = opened(base64.b64decode(found["confidence"]))
    np.testing.assert_allclose(confidence, 255 * prediction.confidence, atol=0.51)
    assert [one["name"] for one in found["classes"]] == list(prediction.card.classes)
    assert sum(one["share"] for one in found["classes"]) == pytest.approx(1, abs=1e-4)
    assert headers["content-security-policy"].startswith("default-src 'none'")
    for want, kind in (("labels", "png"), ("colors", "png"), ("overlay", "jpeg"), ("confidence", "png")):
        status, headers, body = served.ask(png(PICTURE, 8, 2), f"/predict?want={want}")
        assert (status, headers["content-type"]) == (200, f"image/{kind}")
        assert opened(body).shape[:2] == (64, 128)
    assert opened(served.ask(png(PICTURE, 8, 2), "/predict?want=labels")[2]).tolist() == prediction.labels.tolist()


def test_an_export_is_served_where_paddle_is_not_installed(network, tmp_path):
    module("paddle2onnx", "export")
    cli.dispatch(["export", str(network), "-o", str(tmp_path / "net"), "--format", "onnx"])
    python = make_environment(tmp_path / "environment", ("onnx", "serve"))
    with running(tmp_path / "net", python=python) as served:
        labels = opened(served.ask(png(PICTURE, 8, 2), "/predict?want=labels")[2])
        require_clean_end(*served.end(signal.SIGTERM))
    np.testing.assert_array_equal(labels, load(tmp_path / "net")(PICTURE).labels)


def test_openapi_describes_what_is_there(served):
    described = json.loads(served.ask(path="/openapi.json")[2])
    predict = described["paths"]["/predict"]["post"]
    assert set(predict["responses"]) >= {"200", "400", "403", "408", "413", "415", "503"}
    assert "image/jpeg" in predict["requestBody"]["content"]
    assert predict["parameters"][0]["schema"]["enum"] == ["all", "labels", "colors", "overlay", "confidence"]


@pytest.mark.parametrize("name", hostile.FILES)
def test_a_bad_file_gets_a_sentence(served, name):
    body, allowed = hostile.FILES[name]
    status, _, answer = served.ask(body)
    assert status in allowed, answer[:200]
    if status != 200:
        require_sentence(answer)


@pytest.mark.parametrize("name", hostile.RAW)
def test_a_bad_request_gets_an_answer_or_ends(served, name):
    raw, allowed = hostile.RAW[name]
    answer = served.send(raw)
    status = int(answer.split()[1]) if answer else None
    assert status in allowed, answer[:300]
    assert b"Traceback" not in answer
    if status and status >= 400 and b"application/json" in answer:
        require_sentence(answer.split(b"\r\n\r\n", 1)[1])


def good(served, tries=60):
    for _ in range(tries):
        status, headers, body = served.ask(png(PICTURE, 8, 2), "/predict?want=labels")
        if status != 503:
            return status, body
        time.sleep(min(2, int(headers["retry-after"])))
    return status, body


def test_under_load_nothing_is_lost_and_memory_is_bounded(served):
    needed("proc", Path("/proc/self/status").exists())
    expected = good(served)
    bad = [("file", name) for name in hostile.FILES] + [("raw", name) for name in hostile.RAW]
    work = [bad[number // 2 % len(bad)] if number % 2 else None for number in range(200)]

    def call(one):
        if one is None:
            return good(served) == expected
        kind, name = one
        if kind == "raw":
            served.send(hostile.RAW[name][0])
            return True
        body, allowed = hostile.FILES[name]
        return served.ask(body)[0] in {*allowed, 503}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, work))
    assert good(served) == expected
    assert served.process.poll() is None
    assert served.memory() < 1.5e9


def test_slow_clients_do_not_keep_others_waiting(served):
    lines = [socket.create_connection(served.place) for _ in range(24)]
    try:
        for number, line in enumerate(lines):
            line.sendall(hostile.request()[: 20 if number % 2 else 150])
        assert good(served)[0] == 200
    finally:
        for line in lines:
            line.close()


def test_too_many_at_once_are_told_when_to_come_again_and_a_signal_ends_it_cleanly(network):
    with running(network, "--max-waiting", 1) as served, ThreadPoolExecutor(8) as pool:
        large = png(np.zeros((1500, 2000, 3), np.uint8), 8, 2)
        answers = list(pool.map(lambda _: served.ask(large, "/predict?want=labels"), range(8)))
        statuses = {status for status, _, _ in answers}
        assert statuses == {200, 503}
        for status, headers, body in answers:
            if status == 503:
                assert int(headers["retry-after"]) >= 1
                require_sentence(body)
        require_clean_end(*served.end(signal.SIGTERM))


SLOW = """
import time
from clan.cli.main import main
from clan.evaluation.model import Model
from clan.serving import server

server.GRACE_SECONDS, predict = 1, Model.predict


def slowly(self, image, prepared):
    time.sleep(60 * (image.size == (128, 64)))
    return predict(self, image, prepared)


Model.predict = slowly
main()
"""


def test_a_signal_does_not_wait_for_a_picture_that_takes_long(network):
    with running(network, program=("-c", SLOW)) as served, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, png(PICTURE, 8, 2))
        time.sleep(1)
        began = time.monotonic()
        require_clean_end(*served.end(signal.SIGTERM))
        assert time.monotonic() - began < 30
        assert answer.result()[0] == 503
        require_sentence(answer.result()[2])


def test_a_port_that_is_taken_is_a_sentence(network, error_of):
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        port = place.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is taken" in error_of(cli.dispatch, "serve", network, "--port", port)
    assert "cannot listen at 192.0.2.1" in error_of(cli.dispatch, "serve", network, "--host", "192.0.2.1")
    assert "--max-megabytes 0 is no limit" in error_of(cli.dispatch, "serve", network, "--max-megabytes", 0)
