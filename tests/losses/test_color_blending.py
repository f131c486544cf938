"""Colour jitter by blending, against Pillow's enhancements of 8-bit images, which have the same definitions."""

import numpy as np
import paddle
import pytest
from PIL import Image, ImageEnhance

from clan.losses.color_blending import BLENDS, blend_brightness, blend_contrast, blend_saturation

pytestmark = pytest.mark.plain

PILLOW = {
    blend_brightness: ImageEnhance.Brightness,
    blend_contrast: ImageEnhance.Contrast,
    blend_saturation: ImageEnhance.Color,
}


@pytest.mark.parametrize("blend", PILLOW)
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5])
def test_blends_are_pillow_s_enhancements(blend, factor):
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    expected = np.asarray(PILLOW[blend](Image.fromarray(image)).enhance(factor)) / 255
    planes = paddle.to_tensor((image / 255).astype(np.float32).transpose(2, 0, 1)[None])
    found = blend(planes, paddle.full([1, 1, 1, 1], factor)).numpy()[0].transpose(1, 2, 0)
    assert np.abs(found - expected).max() < 1.6 / 255


def test_every_image_of_a_batch_has_its_factor_and_its_own_mean():
    images = paddle.rand([2, 3, 4, 5])
    factors = paddle.to_tensor([0.6, 1.3]).reshape([2, 1, 1, 1])
    for blend in BLENDS:
        together = blend(images, factors - (1.0 if blend is BLENDS[3] else 0.0)).numpy()
        for k in range(2):
            factor = factors[k : k + 1] - (1.0 if blend is BLENDS[3] else 0.0)
            np.testing.assert_allclose(together[k : k + 1], blend(images[k : k + 1], factor).numpy(), atol=1e-6)
