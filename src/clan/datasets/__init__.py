"""Descriptions of data sets in YAML: paths of images and labels, encoding and classes."""

from clan.datasets.classes import (
    CITYSCAPES_CLASSES,
    NAMED_CLASSES,
    Classes,
    classes_of,
    load_classes,
    placeholders,
)
from clan.datasets.description import PACKAGED, Description, DescriptionFile, load_description, packaged

__all__ = [
    "CITYSCAPES_CLASSES",
    "NAMED_CLASSES",
    "PACKAGED",
    "Classes",
    "Description",
    "DescriptionFile",
    "classes_of",
    "load_classes",
    "load_description",
    "packaged",
    "placeholders",
]
