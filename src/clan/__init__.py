"""Domain adaptation of segmentation networks on PaddlePaddle: CLAN and its successors.

What scripts use is here: `clan.load`, `clan.train`, `clan.evaluate`, `clan.predict`, `clan.report` and the presets'
configurations. docs/python.md shows how.
"""

from typing import Any

from clan.core import runtime

runtime.configure()

__version__ = "0.1.0"

FACE = {
    "train": "clan.training.run:train",
    "evaluate": "clan.evaluation.bulk:evaluate_weights",
    "load": "clan.evaluation.model:load",
    "load_segmenter": "clan.evaluation.label_maps:load_segmenter",
    "predict": "clan.evaluation.prediction:predict",
    "score_folders": "clan.evaluation.scoring:score_folders",
    "report": "clan.reporting.page:make_report",
    "Observer": "clan.run.observer:Observer",
    "Config": "clan.run.config:Config",
    "load_config": "clan.run.config:load",
    "official": "clan.run.presets:official",
    "paper": "clan.run.presets:paper",
    "port": "clan.run.presets:port",
    "best": "clan.run.presets:best",
    "dacs": "clan.run.presets:dacs",
    "daformer": "clan.run.presets:daformer",
    "mic": "clan.run.presets:mic",
    "vfm": "clan.run.presets:vfm",
}
"""Where the functions and classes of this package's face are; they are imported when they are used."""

NEED_PADDLE = {"train", "evaluate", "load_segmenter", "report"}
"""Those that cannot do without Paddle; `load` and `predict` import it for what it has to compute."""


def __getattr__(name: str) -> Any:
    if name not in FACE:
        raise AttributeError(f"module 'clan' has no attribute {name!r}")
    from clan.core.schema import find

    if name in NEED_PADDLE:
        runtime.import_paddle()
    return find(FACE[name])


def __dir__() -> list[str]:
    return sorted([*globals(), *FACE])
