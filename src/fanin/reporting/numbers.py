"""Numbers as a person reads them, and as a page carries them."""

import math
from collections.abc import Iterable

DIGITS_CARRIED = 5
"""Significant digits of the numbers inside a page: finer than a pixel of any figure."""


def compact(value: float | None, digits: int = DIGITS_CARRIED) -> float | None:
    """The value to ``digits`` significant digits; None for None, NaN and infinity.

    None becomes ``null`` in JSON, which has no NaN, and a gap in a plotted curve.
    """
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def compact_all(values: Iterable[float | None], digits: int = DIGITS_CARRIED) -> list[float | None]:
    """``compact`` of each."""
    return [compact(value, digits) for value in values]


def number(value: float | None, digits: int = 3) -> str:
    """A number to ``digits`` significant digits, plain between 0.001 and 100 000.

    Examples:
        >>> number(0.01958), number(1.25e-9), number(640), number(None), number(float("nan"))
        ('0.0196', '1.25e-09', '640', '–', 'NaN')
        >>> number(0.99996), number(99_999.9)
        ('1.00', '1.00e+05')
    """
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    value = float(f"{value:.{digits}g}")  # 0.9999 is 1.00, not 1.000
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def measurement(value: float) -> str:
    """``number``, but counts as whole numbers: a finding measures shares and counts alike.

    Examples:
        >>> measurement(64.0), measurement(0.625)
        ('64', '0.625')
    """
    whole = math.isfinite(value) and value == round(value) and abs(value) < 1e6
    return f"{round(value)}" if whole else number(value)


def percent(share: float | None) -> str:
    """A share of 1 as a percentage with one decimal.

    Examples:
        >>> percent(0.97531), percent(None)
        ('97.5 %', '–')
    """
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def count(value: int) -> str:
    """A whole number with thin spaces between thousands.

    Examples:
        >>> count(1234567)
        '1\u202f234\u202f567'
    """
    return f"{value:,}".replace(",", "\u202f")
