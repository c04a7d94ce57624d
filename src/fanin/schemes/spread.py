"""From a standard deviation and the word normal, uniform or truncated to a distribution."""

import math
from typing import Literal

from fanin.axes import Axes, Fans
from fanin.errors import SchemeError
from fanin.randomness.distributions import (
    Distribution,
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
)

Shape = Literal["normal", "uniform", "truncated"]
SHAPES = ("normal", "uniform", "truncated")

STD_OF_UNIT_NORMAL_CUT_AT_2 = 0.8796256610342398
"""Std of N(0, 1) cut at ±2: √(1 − 4 φ(2) / (2 Φ(2) − 1)).  A test computes it by quadrature."""


def spread(std: float, shape: str) -> Distribution:
    """A distribution of mean 0 and this std: N(0, std²), U(±√3 std), or a normal cut at 2σ.

    The cut normal is widened by 1/0.8796 before the cut, so that ``std`` holds after it.
    """
    if shape == "uniform" or std == 0:
        bound = math.sqrt(3.0) * std
        return UniformDistribution(-bound, bound)
    if shape == "truncated":
        wide = std / STD_OF_UNIT_NORMAL_CUT_AT_2
        return TruncatedNormalDistribution(0.0, wide, -2 * wide, 2 * wide)
    return NormalDistribution(0.0, std)


def fans_of(scheme: object, shape: tuple[int, ...], axes: Axes) -> Fans:
    """The fans of a weight; an error for a tensor that sums over nothing, such as a bias."""
    if not axes.inputs and not axes.receptive:
        raise SchemeError(
            f"{scheme!r}: a tensor of shape {tuple(shape)} with {axes!r} sums over no inputs, so "
            "it has no fan_in and no fan_out. Use Zeros, Ones, Constant, Normal or Uniform, or "
            "name the input axis."
        )
    return axes.fans(shape)


def fan_of(scheme: object, shape: tuple[int, ...], axes: Axes, mode: str) -> float:
    """fan_in, fan_out or their mean, by the name of the mode."""
    fans = fans_of(scheme, shape, axes)
    return {"fan_in": fans.fan_in, "fan_out": fans.fan_out, "fan_avg": fans.average}[mode]
