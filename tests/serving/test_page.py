"""The pages in a browser: the served one, and the one that is a single file and has no network."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from clan.cli import main as cli
from clan.core.errors import ConfigError
from clan.data.transforms import normalize
from clan.evaluation.model import load
from clan.serving import offline
from clan.serving.page import as_script, assets, served_page
from clan.serving.pictures import RequestLimits
from tests.needs import module, needed
from tests.reporting.browser import CHROMIUM, DRIVER, browser

LABELS = (
    "viewer.file('labels').then(async (file) => btoa(String.fromCharCode(...new Uint8Array(await file.arrayBuffer()))))"
)


@pytest.fixture(scope="module")
def window():
    needed("browser", CHROMIUM and DRIVER)
    with browser() as session:
        yield session


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A file of few colours, 96×64."""
    path = tmp_path_factory.mktemp("picture") / "street.png"
    noise = np.random.default_rng(2).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC).save(path)
    return path


def labels(window):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(window.result(LABELS)))))


def test_the_served_page_shows_what_the_network_makes_of_a_picture(window, served, network, picture):
    window.show(served.address, width=1280, scheme="light")
    assert window.run("return document.getElementById('result').hidden")
    window.choose("#file", picture)
    window.wait("viewer.shown")
    prediction = load(network)(np.asarray(Image.open(picture)))
    np.testing.assert_array_equal(labels(window), prediction.labels)
    assert "96×64" in window.text("#state")
    rows = window.run("return [...document.querySelectorAll('#legend li')].map((one) => one.textContent)")
    assert len(rows) == 19 and rows[0].startswith("road")
    assert all(request.startswith(served.address) for request in window.requests())
    assert window.complaints() == []


def test_classes_are_switched_off_and_the_border_moves(window, served, picture):
    window.show(served.address, width=1280, scheme="dark")
    window.choose("#file", picture)
    window.wait("viewer.shown")
    opaque = (
        "return [...document.getElementById('overlay').getContext('2d').getImageData(0, 0, 96, 64).data]"
        ".filter((_, i) => i % 4 === 3 && _ > 0).length"
    )
    assert window.run(opaque) == 96 * 64
    window.click("#none")
    assert window.run(opaque) == 0
    window.click("#legend label")
    shown = window.run("return viewer.shown.labels.filter((id) => id === 0).length")
    assert window.run(opaque) == shown
    window.click("#all")
    window.click("input[value=confidence]")
    assert not window.run("return document.getElementById('scale').hidden")
    assert window.run(opaque) == 96 * 64
    before = window.run("return document.getElementById('split').value")
    window.point("#split", drag_to=200)
    assert float(window.run("return document.getElementById('split').value")) > float(before)
    for kind in ("labels", "colors", "overlay", "confidence"):
        assert window.result(f"viewer.file('{kind}').then((file) => file.type)") == "image/png"


def test_a_dropped_picture_and_a_wrong_file(window, served):
    window.show(served.address, width=1280, scheme="light")
    drop = (
        "const data = new DataTransfer(); data.items.add(new File([arguments[0]], 'a.png', {type: 'image/png'}));"
        "dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))"
    )
    window.run(drop, "no picture")
    window.wait("!document.getElementById('error').hidden")
    assert window.text("#error").startswith("the file is no picture")
    window.run(
        "const done = arguments[0]; const c = document.createElement('canvas'); c.width = 64; c.height = 32;"
        "c.getContext('2d').fillRect(0, 0, 9, 9); c.toBlob((blob) => { const data = new DataTransfer();"
        "data.items.add(new File([blob], 'b.png', {type: 'image/png'}));"
        "dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})) })"
    )
    window.wait("viewer.shown")
    assert window.run("return document.getElementById('error').hidden")


def test_the_webcam_is_segmented_until_it_is_stopped(window, served):
    window.show(served.address, width=600, scheme="light")
    window.click("#camera")
    window.wait("viewer.shown")
    window.run("viewer.first = viewer.shown")
    window.wait("viewer.shown !== viewer.first")
    window.click("#camera")
    assert window.text("#camera") == "Use the webcam"


def test_pages_load_nothing_from_elsewhere(network):
    page = served_page(load(network).card, RequestLimits()).decode()
    for text in (page, *(content.decode() for content, _ in assets().values())):
        assert not re.search(r"https?://|//[a-z]+\.", text.replace("http://www.w3.org", ""))
    assert re.findall(r"<script src=\"(.+?)\"|href=\"(?!data:)(.+?)\"", page) == [
        ("", "viewer.css"),
        ("viewer.js", ""),
        ("remote.js", ""),
    ]


def test_names_of_classes_cannot_end_a_script():
    assert "<" not in as_script({"name": "</script><script>alert(1)</script>"})
    assert json.loads(as_script({"name": "<a>"})) == {"name": "<a>"}


@pytest.fixture(scope="module")
def runtime():
    folder = offline.folder_of_cache()
    needed("web", all((folder / name).is_file() for name in offline.CHECKSUMS))
    return offline.find_runtime(folder)


def mean_of_neighbours(classes):
    """A network in ONNX: every class has a plane's mean over 8×8 pixels, or its negative."""
    onnx = module("onnx", "export")
    make = onnx.helper.make_tensor_value_info
    weights = np.zeros((classes, 3, 1, 1), np.float32)
    for number in range(classes):
        weights[number, number // 2 % 3] = 0.05 * (-1) ** number
    nodes = [
        onnx.helper.make_node("AveragePool", ["planes"], ["small"], kernel_shape=[8, 8], strides=[8, 8]),
        onnx.helper.make_node("Conv", ["small", "weights"], ["maps"]),
        onnx.helper.make_node("Unsqueeze", ["maps", "axis"], ["logits"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(weights, "weights"),
        onnx.numpy_helper.from_array(np.array([1]), "axis"),
    ]
    ports = [make("planes", 1, ["n", 3, "h", "w"])], [make("logits", 1, ["n", 1, classes, "a", "b"])]
    graph = onnx.helper.make_graph(nodes, "test", *ports, constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def offline_labels(window, page, picture):
    """The label map that a page makes of a picture, in a browser without a network."""
    speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    window.devtools("Network.enable")
    window.devtools("Network.emulateNetworkConditions", offline=True, **speed)
    try:
        window.complaints()  # those of pages before
        window.show(page, width=1280, scheme="light")
        window.requests()
        window.choose("#file", picture)
        window.wait("viewer.shown || !document.getElementById('error').hidden", 120)
        assert window.text("#error") == ""
        assert all(request.startswith(("file:", "blob:", "data:")) for request in window.requests())
        assert window.complaints() == []
        return labels(window)
    finally:
        window.devtools("Network.emulateNetworkConditions", offline=False, **speed)


def test_a_page_resizes_and_interpolates_as_predictions_do(window, network, runtime, picture, tmp_path):
    model = load(network)
    one_head = model.card.network.model_copy(update={"num_heads": 1})
    model.card = model.card.model_copy(update={"network": one_head})
    graph = mean_of_neighbours(model.card.num_classes)
    page = tmp_path / "page.html"
    page.write_bytes(offline.offline_page(model.card, graph.SerializeToString(), runtime))

    class InOnnxRuntime:
        def logits(self, images):
            session = module("onnxruntime", "export").InferenceSession(graph.SerializeToString())
            planes = np.stack([normalize(Image.fromarray(one), model.card.normalization) for one in images])
            return session.run(None, {"planes": planes})[0]

    model.network = InOnnxRuntime()
    expected = model(np.asarray(Image.open(picture))).labels
    assert (offline_labels(window, page, picture) == expected).mean() > 0.999
    assert len(np.unique(expected)) > 2


def test_an_exported_page_segments_without_a_network(window, network, runtime, picture, tmp_path, capsys):
    module("paddle2onnx", "export")
    page = tmp_path / "page.html"
    folder = offline.folder_of_cache()
    cli.dispatch(["export", str(network), "--web", str(page), "--web-runtime", str(folder)])
    assert f"{page.stat().st_size / 1e6:.1f} MB" in capsys.readouterr().out
    expected = load(network)(np.asarray(Image.open(picture))).labels
    assert (offline_labels(window, page, picture) == expected).mean() > 0.99


def test_a_network_that_is_too_large_for_a_page_is_refused(network):
    with pytest.raises(ConfigError, match="has 21 MB in float16, over the 20 MB"):
        offline.offline_page(load(network).card, bytes(21_000_000), offline.Runtime(b"", b""))


def test_what_a_page_would_compute_otherwise_or_not_is_refused(network, runtime, tmp_path, error_of):
    module("paddle2onnx", "export")
    page = tmp_path / "page.html"
    said = error_of(cli.dispatch, "export", network, "--web", page, "--upsampling", "bicubic")
    assert "interpolates logits bilinearly" in said
    for words in (("--half",), ("--int8", tmp_path), ("--maps", "confidence"), ("--format", "onnx"), ("--no-resize",)):
        assert "are for -o FOLDER" in error_of(cli.dispatch, "export", network, "--web", page, *words)
    assert not page.exists()


def test_a_runtime_that_is_not_there_or_another_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="does not hold ort-wasm"):
        offline.find_runtime(tmp_path)
    for name in offline.CHECKSUMS:
        (tmp_path / name).write_bytes(b"another")
    with pytest.raises(ConfigError, match=r"is not that of onnxruntime-web 1\.30\.0"):
        offline.find_runtime(tmp_path)
    monkeypatch.setattr(offline, "folder_of_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(offline.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="there is no npm to fetch it with"):
        offline.find_runtime()
