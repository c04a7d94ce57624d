"""The upper tail of the standard normal in doubles, the same on every machine.

``math.erfc`` and ``math.exp`` differ between C libraries in the last digit, and a constant that
differs there changes drawn values.  Python's float arithmetic is IEEE everywhere, and
``decimal`` rounds exp and ln correctly; nothing else is used here.
"""

from decimal import Context, Decimal
from math import inf

_DIGITS = Context(prec=40)
_LN_ROOT_TWO_PI = 0.9189385332046727  # ln sqrt(2 pi)
_SERIES_BELOW = 2.0


def density(x: float) -> float:
    """exp(-x²/2) / sqrt(2 pi)."""
    exact = Decimal(x)
    exponent = _DIGITS.divide(_DIGITS.multiply(exact, exact), Decimal(-2))
    return float(_DIGITS.exp(exponent)) * 0.3989422804014327


def upper_tail(x: float) -> float:
    """P(Z > x)."""
    if x < 0:
        return 1.0 - upper_tail(-x)
    if x == inf:
        return 0.0
    if x < _SERIES_BELOW:
        return 0.5 - density(x) * _series(x)
    return density(x) * mills_ratio(x)


def log_upper_tail(x: float) -> float:
    """Logarithm of P(Z > x) for x >= 2, without underflow."""
    ratio = float(_DIGITS.ln(Decimal(mills_ratio(x))))
    return -0.5 * x * x - _LN_ROOT_TWO_PI + ratio


def mills_ratio(x: float) -> float:
    """P(Z > x) / density(x) for x >= 2, by Laplace's continued fraction."""
    # 1 / (x + 1 / (x + 2 / (x + 3 / …))), from the inside out.
    terms = 40 + int(800 / (x * x))
    value = x
    for n in range(terms, 0, -1):
        value = x + n / value
    return 1.0 / value


def _series(x: float) -> float:
    """(P(Z < x) - 1/2) / density(x) = x + x³/3 + x⁵/(3·5) + …, all terms of one sign."""
    square = x * x
    term = total = x
    odd = 1.0
    while term > total * 1e-18:
        odd += 2.0
        term = term * square / odd
        total += term
    return total
