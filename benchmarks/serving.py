"""What `clan serve` costs: pictures of 1024×512, served against predicted in the same process, alone and eight at once.

    python benchmarks/serving.py WEIGHTS|DIR [--requests 40] [--clients 8]

The ratio is that of medians; turns alternate, so that a slow minute of the machine hits both.
"""

from __future__ import annotations

import argparse
import http.client
import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import common
import numpy as np
from PIL import Image

from clan.evaluation.model import load
from clan.serving.pictures import RequestLimits
from clan.serving.server import listen, run_server

SIZE = (1024, 512)


def picture() -> bytes:
    """A JPEG with details."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
    return content.getvalue()


def client(port: int) -> Callable[[bytes, str], bytes]:
    """Sends pictures, each by a connection of its own."""

    def ask(content: bytes, want: str) -> bytes:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        line.request("POST", f"/predict?want={want}", content, {"Content-Type": "image/jpeg"})
        answer = line.getresponse()
        body = answer.read()
        line.close()
        assert answer.status == 200, body
        return body

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--clients", type=int, default=8)
    args = parser.parse_args()
    print(common.describe_machine())
    model = load(args.weights, input_size=SIZE)
    place, ready = listen("127.0.0.1", 0), threading.Event()
    port = place.getsockname()[1]
    options = {"ready": ready.set}
    threading.Thread(
        target=run_server, args=(model, place, RequestLimits(), "127.0.0.1"), kwargs=options, daemon=True
    ).start()
    ready.wait()
    content = picture()
    image = Image.open(io.BytesIO(content)).convert("RGB")
    ask = client(port)
    turns: dict[str, Callable[[], object]] = {
        "bare": lambda: model(image).labels,
        "served, label map": lambda: ask(content, "labels"),
        "bare, with confidence": lambda: (lambda found: (found.labels, found.confidence))(model(image)),
        "served, everything": lambda: ask(content, "all"),
    }
    seconds = common.measure({name: common.timed(turn) for name, turn in turns.items()}, repeats=args.requests)
    for name, times in seconds.items():
        print(f"{name:24} median {median(times):.3f} s, min {min(times):.3f} s")
    for kind, bare in (("label map", "bare"), ("everything", "bare, with confidence")):
        print(f"{kind}: {median(seconds[f'served, {kind}']) / median(seconds[bare]):.2f} times the bare prediction")
    crowd(port, content, args, median(seconds["served, label map"]))


def crowd(port: int, content: bytes, args: argparse.Namespace, alone: float) -> None:
    """Many clients at once."""

    def work(_: int) -> list[float]:
        ask, times = client(port), []
        for _ in range(args.requests):
            began = time.perf_counter()
            ask(content, "labels")
            times.append(time.perf_counter() - began)
        return times

    with ThreadPoolExecutor(args.clients) as pool:
        times = sorted(one for times in pool.map(work, range(args.clients)) for one in times)
    last = times[min(len(times) - 1, int(0.99 * len(times)))]
    print(
        f"{args.clients} clients, {len(times)} pictures: median {median(times):.3f} s, p99 {last:.3f} s, "
        f"{last / alone:.1f} times the median of one client"
    )


if __name__ == "__main__":
    main()
