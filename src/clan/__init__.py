"""CLAN: category-level adversarial domain adaptation for semantic segmentation, on PaddlePaddle."""

from clan import runtime

runtime.configure()

__version__ = "0.1.0"
