"""What a data set is, described in a few lines of YAML: where its files lie and what its labels mean."""

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
