"""The specification of every drawn number: a short plain program over arrays.

The C++ and the Triton kernel are tested for equal bits with this.  It runs over NumPy or over
torch on any device, and is what fills where no kernel can.
"""

from collections.abc import Callable
from typing import Any

import torch

from fanin.randomness.arrays import Array, Arrays
from fanin.randomness.distributions import (
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
)
from fanin.randomness.layout import (
    BLOCKS_PER_TILE,
    Purpose,
    Quad,
    block_of,
    slot_of,
    tile_words,
    words_of_blocks,
)
from fanin.randomness.normal import NormalNumbers, normal_double, normal_single
from fanin.randomness.truncated import truncated_double, truncated_numbers, truncated_single
from fanin.randomness.uniform import UniformNumbers, uniform_double, uniform_single

RandomDistribution = UniformDistribution | NormalDistribution | TruncatedNormalDistribution
Transform = Callable[[Arrays, Quad, Any], list[Array]]

_SINGLE: dict[type, tuple[Callable[..., Any], Transform]] = {
    UniformDistribution: (UniformNumbers.of, uniform_single),
    NormalDistribution: (NormalNumbers.of, normal_single),
    TruncatedNormalDistribution: (truncated_numbers, truncated_single),
}
_DOUBLE: dict[type, tuple[Callable[..., Any], Transform]] = {
    UniformDistribution: (UniformNumbers.of, uniform_double),
    NormalDistribution: (NormalNumbers.of, normal_double),
    TruncatedNormalDistribution: (truncated_numbers, truncated_double),
}


def numbers_of(distribution: RandomDistribution, dtype: torch.dtype) -> Any:
    """The constants that draw a distribution as a dtype: one dataclass a transform.

    Raises:
        SchemeError: the distribution cannot be drawn as this dtype.
    """
    table = _DOUBLE if dtype == torch.float64 else _SINGLE
    law = _law(distribution, dtype)
    return table[type(law)][0](law, dtype)


def _law(distribution: RandomDistribution, dtype: torch.dtype) -> RandomDistribution:
    """The distribution itself; but the plain normal where bounds lie beyond what it reaches.

    Box and Muller's z ends at 6.66 (8.57 in float64), so that bounds 7 (9) std out cut nothing,
    and twice as fast.  A mean of at most one std keeps rounding from reaching them either.
    """
    if isinstance(distribution, TruncatedNormalDistribution):
        mean, std = distribution.mean, distribution.std
        reach = std * (9.0 if dtype == torch.float64 else 7.0)
        bounded = mean - reach < distribution.low or distribution.high < mean + reach
        if not bounded and abs(mean) <= std:
            return NormalDistribution(mean, std)
    return distribution


class Specification:
    """Draws one distribution under one key, in float32 or float64.

    Args:
        xp: NumPy or torch.
        distribution: what to draw; not a constant.
        key: 64-bit Philox key.
        dtype: the dtype that the values are for.  float16 and bfloat16 values are the float32
            values rounded to nearest even, which is left to the caller; their bounds are the
            dtype's own.
    """

    def __init__(
        self, xp: Arrays, distribution: RandomDistribution, key: int, dtype: torch.dtype
    ) -> None:
        double = dtype == torch.float64
        self._numbers = numbers_of(distribution, dtype)
        table = _DOUBLE if double else _SINGLE
        self._transform = table[type(_law(distribution, dtype))][1]
        self._xp, self._key = xp, key
        self._purpose = Purpose.DOUBLE if double else Purpose.SINGLE
        self._slots = 2 if double else 4

    def range(self, start: int, count: int) -> Array:
        """Elements start … start + count - 1 of the row-major whole tensor."""
        tile = BLOCKS_PER_TILE * self._slots
        first, last = start // tile, -(-(start + count) // tile)
        words = tile_words(self._xp, self._key, first, last - first, self._purpose)
        values = self._xp.stack(self._transform(self._xp, words, self._numbers), 1).reshape(-1)
        return values[start - first * tile : start - first * tile + count]

    def at(self, index: Array) -> Array:
        """The elements of these row-major numbers, an int64 array of any shape."""
        blocks = block_of(index, self._slots)
        words = words_of_blocks(self._xp, self._key, blocks, self._purpose)
        values = self._transform(self._xp, words, self._numbers)
        slots = slot_of(index, self._slots)
        chosen = values[0]
        for slot, value in enumerate(values[1:], start=1):
            chosen = self._xp.where(slots == slot, value, chosen)
        return chosen
