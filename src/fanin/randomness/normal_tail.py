"""The upper tail of the standard normal in doubles, the same on every machine.

``math.erfc`` and ``math.exp`` differ between C libraries in the last digit, and a constant that
differs there changes drawn values.  Python's float arithmetic is IEEE everywhere, and
``decimal`` rounds exp and ln correctly; nothing else is used here.
"""

from decimal import Context, Decimal
from math import inf

_DIGITS = Context(prec=40)
_SERIES_BELOW = 2.0


def exp(x: float) -> float:
    """The correctly rounded exponential."""
    return float(_DIGITS.exp(Decimal(x)))


def ln(x: float) -> float:
    """The correctly rounded natural logarithm."""
    return float(_DIGITS.ln(Decimal(x)))


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


def mills_ratio(x: float) -> float:
    """P(Z > x) / density(x) for x >= 2, by Laplace's continued fraction."""
    # 1 / (x + 1 / (x + 2 / (x + 3 / …))), from the inside out.
    value = x
    for n in range(40 + int(800 / (x * x)), 0, -1):
        value = x + n / value
    return 1.0 / value


def log_survival(start: float, distance: float) -> float:
    """Logarithm of P(Z > start + distance) / P(Z > start), for start >= 2, at any height."""
    if distance == inf:
        return -inf
    end = start + distance
    return ln(mills_ratio(end) / mills_ratio(start)) - 0.5 * distance * (start + end)


def distance_of_survival(start: float, log_ratio: float) -> float:
    """The distance at which ``log_survival(start, distance)`` is ``log_ratio`` <= 0."""
    # The logarithm is concave in the distance, so that Newton's steps from beyond the root
    # descend to it without crossing; -log_ratio / start is beyond.
    distance = -log_ratio / start
    for _ in range(60):
        error = log_survival(start, distance) - log_ratio
        step = error * mills_ratio(start + distance)
        distance += step
        if abs(step) <= 2e-16 * distance:
            break
    return distance


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
