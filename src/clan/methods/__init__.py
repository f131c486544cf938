"""Adaptation methods: one file each, with its options in `clan.run.method_options` and an entry here."""

from paddle import Tensor

from clan.core.errors import ConfigError
from clan.core.runtime import import_paddle
from clan.methods.adaptsegnet import AdaptSegNet, AdaptSegNetMulti
from clan.methods.advent import AdvEnt, MinEnt
from clan.methods.base import Method
from clan.methods.clan import CLAN
from clan.methods.dacs import DACS
from clan.methods.daformer import DAFormer
from clan.methods.mic import MIC
from clan.methods.oracle import Oracle
from clan.methods.source_only import SourceOnly
from clan.methods.vfm import VFM
from clan.models.segmenter import build_segmenter
from clan.run.config import Config

METHODS: dict[str, type[Method]] = {
    method.options_type.name: method
    for method in (CLAN, SourceOnly, AdaptSegNet, AdaptSegNetMulti, MinEnt, AdvEnt, Oracle, DACS, DAFormer, MIC, VFM)
}
"""Methods by the name that `--method` takes."""


def build_method(config: Config, class_weights: Tensor | None = None) -> Method:
    """Builds a method and its networks with random weights; on the CPU with kernels.

    Args:
        config: the run.
        class_weights: weights of classes in the segmentation loss, float32 [C]; None: equal weights.

    Raises:
        ConfigError: the network has fewer heads than the method needs.
    """
    import_paddle()  # repeated for callers other than the command line
    method = METHODS[config.method.name]
    heads = config.network.num_heads
    if heads < method.fewest_heads:
        raise ConfigError(
            f"method {config.method.name} needs {method.fewest_heads} heads, and network.num_heads is {heads}: set it "
            f"to {method.fewest_heads}"
        )
    segmenter = build_segmenter(config.network, auxiliary_head=method.has_auxiliary_head)
    return method(segmenter, config, class_weights)
