"""The polynomials against the functions that they stand for, over their whole ranges."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from fanin.randomness.arrays import NumpyArrays
from fanin.randomness.elementary import DOUBLE, SINGLE, minus_two_log, sin_cos_half_turn
from fanin.randomness.formats import FORMATS, bounds_inside, single
from fanin.randomness.normal_tail import (
    distance_of_survival,
    exp,
    ln,
    log_survival,
    mills_ratio,
    upper_tail,
)
from fanin.randomness.truncated import QuantileNumbers, _value
from fanin.randomness.truncated_fit import interpolate

XP = NumpyArrays()


def log_error(precision, dtype, bound):
    rng = np.random.default_rng(0)
    exponent = np.ldexp(1.0, -rng.integers(0, 52 if dtype == np.float64 else 31, 400_000))
    x = (rng.random(400_000) * exponent).astype(dtype)
    x = np.concatenate([x[x > 0], np.nextafter(np.ones(1, dtype), dtype(0)), np.ones(1, dtype)])
    exact = -2 * np.log(x.astype(np.longdouble))
    error = np.abs(minus_two_log(XP, x, precision) - exact)
    # Relative to the result: the radius near zero is as exact as in the tail.
    assert np.max(error[exact > 0] / exact[exact > 0]) < bound
    assert minus_two_log(XP, np.ones(1, dtype), precision)[0] == 0


def test_logarithm_single():
    log_error(SINGLE, np.float32, 6e-7)


def test_logarithm_double():
    log_error(DOUBLE, np.float64, 1e-15)


@pytest.mark.parametrize(
    ("precision", "dtype", "bound"), [(SINGLE, np.float32, 4e-7), (DOUBLE, np.float64, 4e-16)]
)
def test_sine_and_cosine(precision, dtype, bound):
    x = np.linspace(-1, 1, 200_001).astype(dtype)
    sine, cosine = sin_cos_half_turn(x, precision)
    turn = x.astype(np.longdouble) * (np.longdouble(math.pi) / 2 + np.longdouble(6.1e-17))
    assert np.max(np.abs(sine - np.sin(turn))) < bound
    assert np.max(np.abs(cosine - np.cos(turn))) < bound
    assert np.all(cosine >= 0)


def test_quantile_of_every_cell_size():
    """z(y) against SciPy over all that a wide truncation reaches."""
    tail = np.concatenate([np.logspace(-11.2, -0.31, 100_000), np.linspace(0.48, 0.5, 1000)])
    for precision, dtype, bound in ((SINGLE, np.float32, 1.5e-6), (DOUBLE, np.float64, 1e-11)):
        above = (2 * tail).astype(dtype)
        exact = stats.norm.isf(above.astype(np.float64) / 2)
        below = (2 - above.astype(np.float64)).astype(dtype)
        y = (1 - above.astype(np.float64)).astype(dtype)
        numbers = QuantileNumbers(0.0, 0.0, 0.0, 1.0, 0.0, 1.0, -math.inf, math.inf, True)
        z = _value(XP, y, below, above, numbers, precision)
        assert np.max(np.abs(z - exact)) < bound * 7


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0, 1.99, 2.0, 2.01, 3.0, 5.0, 8.0, 20.0, 37.0])
def test_upper_tail(x):
    assert upper_tail(x) == pytest.approx(special.ndtr(-x), rel=2e-14)
    assert upper_tail(-x) == pytest.approx(special.ndtr(x), rel=2e-14)


def test_tail_far_out():
    for start, distance in [(2.0, 1.0), (5.0, 0.01), (30.0, 2.0)]:
        exact = special.log_ndtr(-start - distance) - special.log_ndtr(-start)
        assert log_survival(start, distance) == pytest.approx(exact, rel=1e-9)
        assert distance_of_survival(start, exact) == pytest.approx(distance, rel=1e-9)
    assert mills_ratio(1e8) == pytest.approx(1e-8)
    # Far out the tail is exponential: half of it lies within ln 2 / start.
    assert distance_of_survival(1e6, -math.log(2)) * 1e6 == pytest.approx(math.log(2), rel=1e-9)
    assert log_survival(3.0, math.inf) == -math.inf


def test_exp_and_ln_are_correctly_rounded():
    assert exp(1.0) == 2.718281828459045
    assert exp(-0.5) == 0.6065306597126334
    assert ln(2.0) == 0.6931471805599453
    assert exp(-800.0) == 0.0


def test_interpolation_reproduces_a_polynomial():
    wanted = (1.0, -2.0, 0.5, 0.0, 3.0)
    found = interpolate(lambda x: sum(c * x**k for k, c in enumerate(wanted)), 5)
    assert found == pytest.approx(wanted, abs=1e-13)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize(
    ("low", "high"), [(-0.1, 0.1), (1 / 3, 2 / 3), (-2.0, 2.0), (1e-6, 1.7e-6), (-60000.5, 3.0)]
)
def test_bounds_inside(low, high, dtype):
    inner_low, inner_high = bounds_inside(low, high, dtype)
    assert low <= inner_low <= inner_high <= high
    for inner, outer in ((inner_low, low), (inner_high, high)):
        # torch rounds the bound to a neighbour within it or beyond it: the inner one is a number
        # of the dtype, and there is none between it and the bound.
        assert torch.tensor(inner, dtype=torch.float64).to(dtype).double().item() == inner
        between = torch.tensor(np.linspace(inner, outer, 1001)).to(dtype).double()
        assert not ((between > min(inner, outer)) & (between < max(inner, outer))).any()


def test_bounds_that_hold_no_number_of_the_dtype():
    assert bounds_inside(0.1, 0.1, torch.float32) == (single(0.1), single(0.1))
    assert bounds_inside(-0.0, 0.0, torch.float32) == (0.0, 0.0)
    assert math.copysign(1, bounds_inside(-0.0, 0.0, torch.float32)[0]) == 1
    assert bounds_inside(-math.inf, math.inf, torch.float16) == (-math.inf, math.inf)
    assert bounds_inside(-1e9, 1e9, torch.float16) == (-65504.0, 65504.0)
