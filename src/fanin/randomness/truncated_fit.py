"""Truncated normals whose bounds are close together or both far out, by a polynomial of their own.

There the general quantile loses digits, or its tail masses underflow.  But such a piece of the
quantile function is so smooth that ten coefficients (24 in float64), interpolated when the bounds
become known, give it to the last digits of the dtype:

* narrow bounds: in the uniform fraction itself;
* both bounds on one side, 2 or more standard deviations out: in r = -2 ln v, with v the share of
  the mass that lies beyond the value, or near the centre in sqrt(lambda + r).

The interpolation uses IEEE arithmetic of Python floats in a fixed order, and nothing of the C
library, so that its coefficients are the same on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import torch

from fanin.randomness import polynomials as p
from fanin.randomness.arrays import Array, Arrays
from fanin.randomness.distributions import TruncatedNormalDistribution
from fanin.randomness.elementary import Precision, horner, minus_two_log
from fanin.randomness.formats import bounds_inside, single
from fanin.randomness.normal_tail import distance_of_survival, exp, ln, log_survival, mills_ratio

TAIL_STARTS = 2.0
"""Bounds both this many standard deviations out, on one side, are a tail."""
NARROW = 0.5
"""Bounds are narrow where width times the larger of 1 and the farther bound is at most this."""
_ROOT_BELOW = 6.0
"""A tail that starts nearer than this is smoother in sqrt(lambda + r) than in r."""

COEFFICIENTS_SINGLE = 10
COEFFICIENTS_DOUBLE = 24
_TWO_LN2 = 1.3862943611198906


@dataclass(frozen=True)
class FittedNumbers:
    """The constants of one draw: value = clamp(base + scale * P(u), low, high).

    Narrow bounds have u = x, the fraction in [-1, 1].  Tails have v = first + step * cell and
    u = (r - middle) * inverse with r = -2 ln v, or with sqrt(offset + r) in place of r.
    """

    kind: str  # "narrow", "tail" or "root"
    lower: bool  # a lower tail: cells count from below
    first: float
    step: float
    offset: float
    middle: float
    inverse: float
    base: float
    scale: float
    low: float
    high: float
    coefficients: tuple[float, ...]


def fitted_numbers(
    d: TruncatedNormalDistribution, start: float, end: float, dtype: torch.dtype
) -> FittedNumbers | None:
    """Constants for bounds that are narrow or a tail, ``start`` … ``end`` sigmas; else None."""
    double = dtype == torch.float64
    count = COEFFICIENTS_DOUBLE if double else COEFFICIENTS_SINGLE
    bits = 53 if double else 31
    bounds = bounds_inside(d.low, d.high, dtype)
    if (end - start) * max(1.0, abs(start), abs(end)) <= NARROW:
        coefficients = _narrow((start + end) / 2, (end - start) / 2, count)
        base, scale = d.low / 2 + d.high / 2 + 0.0, d.high / 2 - d.low / 2
        values = (0.0, 0.0, 0.0, 0.0, 0.0, base, scale)
        kind, lower = "narrow", False
    elif max(start, -end) >= TAIL_STARTS:
        lower = end < 0
        near, far = (-end, -start) if lower else (start, end)
        tail = _tail(near, far - near, bits, count)
        kind, coefficients = tail.kind, tail.coefficients
        base, scale = (d.high, -d.std * tail.reach) if lower else (d.low, d.std * tail.reach)
        base += 0.0
        values = (tail.first, tail.step, tail.offset, tail.middle, tail.inverse, base, scale)
    else:
        return None
    if not double:
        values = tuple(single(value) for value in values)  # type: ignore[assignment]
        coefficients = tuple(single(c) for c in coefficients)
    return FittedNumbers(kind, lower, *values, *bounds, coefficients)


def fitted_value(
    xp: Arrays,
    fraction: Array,
    from_low: Array,
    from_high: Array,
    numbers: FittedNumbers,
    precision: Precision,
) -> Array:
    """Values from the fraction in [-1, 1] and the cell counted from below and from above."""
    u = fraction
    if numbers.kind != "narrow":
        cell = from_low if numbers.lower else from_high
        u = minus_two_log(xp, cell * numbers.step + numbers.first, precision)
        if numbers.kind == "root":
            u = xp.sqrt(u + numbers.offset)
        u = (u - numbers.middle) * numbers.inverse
    value = horner(numbers.coefficients, u) * numbers.scale + numbers.base
    return xp.clamp(value, numbers.low, numbers.high)


@lru_cache(maxsize=1024)
def _narrow(centre: float, half: float, count: int) -> tuple[float, ...]:
    """(z - centre) / half by powers of the fraction x in [-1, 1]."""
    # The density about the centre, exp(-c t - t²/2), has the power series a: its derivative is
    # -(c + t) times itself.  Its integral runs from -half to half.
    series = [1.0]
    for k in range(40):
        before = series[k - 1] if k > 0 else 0.0
        series.append((-centre * series[k] - before) / (k + 1))
    integral = [0.0] + [a / (k + 1) for k, a in enumerate(series)]
    below, above = _power_sum(integral, -half), _power_sum(integral, half)

    def distance(x: float) -> float:
        wanted = below + (above - below) * ((1.0 + x) / 2)
        t = x * half
        for _ in range(8):
            t -= (_power_sum(integral, t) - wanted) / _power_sum(series, t)
        return t / half

    return interpolate(distance, count)


@dataclass(frozen=True)
class _Tail:
    kind: str
    first: float
    step: float
    offset: float
    middle: float
    inverse: float
    reach: float
    coefficients: tuple[float, ...]


@lru_cache(maxsize=1024)
def _tail(near: float, width: float, bits: int, count: int) -> _Tail:
    """Distance from ``near`` in units of ``reach``, for P(Z > near …) cut ``width`` further out."""
    log_ratio = log_survival(near, width)
    left = exp(log_ratio) if log_ratio > -1000.0 else 0.0
    step = (1.0 - left) * 2.0**-bits
    most = min(-2 * log_ratio, _TWO_LN2 * (bits + 1))
    reach = distance_of_survival(near, -most / 2)
    if near < _ROOT_BELOW:
        kind = "root"
        # -2 ln of P(Z > near), so that the root is of -2 ln P(Z > value).
        offset = near * near + 1.8378770664093453 - 2 * ln(mills_ratio(near))
        least, most = sqrt(offset), sqrt(offset + most)
    else:
        kind, offset, least = "tail", 0.0, 0.0
    middle, half = (least + most) / 2, (most - least) / 2

    def distance(u: float) -> float:
        variable = middle + half * u
        r = variable * variable - offset if kind == "root" else variable
        return distance_of_survival(near, -r / 2) / reach if r > 0 else 0.0

    first = left + step / 2
    return _Tail(kind, first, step, offset, middle, 1.0 / half, reach, interpolate(distance, count))


def interpolate(function: Callable[[float], float], count: int) -> tuple[float, ...]:
    """The polynomial through a function's values at Chebyshev nodes of [-1, 1], by powers."""
    nodes = [_sine((2 * k + 1 - count) / count) for k in range(count)]
    differences = [function(node) for node in nodes]
    for order in range(1, count):
        for k in range(count - 1, order - 1, -1):
            spread = nodes[k] - nodes[k - order]
            differences[k] = (differences[k] - differences[k - 1]) / spread
    powers = [0.0] * count
    for difference, node in zip(reversed(differences), reversed(nodes), strict=True):
        powers = [a - node * b for a, b in zip([0.0, *powers[:-1]], powers, strict=True)]
        powers[0] += difference
    return tuple(powers)


def _sine(x: float) -> float:
    """sin(pi x / 2), by the polynomial that the normals use."""
    return x * _power_sum(p.SIN_64, x * x)


def _power_sum(coefficients: tuple[float, ...] | list[float], x: float) -> float:
    value = 0.0
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value
