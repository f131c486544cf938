"""What is measured of networks, where the answer is known."""

import numpy as np
import paddle
import pytest

from clan.data.dataset import Dataset
from clan.methods import build_method
from clan.methods.base import Domain, LabelledDomain, Pair
from clan.reporting.inspection.measures import (
    at_cells,
    discrepancies,
    discriminator_accuracy,
    head_cosine,
    plain_sampler,
)

pytestmark = pytest.mark.plain

CLASSES, SIZE = 19, (32, 64)


@pytest.fixture
def method(tiny):
    paddle.seed(0)
    method = build_method(tiny())
    for parameter in method.segmenter.head1.parameters():
        parameter.set_value(1e4 * parameter)  # random features are small: now the heads have an opinion
    method.segmenter.eval()
    return method


@pytest.fixture
def look(tiny, worlds, method):
    """Discrepancies on target images, in any order and number."""
    dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val")

    def call(*indices, labelled=True):
        sampler = plain_sampler(tiny(), dataset.part(indices), SIZE[::-1], labelled=labelled)
        return discrepancies(method, sampler, CLASSES, keep=1, on_image=lambda: None)

    return call


def test_heads_that_are_one_never_disagree(method, look):
    before, cosine = look(0, 1), head_cosine(method.segmenter)
    assert before.of_image.min() > 1e-3 and abs(cosine) < 0.1
    method.segmenter.head2.set_state_dict(method.segmenter.head1.state_dict())
    after = look(0, 1)
    assert after.of_image.max() < 1e-5 and np.nanmax(after.of_class) < 1e-5
    assert head_cosine(method.segmenter) == pytest.approx(1, abs=1e-6)
    for parameter in method.segmenter.head2.parameters():
        parameter.set_value(-parameter)
    assert head_cosine(method.segmenter) == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_order_of_images_changes_no_mean(look, labelled):
    first, second = look(0, 1, labelled=labelled), look(1, 0, labelled=labelled)
    np.testing.assert_array_equal(first.of_image, second.of_image[::-1])
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_allclose(first.of_class, second.of_class, rtol=1e-12)
    alone = look(0, labelled=labelled)
    np.testing.assert_array_equal(alone.maps, first.maps)
    assert alone.maps[0].shape == SIZE


def test_classes_by_prediction_make_up_the_whole(look):
    found = look(0, 1, labelled=False)
    assert found.pixels.sum() == 2 * SIZE[0] * SIZE[1]
    assert np.nansum(found.of_class * found.pixels) / found.pixels.sum() == pytest.approx(found.of_image.mean())


@pytest.mark.parametrize("name", ["clan", "adaptsegnet-single", "adaptsegnet-multi", "advent"])
def test_a_discriminator_that_always_says_source_is_right_about_the_source(tiny, name):
    method = build_method(tiny(method=name))
    method.segmenter.eval()
    images = paddle.to_tensor(np.random.default_rng(0).normal(0, 50, (1, 3, *SIZE)).astype(np.float32))
    labels = paddle.zeros([1, *SIZE], "uint8")
    pairs = [Pair(LabelledDomain(images, SIZE, labels, is_source=True), Domain(images, SIZE))]
    for network in method.discriminators.values():
        network.classifier.weight.set_value(0 * network.classifier.weight)
    for answer, source, target in ((-1, 1, 0), (1, 0, 1), (0, 0.5, 0.5)):
        for network in method.discriminators.values():
            network.classifier.bias.set_value(answer * paddle.ones_like(network.classifier.bias))
        found = discriminator_accuracy(method, pairs, method.discriminators)
        assert found.keys() == method.discriminators.keys()
        assert {(one.source, one.target) for one in found.values()} == {(source, target)}


def test_cells_stand_for_pixels_from_corner_to_corner():
    labels = np.arange(5 * 9).reshape(5, 9)
    np.testing.assert_array_equal(at_cells(labels, (5, 9)), labels)
    np.testing.assert_array_equal(at_cells(labels, (2, 3)), [[0, 4, 8], [36, 40, 44]])
