"""CLAN: category-level adversarial domain adaptation for semantic segmentation, on PaddlePaddle."""

__version__ = "0.1.0"
