"""Adaptation methods. Adding one is a file with a `Method`, its options in `clan.method_options`, and an entry here."""

from paddle import Tensor

from clan.config import Config
from clan.methods.adaptsegnet import AdaptSegNet, AdaptSegNetMulti
from clan.methods.advent import AdvEnt, MinEnt
from clan.methods.base import Method
from clan.methods.clan import CLAN
from clan.methods.oracle import Oracle
from clan.methods.source_only import SourceOnly
from clan.models.deeplab import Segmenter
from clan.runtime import import_paddle

METHODS: dict[str, type[Method]] = {
    method.options_type.name: method
    for method in (CLAN, SourceOnly, AdaptSegNet, AdaptSegNetMulti, MinEnt, AdvEnt, Oracle)
}
"""What `--method` chooses from."""


def build_method(config: Config, class_weights: Tensor | None = None) -> Method:
    """The networks and the method that a configuration asks for, with random weights, and on the CPU with kernels.

    Args:
        config: the run.
        class_weights: float32 [C], of the classes in the segmentation loss; None: all the same.
    """
    import_paddle()  # again, for those who import this package without the command line
    network = config.network
    method = METHODS[config.method.name]
    segmenter = Segmenter(
        network.backbone,
        network.num_classes,
        output_stride=network.output_stride,
        head_dilations=network.head_dilations,
        projection_bias=network.projection_bias,
        train_batch_norm_affine=network.train_batch_norm_affine,
        auxiliary_head=method.has_auxiliary_head,
    )
    return method(segmenter, config, class_weights)
