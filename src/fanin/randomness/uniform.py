"""U(low, high): a signed fraction in [-1, 1], scaled about the middle.

Counting from the middle rather than from ``low`` makes U(-a, a) symmetric to the last bit and
finest around zero, and spares the shift that would drop the sign.
"""

from dataclasses import dataclass

import torch

from fanin.errors import SchemeError
from fanin.randomness.arrays import Array, Arrays
from fanin.randomness.distributions import UniformDistribution
from fanin.randomness.formats import bounds_inside, format_of, single
from fanin.randomness.layout import Quad
from fanin.randomness.words import signed_double, signed_single


@dataclass(frozen=True)
class UniformNumbers:
    """The constants of one uniform draw: value = clamp(middle + half * x, low, high)."""

    middle: float
    half: float
    low: float
    high: float

    @classmethod
    def of(cls, distribution: UniformDistribution, dtype: torch.dtype) -> "UniformNumbers":
        """Constants for a dtype; the bounds are the outermost numbers of the dtype within.

        Raises:
            SchemeError: a bound exceeds the dtype's largest number.
        """
        largest = format_of(dtype).largest
        if max(-distribution.low, distribution.high) > largest:
            raise SchemeError(
                f"{distribution!r} exceeds {dtype}, whose largest number is {largest:g}. "
                "Give nearer bounds or a wider dtype."
            )
        # Halved first: high - low may overflow where neither bound does.
        middle = distribution.low / 2 + distribution.high / 2 + 0.0
        half = distribution.high / 2 - distribution.low / 2
        low, high = bounds_inside(distribution.low, distribution.high, dtype)
        if dtype != torch.float64:
            middle, half = single(middle), single(half)
        return cls(middle, half, low, high)


def uniform_single(xp: Arrays, words: Quad, numbers: UniformNumbers) -> list[Array]:
    """Four float32 values a block."""
    return [_scale(xp, signed_single(xp, word), numbers) for word in words]


def uniform_double(xp: Arrays, words: Quad, numbers: UniformNumbers) -> list[Array]:
    """Two float64 values a block."""
    a, b, c, d = words
    return [_scale(xp, signed_double(xp, *pair), numbers) for pair in ((a, b), (c, d))]


def _scale(xp: Arrays, x: Array, numbers: UniformNumbers) -> Array:
    return xp.clamp(x * numbers.half + numbers.middle, numbers.low, numbers.high)
