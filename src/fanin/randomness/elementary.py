"""Logarithm, sine and cosine from exact arithmetic alone, in float32 and float64.

A library's ``log`` differs from another's in the last digit.  These use integer operations and
correctly rounded ``+ - *`` only, in this order, never fused; so they are the same everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fanin.randomness import polynomials as p
from fanin.randomness.arrays import Array, Arrays


@dataclass(frozen=True)
class Precision:
    """One floating-point format, and the polynomials that reach its accuracy."""

    float_name: str
    int_name: str
    mantissa_bits: int
    root_half_bits: int
    minus_two_ln2: float
    log: tuple[float, ...]
    sin: tuple[float, ...]
    cos: tuple[float, ...]
    centre: tuple[float, ...]
    centre_shift: float
    tail: tuple[float, ...]
    tail_shift: float


SINGLE = Precision(
    "float32",
    "int32",
    23,
    0x3F3504F3,  # sqrt(1/2)
    -1.3862943649291992,
    p.LOG_32,
    p.SIN_32,
    p.COS_32,
    p.CENTRE_32,
    p.CENTRE_SHIFT_32,
    p.TAIL_32,
    p.TAIL_SHIFT_32,
)
DOUBLE = Precision(
    "float64",
    "int64",
    52,
    0x3FE6A09E667F3BCD,  # sqrt(1/2)
    -1.3862943611198906,
    p.LOG_64,
    p.SIN_64,
    p.COS_64,
    p.CENTRE_64,
    p.CENTRE_SHIFT_64,
    p.TAIL_64,
    p.TAIL_SHIFT_64,
)


def horner(coefficients: Sequence[float], x: Array) -> Array:
    """The polynomial with these coefficients, lowest power first; one rounding per operation."""
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * x + coefficient
    return value


def minus_two_log(xp: Arrays, x: Array, precision: Precision, exponent: int = 0) -> Array:
    """-2 ln(x / 2**exponent) for positive normal x: x = 2**k (1 + t) with 1 + t near 1."""
    base = precision.root_half_bits
    mantissa = (1 << precision.mantissa_bits) - 1
    above = xp.bits(x, precision.int_name) - (base + (exponent << precision.mantissa_bits))
    k = xp.cast(above >> precision.mantissa_bits, precision.float_name)
    t = xp.bits((above & mantissa) + base, precision.float_name) - 1.0
    return k * precision.minus_two_ln2 + t * horner(precision.log, t)


def sin_cos_half_turn(x: Array, precision: Precision) -> tuple[Array, Array]:
    """sin(pi x / 2) and cos(pi x / 2) for -1 <= x <= 1; the cosine is never negative."""
    square = x * x
    return x * horner(precision.sin, square), (1.0 - square) * horner(precision.cos, square)
