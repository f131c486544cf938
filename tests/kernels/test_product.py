"""Matrix products into given memory equal NumPy's, with MKL and without."""

import numpy as np
import pytest

from clan.kernels import product
from clan.kernels.product import multiply, multiply_each
from tests.needs import needed

RNG = np.random.default_rng(0)


def matrix(*shape, transposed):
    """Random numbers of a shape, as they are or as a transposed view."""
    if transposed:
        return RNG.standard_normal((*shape[:-2], shape[-1], shape[-2]), np.float32).swapaxes(-1, -2)
    return RNG.standard_normal(shape, np.float32)


@pytest.fixture(params=["MKL", "NumPy"])
def library(request, monkeypatch):
    if request.param == "NumPy":
        monkeypatch.setattr(product, "_mkl", lambda: None)
    else:
        needed("mkl", product._mkl())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
class TestProducts:
    def test_a_product_is_written_or_added(self, a_transposed, b_transposed):
        a = matrix(7, 5, transposed=a_transposed)
        b = matrix(5, 3, transposed=b_transposed)
        out = np.full((7, 3), np.nan, np.float32)
        multiply(a, b, out)
        np.testing.assert_allclose(out, a @ b, rtol=1e-5, atol=1e-6)
        multiply(a, b, out, accumulate=True)
        np.testing.assert_allclose(out, 2 * (a @ b), rtol=1e-5, atol=1e-6)

    def test_products_of_a_stack(self, a_transposed, b_transposed):
        a = matrix(4, 7, 5, transposed=a_transposed)
        b = matrix(4, 5, 3, transposed=b_transposed)
        out = np.full((4, 7, 3), np.nan, np.float32)
        multiply_each(a, b, out)
        np.testing.assert_allclose(out, a @ b, rtol=1e-5, atol=1e-6)


def test_other_strides_are_refused():
    with pytest.raises(AssertionError, match="contiguous"):
        multiply(np.ones((6, 8), np.float32)[::2, ::2], np.ones((4, 3), np.float32), np.empty((3, 3), np.float32))
