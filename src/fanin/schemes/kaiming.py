"""Kaiming, also called He: the gain of the activation over one fan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from fanin.axes import Axes
from fanin.randomness.distributions import Distribution
from fanin.schemes import gains
from fanin.schemes.checks import require_choice, require_number
from fanin.schemes.scheme import ElementwiseScheme, Names
from fanin.schemes.spread import SHAPES, Shape, fan_of, spread


@dataclass(frozen=True)
class Kaiming(ElementwiseScheme):
    """Var(W) = gain²/fan, with gain² = 1/E[φ(z)²], z ~ N(0, 1).

    For ReLU gain² = 2 and for leaky ReLU 2/(1 + a²), as He et al. derive.  For any other
    activation the same second moment is taken, by quadrature.  ``torch.nn.init.calculate_gain``
    differs: its 5/3 for tanh and 3/4 for SELU are empirical values, and 1 for sigmoid is none.

    ``fan_in`` keeps the size of activations forward, ``fan_out`` that of gradients backward.  The
    fans are those of the axes, so groups, stride and transposition count; torch guesses them from
    the shape, which gives a depthwise convolution under fan_out 1/channels of the variance.

    Use: ReLU-like layers.
    Paper: He et al., Delving Deep into Rectifiers, ICCV 2015.

    Args:
        mode: ``fan_in``, ``fan_out`` or ``fan_avg``.
        nonlinearity: the activation that reads the output, by its torch name.
        negative_slope: slope a of a leaky ReLU; only with ``leaky_relu``.
        distribution: ``normal``, ``uniform``, or ``truncated`` (cut at 2σ, std held).
    """

    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in"
    nonlinearity: str = "relu"
    negative_slope: float | None = None
    distribution: Shape = "normal"

    names: ClassVar[Names] = {
        "kaiming_normal": {},
        "he_normal": {},
        "kaiming_uniform": {"distribution": "uniform"},
        "he_uniform": {"distribution": "uniform"},
        "kaiming_truncated": {"distribution": "truncated"},
        "he_truncated": {"distribution": "truncated"},
        "kaiming_normal_fan_out": {"mode": "fan_out"},
        "kaiming_uniform_fan_out": {"mode": "fan_out", "distribution": "uniform"},
    }

    def __post_init__(self) -> None:
        require_choice(self, "mode", ("fan_in", "fan_out", "fan_avg"))
        require_choice(self, "distribution", SHAPES)
        gains.require_activation(self.nonlinearity)
        if self.negative_slope is not None:
            require_number(self, "negative_slope")
            require_choice(self, "nonlinearity", ("leaky_relu",))

    @property
    def gain(self) -> float:
        """The gain of the activation, 1/√E[φ(z)²]."""
        slope = self.negative_slope
        return gains.gain(self.nonlinearity, {} if slope is None else {"negative_slope": slope})

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The distribution of std gain/√fan."""
        fan = fan_of(self, tuple(shape), axes, self.mode)
        return spread(self.gain / math.sqrt(fan), self.distribution)
