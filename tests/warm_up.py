"""Compiles the loops of training and evaluation before the tests, so that no process of theirs is slow for that."""

import io

from clan.core import runtime

runtime.import_paddle()

import numpy as np  # noqa: E402
import paddle  # noqa: E402
from PIL import Image  # noqa: E402

from clan.core import png  # noqa: E402
from clan.evaluation.argmax import label_map  # noqa: E402
from clan.losses.segmentation import class_probabilities  # noqa: E402
from clan.models.discriminator import Discriminator  # noqa: E402
from clan.models.options import NetworkConfig  # noqa: E402
from clan.models.segmenter import build_segmenter  # noqa: E402

logits1, logits2 = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=3))(paddle.zeros([1, 3, 64, 64]))
probability = class_probabilities(paddle.nn.functional.interpolate(logits1 + logits2, size=[64, 64]))
Discriminator(3, 4)(probability).mean().backward()

for image in (Image.linear_gradient("L"), Image.linear_gradient("L").convert("RGB")):
    file = io.BytesIO()
    image.save(file, "PNG")
    assert png.decode(file.getvalue()) is not None
label_map(np.zeros((3, 4, 4), np.float32), (8, 8))
