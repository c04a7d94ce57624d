"""Xavier, also called Glorot: fan_in and fan_out averaged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fanin.axes import Axes
from fanin.randomness.distributions import Distribution
from fanin.schemes.checks import require_choice, require_number
from fanin.schemes.scheme import ElementwiseScheme, Names
from fanin.schemes.spread import SHAPES, Shape, fans_of, spread


@dataclass(frozen=True)
class Xavier(ElementwiseScheme):
    """Var(W) = gain² · 2/(fan_in + fan_out); uniform: U(±gain·√(6/(fan_in + fan_out))).

    A compromise between keeping the variance of activations (1/fan_in) and of gradients
    (1/fan_out) through linear or tanh-like layers.  Many texts give Xavier normal as 1/fan_in:
    that is LeCun; the two agree only where fan_in = fan_out.

    Use: shallow tanh and sigmoid networks, attention projections.
    Paper: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural
    networks, AISTATS 2010.

    Args:
        gain: multiplies the std.
        distribution: ``normal``, ``uniform``, or ``truncated`` (cut at 2σ, std held).
    """

    gain: float = 1.0
    distribution: Shape = "normal"

    names: ClassVar[Names] = {
        "xavier_normal": {},
        "glorot_normal": {},
        "xavier_uniform": {"distribution": "uniform"},
        "glorot_uniform": {"distribution": "uniform"},
        "xavier_truncated": {"distribution": "truncated"},
        "glorot_truncated": {"distribution": "truncated"},
    }

    def __post_init__(self) -> None:
        require_number(self, "gain", least=0)
        require_choice(self, "distribution", SHAPES)

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The distribution of std gain·√(2/(fan_in + fan_out))."""
        fans = fans_of(self, tuple(shape), axes)
        return spread(self.gain * math.sqrt(2.0 / (fans.fan_in + fans.fan_out)), self.distribution)
