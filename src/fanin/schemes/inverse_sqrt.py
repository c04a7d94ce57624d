"""The 1/√n rule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from fanin.axes import Axes
from fanin.randomness.distributions import (
    Distribution,
    NormalDistribution,
    UniformDistribution,
)
from fanin.schemes.checks import require_choice
from fanin.schemes.scheme import ElementwiseScheme, Names
from fanin.schemes.spread import fans_of


@dataclass(frozen=True)
class InverseSqrt(ElementwiseScheme):
    """U(−1/√fan_in, 1/√fan_in), or N(0, 1/fan_in).

    The two differ: the uniform form has variance 1/(3 fan_in), a third of the normal form's.
    The uniform form is what PyTorch's Linear and Conv defaults come to; it is neither LeCun
    (variance 1/fan_in) nor He (2/fan_in), and shrinks E[x²] sixfold through a ReLU layer.

    Use: lessons and legacy code.

    Args:
        distribution: ``uniform`` or ``normal``.
    """

    distribution: Literal["uniform", "normal"] = "uniform"

    names: ClassVar[Names] = {"inverse_sqrt": {}, "inverse_sqrt_normal": {"distribution": "normal"}}

    def __post_init__(self) -> None:
        require_choice(self, "distribution", ("uniform", "normal"))

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """U(±1/√fan_in) or N(0, 1/fan_in)."""
        bound = 1 / math.sqrt(fans_of(self, tuple(shape), axes).fan_in)
        if self.distribution == "uniform":
            return UniformDistribution(-bound, bound)
        return NormalDistribution(0.0, bound)
