"""Every kind of backbone and head becomes ONNX that computes the same logits, at any batch."""

import numpy as np
import paddle
import pytest

from clan.core.schema import find
from clan.deployment.conversion import body_of
from clan.evaluation.inference import evaluating
from clan.models.dinov2 import DINOv2
from clan.models.mit import MiT
from clan.models.mobilenet import MobileNetV2
from clan.models.options import HEADS, NetworkConfig
from clan.models.resnet import resnet_tiny
from clan.models.segmenter import Segmenter
from tests.needs import module

onnxruntime = module("onnxruntime", "export")
module("paddle2onnx", "export")

BACKBONES = {
    "resnet": resnet_tiny,
    "mobilenetv2": MobileNetV2,
    "dinov2": lambda: DINOv2(32, 4, 2),
    "mit": lambda: MiT((32, 64, 160, 256), (1, 1, 1, 1)),
}


@pytest.mark.parametrize(
    ("backbone", "head"),
    [("resnet", "daformer"), ("mobilenetv2", "deeplab"), ("dinov2", "light"), ("mit", "daformer")],
)
def test_logits_are_the_network_s(backbone, head):
    paddle.seed(0)
    trunk, kind, config = BACKBONES[backbone](), find(HEADS[head]), NetworkConfig(num_classes=5)
    heads = [kind.of(config, *(trunk.channels[level] for level in kind.reads)) for _ in range(2)]
    network = Segmenter(trunk, heads)
    network.eval()
    size = (64, 96) if backbone == "dinov2" else None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    body = body_of(network, size)
    session = onnxruntime.InferenceSession(body.SerializeToString(), options)
    others = [] if size else [(1, 33, 47), (2, 100, 31), (2, 9, 70), (1, 1, 1)]
    for batch, height, width in ((1, 64, 96), (3, 64, 96), *others):
        planes = np.random.default_rng(0).normal(size=(batch, 3, height, width)).astype(np.float32)
        with evaluating(network):
            expected = np.stack([one.numpy() for one in network(paddle.to_tensor(planes))], axis=1)
        (found,) = session.run(None, {body.graph.input[0].name: planes})
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
