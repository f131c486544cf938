"""Laws of style alignment."""

import numpy as np
import pytest

from clan.data import transforms
from clan.data.dataset import Dataset
from clan.data.loader import PairedLoader
from clan.data.style import match_statistics, swap_amplitudes
from clan.models.normalization import CAFFE, IMAGENET
from clan.training.trainer import build_samplers

BLACK = np.array([-104.0, -117.0, -123.0])


def planes(height, width, seed):
    random = np.random.default_rng(seed)
    return (random.uniform(20, 200, (3, height, width)) + BLACK.reshape(3, 1, 1)).astype(np.float32)


@pytest.mark.parametrize("shape", [(16, 24), (15, 23)])
def test_an_image_in_its_own_style_is_itself(shape):
    image = planes(*shape, 0)
    np.testing.assert_allclose(match_statistics(image, image), image, atol=1e-3)
    np.testing.assert_allclose(swap_amplitudes(image, image, 0.3, BLACK), image, atol=1e-3)


def test_statistics_become_the_target_s():
    styled, target = match_statistics(planes(16, 24, 0), planes(9, 31, 1)), planes(9, 31, 1)
    np.testing.assert_allclose(styled.mean(axis=(1, 2)), target.mean(axis=(1, 2)), atol=1e-3)
    np.testing.assert_allclose(styled.std(axis=(1, 2)), target.std(axis=(1, 2)), rtol=1e-4)


def test_flat_images_have_statistics_too():
    flat = np.full((3, 4, 5), 7, np.float32)
    assert np.isfinite(match_statistics(flat, planes(4, 5, 0))).all()
    assert np.isfinite(swap_amplitudes(flat, planes(4, 5, 0), 0.5, BLACK)).all()


@pytest.mark.parametrize("shape", [(16, 24), (15, 23)])
def test_low_amplitudes_become_the_target_s_and_all_else_stays(shape):
    source, target = planes(*shape, 0), planes(*shape, 1)
    styled, own, other = (
        np.fft.fftshift(np.fft.fft2(image - BLACK.reshape(3, 1, 1)), axes=(1, 2))
        for image in (swap_amplitudes(source, target, 0.2, BLACK), source, target)
    )
    reach = int(0.2 * min(shape))
    (row, column), low = (length // 2 for length in shape), np.zeros(shape, bool)
    low[row - reach : row + reach + 1, column - reach : column + reach + 1] = True
    np.testing.assert_allclose(np.abs(styled[:, low]), np.abs(other[:, low]), rtol=1e-4)
    np.testing.assert_allclose(styled[:, ~low], own[:, ~low], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(np.angle(styled[:, low]), np.angle(own[:, low]), atol=1e-3)


def test_extent_zero_swaps_the_mean_brightness_alone():
    source, target = planes(16, 24, 0), planes(32, 48, 1)
    styled = swap_amplitudes(source, target, 0.0, BLACK)
    np.testing.assert_allclose(styled.mean(axis=(1, 2)), target.mean(axis=(1, 2)), atol=1e-2)
    difference = styled - source
    np.testing.assert_allclose(
        difference, difference.mean(axis=(1, 2), keepdims=True).repeat(16, 1).repeat(24, 2), atol=1e-2
    )


@pytest.mark.parametrize("style", ["statistics", "amplitude"])
def test_the_loader_styles_the_source_and_leaves_the_target(tiny, style):
    plain, styled = (
        PairedLoader(*build_samplers(tiny(batch_size=2, augmentation__style=name))).pair(1) for name in ("none", style)
    )
    np.testing.assert_array_equal(plain.target.images, styled.target.images)
    np.testing.assert_array_equal(plain.source.labels, styled.source.labels)
    brightness = styled.target.images.mean(axis=(2, 3))
    np.testing.assert_allclose(styled.source.images.mean(axis=(2, 3)), brightness, atol=0.1)
    assert np.abs(plain.source.images.mean(axis=(2, 3)) - brightness).max() > 1


@pytest.mark.parametrize("normalization", [CAFFE, IMAGENET])
def test_each_normalisation_is_undone_and_black_is_its_origin(worlds, normalization):
    image = Dataset("synthia", worlds / "SYNTHIA/RAND_CITYSCAPES").read_image(0)
    normal = transforms.normalize(image, normalization)
    np.testing.assert_array_equal(transforms.denormalize(normal, normalization), np.asarray(image))
    lightest = (normal - transforms.normalized_black(normalization).reshape(3, 1, 1)).min()
    assert lightest >= 0


def test_imagenet_s_normalisation_is_pytorch_s():
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    from PIL import Image

    expected = (rgb / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    ours = transforms.normalize(Image.fromarray(rgb), IMAGENET)
    np.testing.assert_allclose(ours, expected.transpose(2, 0, 1), atol=1e-5)


def test_colour_jitter_changes_colours_alone_and_follows_from_the_seed(tiny):
    def batch(jitter):
        return build_samplers(tiny(batch_size=2, augmentation__color_jitter=jitter))[0].batch(3)

    plain, jittered, again = batch(0.0), batch(0.4), batch(0.4)
    np.testing.assert_array_equal(jittered.images, again.images)
    np.testing.assert_array_equal(jittered.labels, plain.labels)
    for before, after in zip(plain.images, jittered.images, strict=True):
        assert np.abs(before - after).max() > 5
        assert np.corrcoef(before.mean(axis=0).ravel(), after.mean(axis=0).ravel())[0, 1] > 0.9


def test_factors_of_one_leave_colours_as_they_are(worlds):
    image = Dataset("synthia", worlds / "SYNTHIA/RAND_CITYSCAPES").read_image(0)
    np.testing.assert_array_equal(transforms.jitter_color(image, (1, 1, 1)), image)
    np.testing.assert_array_equal(transforms.jitter_color(image, (0, 1, 1)), np.zeros_like(image))
    gray = np.asarray(transforms.jitter_color(image, (1, 1, 0)))
    assert (gray.min(axis=2) == gray.max(axis=2)).all()
