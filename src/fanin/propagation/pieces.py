"""Stretches of one axis that differ in power, such as the q, k and v of one packed matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from fanin.propagation.quadrature import Array


@dataclass(frozen=True)
class Pieces:
    """Stretches of one axis that differ in power: the q, k and v of one packed matrix.

    Args:
        axis: which axis.
        sizes: lengths of the stretches, in order.
        factors: second moment of each over that of the whole tensor.
    """

    axis: int
    sizes: tuple[int, ...]
    factors: tuple[float, ...]

    def factor(self, start: int, length: int) -> float:
        """Mean factor of a range of the axis."""
        begin, total = 0, 0.0
        for size, factor in zip(self.sizes, self.factors, strict=True):
            shared = min(begin + size, start + length) - max(begin, start)
            total += max(shared, 0) * factor
            begin += size
        return total / length if length else 1.0

    def powers(self, rank: int) -> Array:
        """Powers place by place, of mean 1, for a tensor of ``rank`` axes."""
        shape = [1] * rank
        shape[self.axis] = -1
        places = np.repeat(self.factors, self.sizes)
        return np.asarray(places / places.mean()).reshape(shape)

    def met(self, profile: Array) -> float:
        """What a tensor with these powers place by place meets, over what an even one would."""
        if profile.shape[self.axis] == 1:
            return 1.0
        return float((profile * self.powers(profile.ndim)).mean() / profile.mean())

    def part(self, start: int, length: int) -> "Pieces | None":
        """The stretches within a range; None where it lies in one stretch."""
        begin, sizes, factors = 0, list[int](), list[float]()
        whole = self.factor(start, length)
        for size, factor in zip(self.sizes, self.factors, strict=True):
            shared = min(begin + size, start + length) - max(begin, start)
            if shared > 0:
                sizes.append(shared)
                factors.append(factor / whole if whole > 0 else 1.0)
            begin += size
        return Pieces(self.axis, tuple(sizes), tuple(factors)) if len(sizes) > 1 else None

    def reshaped(self, given: Sequence[int], made: Sequence[int]) -> "Pieces | None":
        """The same stretches in another shape; None where they end up in no one axis."""
        before = prod(given[: self.axis])
        for axis, n in enumerate(made):
            if n > 1 and prod(made[:axis]) == before and given[self.axis] % n == 0:
                inner = given[self.axis] // n
                if all(size % inner == 0 for size in self.sizes):
                    return replace(self, axis=axis, sizes=tuple(s // inner for s in self.sizes))
        return None
