"""N(mean, std²) within bounds, by inverting its distribution function.

The cut is exact: every draw is one uniform sent through the quantile function of the truncated
law, with no rejection and no loop.  With y = erf(z / sqrt(2)), which runs evenly between its
values at the two bounds, z / y is a smooth function of q = -2 ln(1 - y²) (after M. Giles,
"Approximating the erfinv function", 2010), and two polynomials in sqrt(q + 4) cover it.
1 - y² = 4 P(Z < z) P(Z > z) is formed from the two tail masses, each exact in its own tail.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

from fanin.randomness import polynomials as p
from fanin.randomness.arrays import Array, Arrays
from fanin.randomness.distributions import TruncatedNormalDistribution
from fanin.randomness.elementary import DOUBLE, SINGLE, Precision, horner, minus_two_log
from fanin.randomness.formats import bounds_inside, single
from fanin.randomness.layout import Quad
from fanin.randomness.normal_tail import upper_tail
from fanin.randomness.words import SIGN

CENTRE_ENDS = 3.0
"""Bounds within ± this many standard deviations need no tail polynomial."""


@dataclass(frozen=True)
class TruncatedNumbers:
    """The constants of one truncated draw."""

    below: float  # twice the mass below the first cell's midpoint
    above: float  # twice the mass above the last cell's midpoint
    middle: float  # y of the middle cell
    step: float  # twice the mass of one cell
    wide: bool  # whether the tail polynomial is needed
    base: float
    scale: float
    low: float
    high: float

    @classmethod
    def of(cls, d: TruncatedNormalDistribution, dtype: torch.dtype) -> "TruncatedNumbers":
        """Constants for a dtype."""
        cells = 2.0**53 if dtype == torch.float64 else 2.0**31
        start, end = (d.low - d.mean) / d.std, (d.high - d.mean) / d.std
        below, above, mass = _masses(start, end)
        step = 2 * mass / cells
        numbers = (
            2 * below + step / 2,
            2 * above + step / 2,
            below - above + step / 2,
            step,
        )
        base, scale = d.mean, d.std
        if dtype != torch.float64:
            numbers = tuple(single(number) for number in numbers)  # type: ignore[assignment]
            base, scale = single(base), single(scale)
        wide = max(-start, end) > CENTRE_ENDS
        return cls(*numbers, wide, base, scale, *bounds_inside(d.low, d.high, dtype))


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
        parts = number(cell), number(cell ^ 0x7FFFFFFF), number(cell - 2**30)
        values.append(_value(xp, *parts, numbers, SINGLE))
    return values


def truncated_double(xp: Arrays, words: Quad, numbers: TruncatedNumbers) -> list[Array]:
    """Two float64 values a block."""
    a, b, c, d = words
    values = []
    for high, low in ((a, b), (c, d)):
        centred = xp.cast((high - SIGN) * 2**21 + (low >> 11), "float64")
        parts = centred + 2.0**52, (2.0**52 - 1.0) - centred, centred
        values.append(_value(xp, *parts, numbers, DOUBLE))
    return values


def _value(
    xp: Arrays,
    from_low: Array,
    from_high: Array,
    centred: Array,
    numbers: TruncatedNumbers,
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
