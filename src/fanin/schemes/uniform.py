"""U(low, high), whatever the shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fanin.axes import Axes
from fanin.randomness.distributions import Distribution, UniformDistribution
from fanin.schemes.checks import require, require_number
from fanin.schemes.scheme import ElementwiseScheme, Names, Numbered


@dataclass(frozen=True)
class Uniform(ElementwiseScheme):
    """W ~ U(low, high): mean (low + high)/2, std (high − low)/√12.

    Use: where the bounds are known, as in SIREN's first layer.  A fixed range such as
    U(−1, 1) has std 0.577 whatever the width: activations grow by 0.577·√fan_in a layer.

    Args:
        low: the lower bound, which can be drawn.
        high: the upper bound, which is reached by rounding only.
    """

    low: float = 0.0
    high: float = 1.0

    names: ClassVar[Names] = {"uniform": {}}
    numbered: ClassVar[Numbered] = {"uniform": lambda bound: {"low": -bound, "high": bound}}

    def __post_init__(self) -> None:
        require_number(self, "low")
        require_number(self, "high")
        require(self.low <= self.high, f"{self!r}: low must not be above high.")

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """U(low, high)."""
        return UniformDistribution(float(self.low), float(self.high))
