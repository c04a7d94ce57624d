"""N(mean, std²) within bounds, by inverting its distribution function.

The cut is exact: every draw is one uniform sent through the quantile function of the truncated
law, with no rejection and no loop.  With y = erf(z / sqrt(2)), which runs evenly between its
values at the two bounds, z / y is a smooth function of q = -2 ln(1 - y²) (after M. Giles,
"Approximating the erfinv function", 2010), and two polynomials in sqrt(q + 4) cover it.
1 - y² = 4 P(Z < z) P(Z > z) is formed from the two tail masses, each exact in its own tail.
Bounds that are close together or both far out have a polynomial of their own: truncated_fit.py.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

from fanin.errors import SchemeError
from fanin.randomness import polynomials as p
from fanin.randomness.arrays import Array, Arrays
from fanin.randomness.distributions import TruncatedNormalDistribution
from fanin.randomness.elementary import DOUBLE, SINGLE, Precision, horner, minus_two_log
from fanin.randomness.formats import FORMATS, bounds_inside, single
from fanin.randomness.layout import Quad
from fanin.randomness.normal_tail import upper_tail
from fanin.randomness.truncated_fit import FittedNumbers, fitted_numbers, fitted_value
from fanin.randomness.words import HALF_LOW, SIGN

CENTRE_ENDS = 3.0
"""Bounds within ± this many standard deviations need no tail polynomial."""
MOST_SIGMAS = 1e100
"""Beyond this the squares of the fitting overflow."""


@dataclass(frozen=True)
class QuantileNumbers:
    """The constants of one draw by the general quantile; masses are doubled, as y is."""

    below: float  # mass below the middle of the first cell
    above: float  # mass above the middle of the last cell
    middle: float  # y of the middle cell
    step: float  # mass of one cell
    base: float
    scale: float
    low: float
    high: float
    wide: bool  # whether the tail polynomial is needed


TruncatedNumbers = QuantileNumbers | FittedNumbers


def truncated_numbers(d: TruncatedNormalDistribution, dtype: torch.dtype) -> TruncatedNumbers:
    """Constants for a dtype.

    Raises:
        SchemeError: mean, std or bounds exceed the arithmetic that the dtype is drawn in.
    """
    double = dtype == torch.float64
    largest = FORMATS[dtype if double else torch.float32].largest
    start, end = (d.low - d.mean) / d.std, (d.high - d.mean) / d.std
    if max(abs(d.mean), d.std) > largest or max(start, -end) > MOST_SIGMAS:
        raise SchemeError(
            f"{d!r} cannot be drawn as {dtype}: mean and std must fit it, and a bound must lie "
            f"within {MOST_SIGMAS:g} std of the mean. Mend the bounds, or draw float64."
        )
    fitted = fitted_numbers(d, start, end, dtype)
    if fitted is not None:
        return fitted
    below, above, mass = _masses(start, end)
    step = 2 * mass / (2.0**53 if double else 2.0**31)
    half = step / 2
    values = (2 * below + half, 2 * above + half, below - above + half, step, d.mean + 0.0, d.std)
    if not double:
        values = tuple(single(value) for value in values)  # type: ignore[assignment]
    wide = max(-start, end) > CENTRE_ENDS
    return QuantileNumbers(*values, *bounds_inside(d.low, d.high, dtype), wide)


@lru_cache(maxsize=1024)
def _masses(start: float, end: float) -> tuple[float, float, float]:
    below, above = upper_tail(-start), upper_tail(end)
    if start >= 0:
        return below, above, upper_tail(start) - above
    if end <= 0:
        return below, above, upper_tail(-end) - below
    return below, above, 1.0 - below - above


def truncated_single(xp: Arrays, words: Quad, numbers: TruncatedNumbers) -> list[Array]:
    """Four float32 values a block."""

    def number(integer: Array) -> Array:
        return xp.cast(xp.cast(integer, "int32"), "float32")

    values = []
    for word in words:
        cell = word >> 1
        from_low, from_high = number(cell), number(cell ^ HALF_LOW)
        centred = number(cell - 2**30)
        if isinstance(numbers, FittedNumbers):
            fraction = centred * 2.0**-30
            values.append(fitted_value(xp, fraction, from_low, from_high, numbers, SINGLE))
        else:
            values.append(_value(xp, centred, from_low, from_high, numbers, SINGLE))
    return values


def truncated_double(xp: Arrays, words: Quad, numbers: TruncatedNumbers) -> list[Array]:
    """Two float64 values a block."""
    a, b, c, d = words
    values = []
    for high, low in ((a, b), (c, d)):
        centred = xp.cast((high - SIGN) * 2**21 + (low >> 11), "float64")
        from_low, from_high = centred + 2.0**52, (2.0**52 - 1.0) - centred
        if isinstance(numbers, FittedNumbers):
            fraction = centred * 2.0**-52
            values.append(fitted_value(xp, fraction, from_low, from_high, numbers, DOUBLE))
        else:
            values.append(_value(xp, centred, from_low, from_high, numbers, DOUBLE))
    return values


def _value(
    xp: Arrays,
    centred: Array,
    from_low: Array,
    from_high: Array,
    numbers: QuantileNumbers,
    precision: Precision,
) -> Array:
    below = from_low * numbers.step + numbers.below
    above = from_high * numbers.step + numbers.above
    y = centred * numbers.step + numbers.middle
    square = minus_two_log(xp, below * above, precision) + p.ROOT_OFFSET
    s = xp.sqrt(square)
    ratio = horner(precision.centre, s - precision.centre_shift)
    if numbers.wide:
        tail = horner(precision.tail, s - precision.tail_shift)
        ratio = xp.where(square > p.SWITCH, tail, ratio)
    value = y * ratio * numbers.scale + numbers.base
    return xp.clamp(value, numbers.low, numbers.high)
