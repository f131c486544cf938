"""Colour jitter against Python's own colours, and the blur against sums over the whole kernel."""

import colorsys
from contextlib import contextmanager

import numpy as np
import paddle
import pytest

from clan.losses import augmentation
from clan.losses.augmentation import (
    adjust_hue,
    adjust_saturation,
    blur,
    blur_kernel_size,
    jitter_colors,
)

pytestmark = [pytest.mark.plain, pytest.mark.core]


def drawn(shape=(2, 3, 6, 9)):
    images = (np.random.default_rng(0).integers(0, 256, shape) / 255).astype(np.float32)
    images[:, :, 0] = images[:, :1, 0]  # greys
    images[:, 1, 1] = images[:, 0, 1]  # two largest or smallest channels
    images[:, :, 2, :2] = [[[0.0, 1.0]]]  # black and white
    return images


def hsv(images, change):
    """`change` of hue 0…1, saturation and value of every pixel."""
    pixels = images.astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, 3)
    changed = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in pixels]
    batch, _, height, width = images.shape
    return np.reshape(changed, (batch, height, width, 3)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("factor", [0.0, 0.75, 1.0, 1.25, 30.0])
def test_saturation_is_multiplied_in_hsv(factor):
    found = adjust_saturation(paddle.to_tensor(drawn()), paddle.to_tensor(factor)).numpy()
    np.testing.assert_allclose(found, hsv(drawn(), lambda h, s, v: (h, min(s * factor, 1), v)), atol=2e-6)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 0.1, 0.5])
def test_hue_is_turned_in_hsv(turn):
    found = adjust_hue(paddle.to_tensor(drawn()), paddle.to_tensor(turn)).numpy()
    np.testing.assert_allclose(found, hsv(drawn(), lambda h, s, v: ((h + turn) % 1, s, v)), atol=3e-6)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_every_image_gets_its_own_factors_in_the_order_drawn(order):
    factors = np.float32([[1.2, 0.8, 1.1, 0.2], [0.9, 1.2, 0.7, -0.1]])
    found = jitter_colors(paddle.to_tensor(drawn()), paddle.to_tensor(factors), order).numpy()
    for image, (brightness, contrast, saturation, turn), result in zip(drawn(), factors, found, strict=True):
        steps = (
            lambda x, b=brightness: np.clip(x + b - 1, 0, 1),
            lambda x, c=contrast: np.clip(x * c, 0, 1),
            lambda x, f=saturation: hsv(x, lambda h, s, v: (h, min(s * f, 1), v)),
            lambda x, t=turn: hsv(x, lambda h, s, v: ((h + t) % 1, s, v)),
        )
        expected = image[None]
        for which in order:
            expected = steps[which](expected)
        np.testing.assert_allclose(result, expected[0], atol=1e-5)


def test_factors_of_no_change_change_nothing():
    factors = np.float32([[1.0, 1.0, 1.0, 0.0]] * 2)
    found = jitter_colors(paddle.to_tensor(drawn()), paddle.to_tensor(factors), (2, 0, 3, 1)).numpy()
    np.testing.assert_allclose(found, drawn(), atol=2e-6)


def test_the_kernel_is_the_odd_number_about_a_tenth_of_the_side():
    assert [blur_kernel_size(side) for side in (8, 40, 64, 96, 256, 512, 1024)] == [1, 3, 7, 9, 25, 51, 103]


def test_the_blur_is_computed_in_float32_within_autocast(monkeypatch):
    """Which acts on GPUs alone, so here what it would do to a convolution is done for it."""
    convolve, acts = augmentation.F.conv2d, [True]

    @contextmanager
    def auto_cast(enable):
        acts.append(enable)
        yield
        acts.pop()

    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    monkeypatch.setattr(
        augmentation.F,
        "conv2d",
        lambda *given: convolve(*given).astype("bfloat16" if acts[-1] else "float32"),
    )
    assert blur(paddle.to_tensor(drawn((1, 3, 40, 40))), 1.0).dtype == paddle.float32


@pytest.mark.parametrize("sigma", [0.15, 0.8, 1.15])
def test_the_blur_is_a_gaussian_over_the_whole_kernel_with_reflected_borders(sigma):
    images = np.random.default_rng(1).normal(size=(2, 3, 43, 160)).astype(np.float32)
    expected = images.astype(np.float64)
    for axis in (2, 3):
        side = images.shape[axis]
        offsets = np.arange(blur_kernel_size(side)) - blur_kernel_size(side) // 2
        weights = np.exp(-(offsets**2) / (2 * sigma**2))
        reflected = [np.abs(np.arange(side) + offset) for offset in offsets]
        reflected = [np.where(index < side, index, 2 * side - 2 - index) for index in reflected]
        terms = [weight * np.take(expected, index, axis) for weight, index in zip(weights, reflected, strict=True)]
        expected = np.sum(terms, axis=0) / weights.sum()
    np.testing.assert_allclose(blur(paddle.to_tensor(images), sigma).numpy(), expected, atol=2e-6)
