"""Compiles the loops of training: run before the tests, so that no process of theirs is slow for that reason."""

from clan.core import runtime

runtime.import_paddle()

import paddle  # noqa: E402

from clan.losses.probability import class_probabilities  # noqa: E402
from clan.models.options import NetworkConfig  # noqa: E402
from clan.models.segmenter import build_segmenter  # noqa: E402

logits1, logits2 = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=3))(paddle.zeros([1, 3, 32, 32]))
class_probabilities(logits1 + logits2).mean().backward()
