"""N(mean, std²) by Box and Muller, two values from two words (four words in float64).

G. E. P. Box, M. E. Muller, "A note on the generation of random normal deviates", 1958.  The
radius takes 31 bits (52 in float64) of the first word, read as the midpoints of equal cells, so
that |z| reaches 6.66 (8.57) and the tail up to there has the right mass.  The angle takes all of
the second and runs over half a turn; the spare sign bit of the first mirrors the cosine.
"""

from dataclasses import dataclass

import torch

from fanin.errors import SchemeError
from fanin.randomness.arrays import Array, Arrays
from fanin.randomness.distributions import NormalDistribution
from fanin.randomness.elementary import DOUBLE, SINGLE, minus_two_log, sin_cos_half_turn
from fanin.randomness.formats import FORMATS, single
from fanin.randomness.layout import Quad
from fanin.randomness.words import HALF_LOW, SIGN, signed_double, signed_single


@dataclass(frozen=True)
class NormalNumbers:
    """The constants of one normal draw: value = mean + std * z."""

    mean: float
    std: float

    @classmethod
    def of(cls, distribution: NormalDistribution, dtype: torch.dtype) -> "NormalNumbers":
        """Constants for a dtype; adding zero makes a negative zero positive.

        Raises:
            SchemeError: mean or std exceeds the arithmetic that the dtype is drawn in.
        """
        if dtype == torch.float64:
            return cls(distribution.mean + 0.0, distribution.std + 0.0)
        largest = FORMATS[torch.float32].largest
        if abs(distribution.mean) > largest or distribution.std > largest:
            raise SchemeError(f"{distribution!r} does not fit float32. Draw it as float64.")
        return cls(single(distribution.mean + 0.0), single(distribution.std + 0.0))


def normal_single(xp: Arrays, words: Quad, numbers: NormalNumbers) -> list[Array]:
    """Four float32 values a block."""
    a, b, c, d = words
    return [*_pair_single(xp, a, b, numbers), *_pair_single(xp, c, d, numbers)]


def normal_double(xp: Arrays, words: Quad, numbers: NormalNumbers) -> list[Array]:
    """Two float64 values a block."""
    a, b, c, d = words
    cell = xp.cast((a & HALF_LOW) * 2**21 + (b >> 11), "float64") + 0.5
    radius = xp.sqrt(minus_two_log(xp, cell, DOUBLE, exponent=52))
    sine, cosine = sin_cos_half_turn(signed_double(xp, c, d), DOUBLE)
    cosine = xp.where((a & SIGN) != 0, -cosine, cosine)
    return [_scale(radius * cosine, numbers), _scale(radius * sine, numbers)]


def _pair_single(xp: Arrays, a: Array, b: Array, numbers: NormalNumbers) -> tuple[Array, Array]:
    cell = xp.cast(xp.cast(a & HALF_LOW, "int32"), "float32") + 0.5
    radius = xp.sqrt(minus_two_log(xp, cell, SINGLE, exponent=31))
    sine, cosine = sin_cos_half_turn(signed_single(xp, b), SINGLE)
    cosine = xp.where((a & SIGN) != 0, -cosine, cosine)
    return _scale(radius * cosine, numbers), _scale(radius * sine, numbers)


def _scale(z: Array, numbers: NormalNumbers) -> Array:
    return z * numbers.std + numbers.mean
