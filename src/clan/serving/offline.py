"""One HTML file with the page, a network and ONNX Runtime in WebAssembly, which segments pictures without a server."""

import gzip
import hashlib
import shutil
import subprocess
import tarfile
from base64 import b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from clan.core.errors import ConfigError, WeightsError
from clan.core.files import UnfitFile, read_whole, write_file
from clan.core.schema import find
from clan.data.transforms import normalize
from clan.deployment import conversion
from clan.evaluation.model_card import ModelCard
from clan.serving.page import asset, rendered

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"

SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
"""The smallest build, which one thread can run too."""

CHECKSUMS = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""SHA-256 of the files in `dist` of the package."""

LARGEST_NETWORK = 20_000_000
"""Bytes of a network in a page."""

TOLERANCE = 3e-2
"""Difference of logits over their largest magnitude that weights in float16 may make on noise."""

MEGAPIXELS = 4
"""Larger pictures are reduced before they are segmented: one thread of a browser does all of it."""

_LARGEST_FILE = 64 << 20


class Runtime(NamedTuple):
    """ONNX Runtime for browsers: a module of JavaScript and what it runs."""

    script: bytes
    wasm: bytes


def find_runtime(folder: Path | None = None) -> Runtime:
    """ONNX Runtime for browsers: from a folder, from the cache, or fetched by npm into the cache.

    Args:
        folder: the package, its folder `dist`, or a folder whose `node_modules` has it; None: not given.

    Raises:
        ConfigError: it is not there, cannot be fetched, or is not the version that pages are tested with.
    """
    if folder is None:
        folder = cached()
    places = (folder, folder / "dist", folder / "node_modules" / PACKAGE / "dist")
    place = next((one for one in places if (one / WASM).is_file()), None)
    if place is None:
        raise ConfigError(f"{folder} does not hold {WASM}: name the folder of the npm package {PACKAGE} {VERSION}")
    return Runtime(*(_checked(place / name) for name in (SCRIPT, WASM)))


def folder_of_cache() -> Path:
    """Where the files are kept, whether they are there or not."""
    return Path.home() / ".cache" / "clan" / f"{PACKAGE}-{VERSION}"


def cached() -> Path:
    """The folder of the cache with the files, fetched by npm if need be.

    Raises:
        ConfigError: there is no npm, or it cannot fetch them.
    """
    folder = folder_of_cache()
    if all((folder / name).is_file() for name in CHECKSUMS):
        return folder
    advice = f"fetch the npm package {PACKAGE} {VERSION} where there is a network and name its folder by --web-runtime"
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(f"the page needs {PACKAGE}, and there is no npm to fetch it with: install npm, or {advice}")
    print(f"fetching {PACKAGE} {VERSION} by npm, once")
    with TemporaryDirectory() as scratch:
        command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}", "--pack-destination", scratch]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = " ".join(done.stderr.split())[-160:]
            raise ConfigError(f"npm cannot fetch {PACKAGE} {VERSION} ({said}): {advice}")
        with tarfile.open(archives[0]) as archive:
            for name in CHECKSUMS:
                member = archive.extractfile(f"package/dist/{name}")
                assert member
                write_file(folder / name, member.read(), "make the cache writable")
    return folder


def _checked(path: Path) -> bytes:
    try:
        content = read_whole(path, _LARGEST_FILE)
    except (OSError, UnfitFile) as error:
        raise ConfigError(f"{path} cannot be read ({error}): copy the npm package {PACKAGE} {VERSION} again") from None
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[path.name]:
        raise ConfigError(f"{path} is not that of {PACKAGE} {VERSION}, which pages are tested with: fetch that version")
    return content


def write_page(weights: Path, path: Path, *, runtime: Path | None = None, **given: Any) -> int:
    """Writes the page of a run's weights.

    Args:
        weights: a segmenter's weights.
        path: the HTML file.
        runtime: see `find_runtime`.
        given: see `clan.evaluation.paddle_network.open_weights`.

    Returns:
        The page's bytes.

    Raises:
        ClanError: something is not installed, cannot be read or written, or the network is too large for a page.
    """
    conversion.require_tools()
    found = find_runtime(runtime)  # first, since the rest takes longer
    network, card = find("clan.evaluation.paddle_network:open_weights")(weights, **given)
    require_interpolation(card)
    body = find("clan.deployment.onnx_graph:halved")(conversion.body_of(network.segmenter)).SerializeToString()
    _check(body, network, card)
    page = offline_page(card, body, found)
    write_file(path, page, "choose another place for the page")
    return len(page)


def require_interpolation(card: ModelCard) -> None:
    """Refuses logits that pages would interpolate otherwise than predictions.

    Raises:
        ConfigError: the network's are interpolated bicubically.
    """
    if card.network.upsampling != "bilinear":
        raise ConfigError(
            f"a page interpolates logits bilinearly, but {card.source.weights} was evaluated with "
            f"{card.network.upsampling} upsampling: give --upsampling bilinear, which changes labels at borders"
        )


def _check(body: bytes, network: Any, card: ModelCard) -> None:
    """Compares a network in ONNX with what it was made of, on noise.

    Raises:
        WeightsError: it computes something else.
    """
    import onnxruntime

    images = np.random.default_rng(0).integers(0, 256, (1, 128, 192, 3), dtype=np.uint8)
    planes = np.stack([normalize(Image.fromarray(one), card.normalization) for one in images])
    session = onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: planes})
    expected = network.logits(images)
    difference = float(np.abs(np.asarray(found) - expected).max() / max(1e-12, float(np.abs(expected).max())))
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"the page computes other logits than {card.source.weights} (by {difference:.2g} of the largest): "
            "do not use it, and report the network"
        )


def offline_page(card: ModelCard, network: bytes, runtime: Runtime) -> bytes:
    """The page as one file.

    Args:
        card: what the network is.
        network: in ONNX, from normalised planes [N, 3, h, w] to logits [N, heads, C, a, b].
        runtime: what runs it.

    Raises:
        ConfigError: the network is too large for a page.
    """
    if len(network) > LARGEST_NETWORK:
        raise ConfigError(
            f"the network has {len(network) / 1e6:.0f} MB in float16, over the {LARGEST_NETWORK / 1e6:.0f} MB that a "
            "page may hold: train a smaller backbone such as mobilenetv2, or use clan serve"
        )
    how = card.normalization
    packed = {"runtime": runtime.script, "wasm": runtime.wasm, "network": network}
    blocks = [f'<script type="text/plain" id="{name}">{_packed(content)}</script>' for name, content in packed.items()]
    scripts = [f"<script>{asset(name)}</script>" for name in ("viewer.js", "offline.js")]
    return rendered(
        card,
        about="Pictures are segmented here in the page and do not leave it; it needs no network and no server.",
        accept="image/*",
        head=Markup(
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{asset("viewer.css")}</style>'
        ),
        scripts=Markup("\n".join([*blocks, *scripts])),
        facts={
            "megapixels": MEGAPIXELS,
            "alignCorners": card.network.align_corners,
            "input": {"size": card.input.size, "mean": how.mean, "std": how.std, "order": list(how.order)},
        },
    )


POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src blob: data:; media-src blob:; connect-src blob: data:"
)
"""Nothing is loaded from elsewhere, even where there is a network."""


def _packed(content: bytes) -> str:
    return b64encode(gzip.compress(content, 9, mtime=0)).decode()
