"""Adaptation methods. Adding one is a file with a `Method` and an entry here."""

from collections.abc import Callable, Mapping

from clan.config import Config
from clan.methods.base import Method
from clan.methods.clan import CLAN
from clan.methods.source_only import SourceOnly
from clan.models.deeplab import Segmenter
from clan.models.discriminator import Discriminator


def _clan(config: Config, segmenter: Segmenter) -> Method:
    discriminator = Discriminator(config.network.num_classes, config.network.discriminator_width)
    return CLAN(segmenter, discriminator, loss=config.loss, ignore_label=config.ignore_label)


def _source_only(config: Config, segmenter: Segmenter) -> Method:
    return SourceOnly(segmenter, loss=config.loss, ignore_label=config.ignore_label)


METHODS: Mapping[str, Callable[[Config, Segmenter], Method]] = {"clan": _clan, "source-only": _source_only}
"""What `--method` chooses from."""


def build_method(config: Config) -> Method:
    """The networks and the method that a configuration asks for, with random weights."""
    network = config.network
    segmenter = Segmenter(
        network.backbone,
        network.num_classes,
        projection_bias=network.projection_bias,
        train_batch_norm_affine=network.train_batch_norm_affine,
    )
    return METHODS[config.method](config, segmenter)
