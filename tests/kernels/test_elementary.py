"""exp and erf of the kernels against the C library's."""

import math

import numpy as np
import pytest

from clan.core.compilation import compiled_exactly
from clan.kernels import elementary


@pytest.mark.parametrize(("name", "end", "tolerance"), [("exp", 87.0, {"rtol": 4e-7}), ("erf", 6.0, {"atol": 4e-7})])
def test_values_are_those_of_the_c_library(name, end, tolerance):
    function = getattr(elementary, name)

    @compiled_exactly
    def of_all(x):
        result = np.empty_like(x)
        for i in range(len(x)):
            result[i] = function(x[i])
        return result

    x = np.linspace(-end, end, 10_001).astype(np.float32)
    expected = [getattr(math, name)(float(value)) for value in x]
    np.testing.assert_allclose(of_all(x), expected, **({"rtol": 0} | tolerance))
    assert np.isfinite(of_all(np.float32([-1e30, 1e30]))).all()
