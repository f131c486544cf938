"""The endpoints: the page, what the network is, and `POST /predict`."""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from clan import __version__
from clan.evaluation.model import Model, Prediction
from clan.serving.desk import Desk
from clan.serving.guard import BROKEN, App, Guard
from clan.serving.page import assets, served_page
from clan.serving.pictures import Product, Refused, RequestLimits, everything, product

KINDS = ("image/", "application/octet-stream", "binary/octet-stream")
"""What the body may be called."""

PICTURES = {key: {"schema": {}} for key in ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff")}


class ClassShare(BaseModel):
    """A class in a picture."""

    id: int = Field(description="the value of its pixels in the label map")
    name: str
    color: str = Field(description='as "#rrggbb"')
    share: float = Field(description="of the pixels, 0 to 1")


class Answer(BaseModel):
    """What the network makes of a picture; images are PNGs in base 64, at the size of the upright picture."""

    width: int
    height: int
    labels: str = Field(description="8-bit grey PNG of class ids")
    confidence: str = Field(description="8-bit grey PNG, 255 times the largest probability")
    classes: list[ClassShare]
    seconds: float = Field(description="from the arrived picture to the answer, waiting included")


class Failure(BaseModel):
    """Why a request was not served."""

    error: str = Field(description="one sentence")


FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": about}
    for status, about in {
        400: "no picture, or a wrong question",
        403: "the request comes from another page, or names another host",
        408: "the picture did not arrive in time",
        413: "too many bytes or pixels",
        415: "not a picture, a damaged one, or another kind of body",
        503: "too many pictures are waiting; Retry-After says when to ask again",
    }.items()
}


def build_app(desk: Desk, names: Collection[str] = ()) -> App:
    """The application.

    Args:
        desk: takes pictures to the network.
        names: see `Guard`.
    """
    api = FastAPI(
        title="clan serve",
        description="Segments pictures.",
        version=__version__,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    add_page(api, desk.model, desk.limits)
    add_predict(api, desk)
    api.exception_handler(Refused)(_refused)
    api.exception_handler(Exception)(_broken)
    api.exception_handler(HTTPException)(_http_error)
    api.exception_handler(RequestValidationError)(_invalid)
    return Guard(api, names)


def add_page(api: FastAPI, model: Model, limits: RequestLimits) -> None:
    """Adds the page and its files."""
    page = served_page(model.card, limits)

    @api.get("/", include_in_schema=False)
    async def home() -> Response:
        return Response(page, media_type="text/html")

    def add(path: str, content: bytes, kind: str) -> None:
        @api.get(path, include_in_schema=False)
        async def file() -> Response:
            return Response(content, media_type=kind)

    for name, (content, kind) in assets().items():
        add(f"/{name}", content, kind)


def add_predict(api: FastAPI, desk: Desk) -> None:
    """Adds `POST /predict`."""

    @api.post(
        "/predict",
        summary="Segment a picture",
        response_model=None,
        responses={
            200: {
                "model": Answer,
                "description": "everything as JSON, or the image that was asked for",
                "content": {"image/png": {"schema": {}}, "image/jpeg": {"schema": {}}},
            },
            **FAILURES,
        },
        openapi_extra={"requestBody": {"required": True, "content": PICTURES}},
    )
    async def predict(request: Request, want: Product = "all") -> Response:
        """The body is the file of a picture; its EXIF orientation is applied. `want` names an image to get alone."""
        kind = request.headers.get("content-type", KINDS[1]).lower()
        if not kind.startswith(KINDS):
            raise Refused(
                415,
                f"the body is called {kind[:60]!r}: send the bytes of a picture alone, such as by "
                "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'",
            )
        try:
            with desk.arriving() as arrived:
                content = await _body(request, desk.limits, arrived)
                return await desk.predict(content, _answer_of(want, time.monotonic()))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it


def _answer_of(want: Product, began: float) -> Callable[[Prediction], Response]:
    def make(prediction: Prediction) -> Response:
        if want != "all":
            content, kind = product(prediction, want)
            return Response(content, media_type=kind)
        found = everything(prediction)
        return JSONResponse({**found, "seconds": round(time.monotonic() - began, 3)})

    return make


async def _body(request: Request, limits: RequestLimits, arrived: Callable[[int], None]) -> bytes:
    """Everything that a client sends, within limits; `arrived` is told of every piece's bytes.

    Raises:
        Refused: it is too large or too slow.
    """
    most = limits.most_bytes
    too_large = Refused(413, f"the picture has more than {limits.megabytes:g} MB: send a smaller one")
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal():
        raise Refused(400, "Content-Length is not a number")
    content = bytearray()

    async def read() -> None:
        excess = 0
        async for piece in request.stream():
            if excess or len(content) + len(piece) > most:
                # Read on a little: a client that is cut off while it sends does not see the answer.
                excess += len(piece)
                if excess > most:
                    break
            else:
                arrived(len(piece))
                content.extend(piece)
        if excess:
            raise too_large

    if int(stated) > 2 * most:
        raise too_large
    try:
        await asyncio.wait_for(read(), limits.seconds)
    except asyncio.TimeoutError:
        raise Refused(408, f"the picture did not arrive within {limits.seconds:g} seconds: send it again") from None
    return bytes(content)


async def _refused(request: Request, refusal: Any) -> JSONResponse:
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return JSONResponse({"error": refusal.sentence}, refusal.status, headers=headers)


async def _broken(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": BROKEN}, 500)  # the guard prints what it was


async def _http_error(request: Request, error: Any) -> JSONResponse:
    sentences = {
        404: "there is nothing at this address: GET / is the page, POST /predict segments a picture",
        405: f"{request.method[:16]} is not for this address: GET / is the page, POST /predict segments a picture",
    }
    sentence = sentences.get(error.status_code, str(error.detail))
    return JSONResponse({"error": sentence}, error.status_code, headers=error.headers)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}"}, 400)
