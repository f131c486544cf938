"""The page that shows what a network makes of pictures: served with its files beside it, or as one file."""

import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from clan.data.image_files import IMAGE_SUFFIXES
from clan.datasets.colors import to_hex
from clan.evaluation.model_card import ModelCard
from clan.evaluation.overlays import heat_palette
from clan.serving.pictures import RequestLimits

SCRIPTS, STYLES = ("viewer.js", "remote.js"), ("viewer.css",)


def assets() -> dict[str, tuple[bytes, str]]:
    """The files of the served page: name → content and kind."""
    kinds = dict.fromkeys(SCRIPTS, "text/javascript") | dict.fromkeys(STYLES, "text/css")
    return {name: (asset(name).encode(), kind) for name, kind in kinds.items()}


def asset(name: str) -> str:
    """The text of a file of the page."""
    return (files("clan.serving") / "assets" / name).read_text("utf-8")


def served_page(card: ModelCard, limits: RequestLimits) -> bytes:
    """The page of `clan serve`."""
    return rendered(
        card,
        about="Pictures are segmented by this server and are not kept; nothing is sent anywhere else.",
        accept=",".join(("image/*", *IMAGE_SUFFIXES)),
        head=Markup("".join(f'<link rel="stylesheet" href="{name}">' for name in STYLES)),
        scripts=Markup("".join(f'<script src="{name}"></script>' for name in SCRIPTS)),
        facts={"megabytes": limits.megabytes},
    )


def rendered(
    card: ModelCard, *, about: str, accept: str, head: Markup, scripts: Markup, facts: dict[str, Any]
) -> bytes:
    """A page.

    Args:
        card: what the network is.
        about: a sentence below the title.
        accept: what can be chosen as a picture.
        head: styles.
        scripts: what runs.
        facts: what scripts should know, besides the classes.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(asset("page.html.j2")).render(
        title=title_of(card),
        about=about,
        accept=accept,
        head=head,
        scripts=scripts,
        facts=as_script({"classes": classes_of(card), "heat": heat_palette().tobytes().hex(), **facts}),
        footer=card.licence,
    )
    return page.encode()


def title_of(card: ModelCard) -> str:
    """What a network is, in a line."""
    source = card.source
    trained = f", {source.source} → {source.target}" if source.source and source.target else ""
    method = f" by {source.method}" if source.method else ""
    return f"{card.network.backbone}, {card.num_classes} classes{trained}{method}"


def classes_of(card: ModelCard) -> list[dict[str, str]]:
    """Names and colours in the order of trainIds."""
    space = card.label_space
    return [{"name": name, "color": to_hex(color)} for name, color in zip(space.names, space.colors, strict=True)]


def as_script(value: Any) -> Markup:
    """JSON that can stand in a page."""
    return Markup(json.dumps(value, ensure_ascii=False).replace("<", "\\u003c"))
