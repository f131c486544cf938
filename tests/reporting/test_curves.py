import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from clan.reporting.curves import (
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    SMOOTHING,
    WIDTH,
    Panel,
    Series,
    short,
    smoothed,
    thin,
    ticks,
)


@given(st.integers(1, 5000), st.integers(1, MOST_POINTS))
def test_thinning_keeps_the_mean_and_the_order(count, most):
    x, y = np.arange(count, dtype=float), np.sin(np.arange(count))
    few_x, few_y = thin(x, y, most)
    assert len(few_x) == min(count, most)
    assert (np.diff(few_x) > 0).all()
    assert few_y.min() >= y.min() - 1e-12 and few_y.max() <= y.max() + 1e-12
    if count % most == 0:
        np.testing.assert_allclose(few_y.mean(), y.mean(), atol=1e-12)


@given(st.integers(1, 900), st.floats(-10, 10))
def test_smoothing_leaves_constants_and_calms_noise_without_new_extremes(count, constant):
    np.testing.assert_allclose(smoothed(np.full(count, constant)), constant, atol=1e-9)
    noise = np.random.default_rng(count).normal(size=count)
    assert noise.min() - 1e-9 <= smoothed(noise).min() and smoothed(noise).max() <= noise.max() + 1e-9
    if count >= 2 * SMOOTHING:
        assert np.diff(smoothed(noise)).std() < 0.75 * np.diff(noise).std()


def test_what_is_not_finite_is_left_out():
    x, y = thin(np.arange(3.0), np.array([1.0, np.nan, 3.0]))
    assert (x.tolist(), y.tolist()) == ([0, 2], [1, 3])


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_few_round_and_inside(low, width):
    assume(width > 1e-9 * abs(low))  # below that, doubles themselves are as coarse as the tolerance
    high = low + width
    found = ticks(low, high, 5)
    assert 1 <= len(found) <= 12
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in found) or len(found) == 1


def test_short_names():
    assert [short(value) for value in (0, 20000, 2e6, 0.00025, 0.5, 100)] == ["0", "20k", "2M", "2.5e-4", "0.5", "100"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_every_point_lies_in_its_panel(values):
    series = Series(0, np.arange(len(values), dtype=float), np.array(values))
    panel = Panel("loss", [series], total=len(values))
    for at, y in zip(panel.data()["series"][0]["at"], panel.data()["series"][0]["y"], strict=True):
        assert LEFT <= at <= WIDTH - RIGHT
        assert 0 <= y <= HEIGHT
