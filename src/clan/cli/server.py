"""`clan serve`: a page and an HTTP endpoint for a trained network."""

import os
from pathlib import Path
from typing import Literal

from clan.core.errors import LESS_MEMORY, ConfigError
from clan.core.output import speak


def serve(
    model: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    input_size: tuple[int, int] | None = None,
    max_megabytes: float = 20,
    max_megapixels: float = 16,
    max_waiting: int = 16,
    device: Literal["auto", "cpu", "gpu"] = "auto",
) -> None:
    """Serve a page to try a network in a browser, and POST /predict for programs, until Ctrl-C.

    Args:
        model: folder or .onnx file of clan export, or weights with their run's config.yaml.
        host: address to listen at; with another than 127.0.0.1 others can use the network too, and nothing asks who.
        port: port to listen at; 0 takes a free one.
        input_size: width and height of the network's input; without it, each image's aspect ratio is kept.
        max_megabytes: largest file that is taken.
        max_megapixels: largest picture that is taken.
        max_waiting: pictures in hand at once; further ones are turned away for some seconds.
        device: device to compute on; auto: the GPU if there is one.
    """
    speak({LESS_MEMORY: "lower --input-size or --max-megapixels"})
    try:
        from clan.serving.server import address_of, listen, run_server
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        raise ConfigError(f"{error.name} is not installed: run `python -m pip install 'clan-paddle[serve]'`") from None
    from clan.evaluation.model import load
    from clan.serving.pictures import RequestLimits

    limits = RequestLimits(max_megabytes, max_megapixels, max_waiting)
    with listen(host, port) as place:  # before loading: a port that is taken is said at once
        network = load(model, input_size=input_size, device=device, notify=print)
        ended = run_server(
            network, place, limits, host, ready=lambda: print(f"{address_of(place)} (Ctrl-C ends it)", flush=True)
        )
    print("ended", flush=True)
    if not ended:
        os._exit(0)  # Python would wait for the network
