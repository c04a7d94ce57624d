"""The std that a tensor is expected to have once it is drawn."""

import math
from collections.abc import Sequence

from fanin.axes import Axes
from fanin.schemes.scheme import Moments, Scheme


def expected_moments(
    scheme: Scheme, shape: Sequence[int], axes: Axes, zero_rows: Sequence[int] = ()
) -> Moments:
    """Moments that the scheme promises, with the rows that are set to zero counted in.

    Raises:
        SchemeError: the scheme cannot draw such a tensor.
    """
    moments = scheme.expected(shape, axes)
    if not zero_rows or not shape or not shape[0]:
        return moments
    drawn = 1 - len(set(zero_rows)) / shape[0]
    mean = drawn * moments.mean
    second = drawn * (moments.std**2 + moments.mean**2)
    low = None if moments.low is None else min(0.0, moments.low)
    high = None if moments.high is None else max(0.0, moments.high)
    return Moments(mean, math.sqrt(max(second - mean**2, 0.0)), low, high)


def expected_std(
    scheme: Scheme, shape: Sequence[int], axes: Axes, zero_rows: Sequence[int] = ()
) -> float | None:
    """The std of ``expected_moments``; None where the scheme does not know it."""
    std = expected_moments(scheme, shape, axes, zero_rows).std
    return None if math.isnan(std) else std
