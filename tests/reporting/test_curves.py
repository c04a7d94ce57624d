"""Bands of curves: what is kept when there are many steps, seeds that stop, or NaNs."""

import math

import pytest

from fanin.reporting.curves import band


def test_middle_is_the_median_and_the_band_is_the_range():
    found = band([[1.0, 5.0], [2.0, 1.0], [9.0, 3.0]])
    assert found.steps == (0, 1)
    assert found.middle == (2.0, 3.0)
    assert found.low == (1.0, 1.0)
    assert found.high == (9.0, 5.0)


def test_long_curves_are_thinned_by_block_means_and_keep_their_start():
    curve = [float(i) for i in range(1001)]
    found = band([curve], points=101)
    assert len(found.steps) <= 101
    assert found.block == 10
    assert found.middle[0] == 0.0
    assert found.middle[1] == pytest.approx(5.5)  # the mean of steps 1 to 10
    assert found.steps[1] == pytest.approx(5.5)
    assert found.middle[-1] == pytest.approx(995.5)


def test_a_short_curve_is_kept_whole():
    assert band([[3.0, 2.0, 1.0]], [0, 10, 20]).steps == (0, 10, 20)


def test_a_diverged_seed_counts_as_long_as_it_goes():
    found = band([[1.0, 2.0, math.inf], [3.0, 4.0, 5.0, 6.0]])
    assert found.middle == (2.0, 3.0, 5.0, 6.0)


def test_a_step_without_a_finite_value_is_a_gap():
    found = band([[1.0, math.nan, 3.0]])
    assert found.middle == (1.0, None, 3.0)
    assert found.low == (1.0, None, 3.0)


def test_no_curves_are_an_empty_band():
    assert band([]).steps == ()
    assert band([[]]).steps == ()
