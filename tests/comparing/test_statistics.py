"""Intervals and tests against scipy, brute force and the definition."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fanin.comparing.statistics import (
    bootstrap_interval,
    compare_all_pairs,
    holm,
    sign_flip_test,
    t_interval,
    t_test,
)

SAMPLES = [
    [0.1, 0.4, -0.2, 0.3, 0.25],
    [1.0, 2.0],
    list(np.random.default_rng(1).normal(3.0, 2.0, 12)),
]


@pytest.mark.parametrize("values", SAMPLES)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_t_interval_is_scipys(values, level):
    mine = t_interval(values, level)
    low, high = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    assert (mine.low, mine.high) == pytest.approx((low, high), rel=1e-12)
    assert mine.mean == pytest.approx(np.mean(values))
    assert mine.n == len(values)


@pytest.mark.parametrize("values", SAMPLES)
def test_t_test_is_scipys(values):
    assert t_test(values) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=1e-9)


@pytest.mark.parametrize("values", SAMPLES)
def test_sign_flips_are_scipys(values):
    expected = stats.permutation_test(
        (np.array(values),), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_test(values) == pytest.approx(expected, rel=1e-12)


def test_sampled_sign_flips_agree_with_counting_all():
    values = np.random.default_rng(3).normal(0.45, 1.0, 15)
    sums = [abs(np.dot(s, values)) for s in itertools.product((1, -1), repeat=15)]
    exact = np.mean(np.array(sums) >= abs(values.sum()) - 1e-12)
    # 20,000 random flips: four standard errors.
    assert sign_flip_test(values) == pytest.approx(exact, abs=4 * (exact / 20_000) ** 0.5)


def test_bootstrap_interval_is_scipys():
    values = np.random.default_rng(2).lognormal(size=30)
    mine = bootstrap_interval(values, resamples=20_000)
    scipys = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(9)
    ).confidence_interval
    # Quantiles of 20,000 resamples: a few per cent of the interval's width.
    tolerance = 0.04 * (scipys.high - scipys.low)
    assert mine.low == pytest.approx(scipys.low, abs=tolerance)
    assert mine.high == pytest.approx(scipys.high, abs=tolerance)


def test_bootstrap_of_equal_values_is_that_value():
    interval = bootstrap_interval([2.0, 2.0, 2.0])
    assert (interval.low, interval.mean, interval.high) == (2.0, 2.0, 2.0)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_holm_is_the_closure_of_bonferroni(p_values):
    """The adjusted p of one hypothesis: the worst Bonferroni p of any set that holds it."""
    indices = range(len(p_values))
    for i, adjusted in zip(indices, holm(p_values), strict=True):
        sets = [
            chosen
            for size in range(1, len(p_values) + 1)
            for chosen in itertools.combinations(indices, size)
            if i in chosen
        ]
        worst = max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets)
        assert adjusted == pytest.approx(worst, abs=1e-15)


def test_holm_leaves_out_what_could_not_be_compared():
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.04)


def test_equal_differences_fall_back_to_the_sign_flips():
    """No spread gives t = infinity; five equal signs are still only 2 in 32."""
    assert t_test([0.1] * 5) == 2 / 32
    assert t_test([0.3 - 0.1, 0.4 - 0.2, 0.5 - 0.3]) == 2 / 8  # equal up to rounding
    assert t_test([0.0] * 5) == 1.0


def test_one_seed_says_nothing():
    interval = t_interval([3.0])
    assert interval.mean == 3.0
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert math.isnan(t_test([1.0]))
    assert math.isnan(sign_flip_test([]))
    (only,) = compare_all_pairs("m", "x", {"a": {0: 1.0}, "b": {0: 2.0}})
    assert not only.significant


def test_pairs_are_matched_by_seed_and_not_by_order():
    first = {0: 1.0, 1: 2.0, 2: 3.0}
    second = {2: 2.5, 7: 100.0, 1: 1.4, 0: 0.6}
    (pair,) = compare_all_pairs("m", "x", {"a": first, "b": second})
    expected = stats.ttest_rel([1.0, 2.0, 3.0], [0.6, 1.4, 2.5])
    assert pair.p == pytest.approx(expected.pvalue)
    assert pair.difference.mean == pytest.approx(0.5)
    assert pair.difference.n == 3
