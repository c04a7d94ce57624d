"""Variance scaling: the family that contains Xavier, He and LeCun."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from fanin.axes import Axes
from fanin.randomness.distributions import Distribution
from fanin.schemes.checks import require_choice, require_number
from fanin.schemes.scheme import ElementwiseScheme, Names, Numbered
from fanin.schemes.spread import SHAPES, Shape, fan_of, spread


@dataclass(frozen=True)
class VarianceScaling(ElementwiseScheme):
    """Var(W) = scale/fan.

    ``scale=1, mode="fan_avg"`` is Xavier, ``scale=2`` He, ``scale=1`` LeCun.  The truncated form
    is widened by 1/0.8796 before the cut at 2σ, as in JAX and TensorFlow, so that the variance
    holds after it.

    Use: ports from JAX and Keras; any other scale.

    Args:
        scale: variance times fan, at least 0.
        mode: ``fan_in``, ``fan_out`` or ``fan_avg``.
        distribution: ``normal``, ``uniform`` or ``truncated``.
    """

    scale: float = 1.0
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in"
    distribution: Shape = "normal"

    names: ClassVar[Names] = {
        "variance_scaling": {},
        "variance_scaling_truncated": {"distribution": "truncated"},
    }
    numbered: ClassVar[Numbered] = {"variance_scaling": lambda scale: {"scale": scale}}

    def __post_init__(self) -> None:
        require_number(self, "scale", least=0)
        require_choice(self, "mode", ("fan_in", "fan_out", "fan_avg"))
        require_choice(self, "distribution", SHAPES)

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The distribution of variance scale/fan."""
        fan = fan_of(self, tuple(shape), axes, self.mode)
        return spread(math.sqrt(self.scale / fan), self.distribution)
