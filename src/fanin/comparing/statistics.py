"""Intervals and tests over a handful of seeds, from first principles.

Trials of two recipes with the same seed see the same batches, so they are compared in pairs.
With five seeds the exact sign-flip test cannot fall below p = 1/16, so the t test on the paired
differences decides; the sign-flip p-value stands beside it.  ``benchmarks`` of the false
positive rate, coverage and power are in ``tests/comparing/test_statistics_rates.py``.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Coverage of every interval shown."""

ALPHA = 0.05
"""Chance that a study in which all recipes are alike calls any of them different, per model."""

EXACT_FLIPS = 14
"""Up to this many pairs all 2^n sign flips are counted; beyond, 20,000 random ones."""

_RANDOM_FLIPS = 20_000


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds and the interval that covers the true mean.

    ``low`` and ``high`` are NaN for a single seed, which says nothing about spread.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float = LEVEL

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's t interval of the mean.

    Args:
        values: one finite number per seed.
        level: coverage, between 0 and 1.
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    mean = math.fsum(values) / n if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n, level)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(array.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, level)


def bootstrap_interval(
    values: Sequence[float],
    level: float = LEVEL,
    *,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987).

    Makes no assumption of normality, but with fewer than about ten seeds it covers less than it
    says: five values hold too little of the tails.  Used beside the t interval, not instead.

    Args:
        values: one finite number per seed.
        level: coverage.
        statistic: of an array along its last axis; None for the mean.
        resamples: bootstrap samples.
        seed: of the resampling.
    """
    from scipy.special import ndtr, ndtri

    measure = statistic or (lambda rows: rows.mean(axis=-1))
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    centre = float(measure(array)) if n else math.nan
    if n < 2:
        return Interval(centre, math.nan, math.nan, n, level)
    if np.all(array == array[0]):
        return Interval(centre, centre, centre, n, level)
    rng = np.random.default_rng(seed)
    drawn = np.sort(measure(array[rng.integers(0, n, (resamples, n))]))
    # Ties count half, so that a symmetric sample has no bias correction.
    below = (np.sum(drawn < centre) + 0.5 * np.sum(drawn == centre)) / resamples
    bias = float(ndtri(np.clip(below, 1 / resamples, 1 - 1 / resamples)))
    left_out = np.array([float(measure(np.delete(array, i))) for i in range(n)])
    deviation = left_out.mean() - left_out
    spread = float(np.sum(deviation**2)) ** 1.5
    acceleration = float(np.sum(deviation**3)) / (6 * spread) if spread else 0.0

    def bound(tail: float) -> float:
        z = bias + float(ndtri(tail))
        return float(np.quantile(drawn, float(ndtr(bias + z / (1 - acceleration * z)))))

    return Interval(centre, bound(0.5 - level / 2), bound(0.5 + level / 2), n, level)


def t_test(differences: Sequence[float]) -> float:
    """Two-sided p-value of Student's t test that the mean difference is 0.

    Differences that are all equal leave no noise to compare with; the sign-flip test still
    holds there, so its p-value is given.  NaN for fewer than two pairs.
    """
    array = np.asarray(differences, dtype=np.float64)
    n = len(array)
    if n < 2:
        return math.nan
    spread = float(array.std(ddof=1))
    # Equal up to rounding counts as equal: the rounding of one subtraction is no noise.
    if spread <= 1e-12 * float(np.abs(array).max()):
        return sign_flip_test(differences)
    from scipy.special import stdtr

    t = abs(float(array.mean())) / (spread / math.sqrt(n))
    return float(2 * stdtr(n - 1, -t))


def sign_flip_test(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p-value of the permutation test on paired differences.

    Under the hypothesis that two recipes are alike each difference could as well have had the
    other sign.  Exact up to 14 pairs; its least value is 2/2^n.  NaN without pairs.
    """
    array = np.asarray(differences, dtype=np.float64)
    n = len(array)
    if n == 0:
        return math.nan
    observed = abs(float(array.sum()))
    if n <= EXACT_FLIPS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
        extra = 0
    else:
        rng = np.random.default_rng(seed)
        signs = rng.choice((1.0, -1.0), (_RANDOM_FLIPS, n))
        extra = 1  # the observed signs are one of the possible ones
    sums = np.abs(signs @ array)
    tolerance = 1e-12 * float(np.abs(array).sum())
    reached = int(np.sum(sums >= observed - tolerance)) + extra
    return reached / (len(signs) + extra)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's (1979) adjusted p-values: the chance of any false positive is at most each of them.

    NaNs (comparisons that could not be made) stay NaN and do not count.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = highest
    return tuple(adjusted)


@dataclass(frozen=True)
class Comparison:
    """Two recipes of one model, compared over the seeds that both have.

    Args:
        model: name of the network.
        first, second: the recipes.
        metric: what was compared.
        difference: mean and interval of first − second over the pairs.
        p: of the paired t test.
        p_holm: corrected for all pairs of recipes of this model.
        p_sign_flip: of the exact permutation test, for reference; uncorrected.
    """

    model: str
    first: str
    second: str
    metric: str
    difference: Interval
    p: float
    p_holm: float
    p_sign_flip: float

    @property
    def significant(self) -> bool:
        """The corrected p-value is below 0.05; False where there is no p-value."""
        return self.p_holm < ALPHA


def compare_all_pairs(
    model: str, metric: str, values: dict[str, dict[int, float]]
) -> tuple[Comparison, ...]:
    """Every pair of recipes, paired by seed, Holm-corrected over the pairs.

    All pairs are tested, not only the best against the rest: the best is chosen by the same
    numbers, and a correction for fewer comparisons would not account for that choice.

    Args:
        model: name of the network.
        metric: name of what the values are.
        values: recipe -> seed -> value, all finite.
    """
    pairs = list(itertools.combinations(values, 2))
    differences = [
        [values[a][seed] - values[b][seed] for seed in values[a] if seed in values[b]]
        for a, b in pairs
    ]
    p_values = [t_test(d) for d in differences]
    return tuple(
        Comparison(model, a, b, metric, t_interval(d), p, p_holm, sign_flip_test(d))
        for (a, b), d, p, p_holm in zip(pairs, differences, p_values, holm(p_values), strict=True)
    )
