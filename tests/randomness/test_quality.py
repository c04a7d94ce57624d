"""The numbers follow their laws.  Limits come from n: none is passed by chance once in 10⁵ runs.

docs/randomness.md holds the long versions: Kolmogorov-Smirnov at 10⁷, tails at 10⁹, TestU01.
"""

import math

import numpy as np
import pytest
import torch
from draw_cases import DTYPES
from scipy import special, stats

from fanin.randomness import (
    Address,
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
    draw,
    draw_range,
)

N = 1 << 20
LIMIT = 4.8  # standard errors: two-sided probability 1.6e-6
KS_LIMIT = 2.5 / math.sqrt(N)  # Kolmogorov's law passes 2.5 with probability 7e-6
INF = math.inf


def truncated_cdf(low, high):
    """The law of a standard normal within bounds, exact in either tail."""
    if high < 0:
        mirrored = truncated_cdf(-high, -low)
        return lambda z: 1 - mirrored(-z)
    if low > 0:
        whole = special.log_ndtr(-high) - special.log_ndtr(-low)
        return lambda z: np.expm1(special.log_ndtr(-z) - special.log_ndtr(-low)) / np.expm1(whole)
    return lambda z: (
        (special.ndtr(z) - special.ndtr(low)) / (special.ndtr(high) - special.ndtr(low))
    )


def sample(distribution, dtype=torch.float32, name="q", n=N):
    return draw_range(distribution, Address(11, name), 0, n, dtype).double().numpy()


def kolmogorov(values, cdf):
    return stats.kstest(values, cdf).statistic


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_normal(dtype):
    x = sample(NormalDistribution(3.0, 2.0), dtype)
    z = (x - 3) / 2
    assert kolmogorov(z, special.ndtr) < KS_LIMIT
    # Standard errors of the first four moments of a normal.
    for power, expected, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - expected) < LIMIT * math.sqrt(variance / N), power


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_normal_tails(dtype):
    z = sample(NormalDistribution(0.0, 1.0), dtype, n=4 * N)
    for sigmas in (2.0, 3.0, 4.0, 4.75):  # numbers of every dtype: none is rounded across
        for side in (-1, 1):
            expected = 4 * N * special.ndtr(-sigmas)
            beyond = int((side * z > sigmas).sum() + (side * z == sigmas).sum() / 2)
            assert abs(beyond - expected) < LIMIT * math.sqrt(expected) + 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.05, 0.05), (3.0, 1000.0)])
def test_uniform(low, high, dtype):
    x = sample(UniformDistribution(low, high), dtype)
    u = (x - low) / (high - low)
    assert kolmogorov(u, lambda v: v) < KS_LIMIT
    assert abs(u.mean() - 0.5) < LIMIT / math.sqrt(12 * N)
    assert abs(u.var() - 1 / 12) < LIMIT * math.sqrt(1 / 180 / N)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-1 / 3, 1 / 3), (0.1, 0.10001), (1e-3, 1e-3), (-7.0, 1e-6)]
)
def test_uniform_bounds_are_never_crossed(low, high, dtype):
    x = sample(UniformDistribution(low, high), dtype, n=200_000)
    if not np.any((x >= low) & (x <= high)):
        # No number of the dtype lies within: the nearest one stands for all.
        assert len(np.unique(x)) == 1
        assert abs(x[0] - low) <= abs(low) * 2.0**-8
    else:
        assert low <= x.min() <= x.max() <= high


def test_uniform_is_symmetric_and_reaches_both_ends():
    """Of all 2**32 words, those at the ends give the bounds themselves."""
    from fanin.randomness.arrays import NumpyArrays
    from fanin.randomness.uniform import UniformNumbers, uniform_single

    words = np.array([0x80000000, 0x7FFFFFFF, 0, 1, 0xFFFFFFFF], dtype=np.int64)
    numbers = UniformNumbers.of(UniformDistribution(-0.3, 0.3), torch.float32)
    values = uniform_single(NumpyArrays(), (words,) * 4, numbers)[0]
    assert values[0] == -values[1] == numbers.low
    assert values[2] == 0
    assert values[3] == -values[4] > 0


BOUNDS = [
    (-2.0, 2.0),
    (-1.0, 3.0),
    (-100.0, 100.0),
    (-0.01, 0.02),
    (0.0, INF),
    (1.9, INF),
    (2.0, 2.4),
    (5.0, 6.0),
    (-INF, -5.9),
    (8.0, INF),
    (-41.0, -40.0),
    (1.0, 1.01),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_truncated_normal(low, high, dtype):
    x = sample(TruncatedNormalDistribution(0.0, 1.0, low, high), dtype)
    assert low <= x.min() <= x.max() <= high
    assert kolmogorov(x, truncated_cdf(low, high)) < KS_LIMIT
    if abs(low) < 5:
        # SciPy's moments lose their digits further out.
        mean, variance, kurtosis = stats.truncnorm.stats(low, high, moments="mvk")
        assert abs(x.mean() - mean) < LIMIT * math.sqrt(variance / N)
        error = variance * math.sqrt((kurtosis + 2) / N)
        assert abs(x.var() - variance) < LIMIT * error


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("mean", "std", "low", "high"),
    [
        (0.0, 0.02, -0.04, 0.04),
        (1.0, 1.0, -6.0, 8.0),
        (1000.0, 0.01, 999.9, 1000.1),
        (0.0, 1.0, -1 / 3, 0.7),
        (5.0, 1.0, 0.1, 0.2),
        (0.0, 3.0, 0.0, 9.1),
    ],
)
def test_truncated_bounds_are_never_crossed(mean, std, low, high, dtype):
    x = sample(TruncatedNormalDistribution(mean, std, low, high), dtype, n=200_000)
    if mean == 1000.0 and dtype == torch.bfloat16:
        assert (x == 1000.0).all()  # the one number of bfloat16 within
    assert low <= x.min() <= x.max() <= high


def test_a_tail_far_from_its_mean_keeps_the_digits_of_its_bounds():
    """Ten sigmas out values near 0 are finer than mean + std * z would leave them."""
    x = sample(TruncatedNormalDistribution(-10.0, 1.0, 0.0, 0.5))
    assert len(np.unique(x)) > 0.9 * N
    assert kolmogorov(x + 10.0, truncated_cdf(10.0, 10.5)) < KS_LIMIT


def correlation(a, b):
    return float(np.mean(a * b))


def test_lags_within_a_tensor():
    z = sample(NormalDistribution(0.0, 1.0))
    # Neighbours in memory, in a block (16 apart), in a Box-Muller pair, in a tile, across tiles.
    for lag in (1, 2, 3, 15, 16, 17, 31, 32, 48, 63, 64, 65, 128, 1024, 4096):
        assert abs(correlation(z[:-lag], z[lag:])) < LIMIT / math.sqrt(N - lag), lag
        # Squares too: a pair shares its radius, which must not show.
        square = (z**2 - 1) / math.sqrt(2)
        assert abs(correlation(square[:-lag], square[lag:])) < LIMIT / math.sqrt(N - lag), lag


def test_between_names_and_seeds():
    n = 1 << 18
    addresses = [Address(0, f"layers.{i}.weight") for i in range(8)]
    addresses += [Address(i, "layers.0.weight") for i in range(1, 8)]
    drawn = np.stack(
        [draw(NormalDistribution(0.0, 1.0), a, (n,)).double().numpy() for a in addresses]
    )
    product = drawn @ drawn.T / n - np.eye(len(addresses))
    off = product[~np.eye(len(addresses), dtype=bool)]
    assert np.abs(off).max() < 5.5 / math.sqrt(n)


def test_singular_values_of_a_matrix():
    """A matrix as networks use it: its spectrum is that of independent normals."""
    matrix = draw(NormalDistribution(0.0, 1.0), Address(4, "m"), (512, 512)).double()
    values = torch.linalg.svdvals(matrix / math.sqrt(512))
    # Edelman 1988: the largest is near 2, with fluctuations of n**(-2/3).
    assert abs(values[0] - 2) < 6 * 512 ** (-2 / 3)
    # Marchenko-Pastur: mean square 1, mean fourth power 2.
    assert abs((values**2).mean() - 1) < LIMIT * math.sqrt(2) / 512
    assert abs((values**4).mean() - 2) < 0.05
