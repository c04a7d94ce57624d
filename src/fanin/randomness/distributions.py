"""The distributions that one element can be drawn from, as values.

A scheme resolves to one of these; the array program, the C++ kernel and the Triton kernel draw
them from addresses.  They say nothing of seeds, shapes or dtypes.
"""

from dataclasses import dataclass
from math import isfinite

from fanin.errors import SchemeError


@dataclass(frozen=True)
class ConstantDistribution:
    """Every element equals ``value``."""

    value: float

    def __post_init__(self) -> None:
        _require(isfinite(self.value), f"{self!r}: the value must be finite.")


@dataclass(frozen=True)
class UniformDistribution:
    """U(low, high): ``low`` can be drawn, ``high`` only by rounding in the tensor's dtype."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _require(
            isfinite(self.low) and isfinite(self.high) and self.low <= self.high,
            f"{self!r}: give finite bounds with low <= high.",
        )


@dataclass(frozen=True)
class NormalDistribution:
    """N(mean, std²)."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        _require(
            isfinite(self.mean) and isfinite(self.std) and self.std >= 0,
            f"{self!r}: give a finite mean and a finite std >= 0.",
        )


@dataclass(frozen=True)
class TruncatedNormalDistribution:
    """N(mean, std²) conditioned on low <= x <= high (absolute bounds), exactly.

    ``mean`` and ``std`` are those of the normal before the cut; the moments after it are
    narrower and, for lopsided bounds, shifted.
    """

    mean: float
    std: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _require(
            isfinite(self.mean) and isfinite(self.std) and self.std > 0 and self.low < self.high,
            f"{self!r}: give a finite mean, a finite std > 0 and bounds with low < high.",
        )


Distribution = (
    ConstantDistribution | UniformDistribution | NormalDistribution | TruncatedNormalDistribution
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SchemeError(message)
