"""LeCun's rule, and the same under the name of the activation that it suits best, SELU."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fanin.axes import Axes
from fanin.randomness.distributions import Distribution
from fanin.schemes.checks import require_choice
from fanin.schemes.scheme import ElementwiseScheme, Names
from fanin.schemes.spread import SHAPES, Shape, fans_of, spread


@dataclass(frozen=True)
class LeCun(ElementwiseScheme):
    """Var(W) = 1/fan_in: a linear layer keeps E[x²].

    Use: layers that no activation follows; inner projections of pre-norm transformers.
    Paper: LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998.

    Args:
        distribution: ``normal``, ``uniform``, or ``truncated`` (cut at 2σ, std held).
    """

    distribution: Shape = "normal"

    names: ClassVar[Names] = {
        "lecun_normal": {},
        "lecun_uniform": {"distribution": "uniform"},
        "lecun_truncated": {"distribution": "truncated"},
    }

    def __post_init__(self) -> None:
        require_choice(self, "distribution", SHAPES)

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The distribution of variance 1/fan_in."""
        fan_in = fans_of(self, tuple(shape), axes).fan_in
        return spread(1.0 / math.sqrt(fan_in), self.distribution)


@dataclass(frozen=True)
class SELU(ElementwiseScheme):
    """Var(W) = 1/fan_in, what self-normalising networks are built on.

    E[selu(z)²] = 1 for z ~ N(0, 1), so the gain is 1.  torch's ``calculate_gain("selu")`` is
    3/4, which is not self-normalising.

    Use: plain stacks with SELU.
    Paper: Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017.

    Args:
        distribution: ``normal``, ``uniform``, or ``truncated`` (cut at 2σ, std held).
    """

    distribution: Shape = "normal"

    names: ClassVar[Names] = {
        "selu": {},
        "selu_normal": {},
        "selu_uniform": {"distribution": "uniform"},
    }

    def __post_init__(self) -> None:
        require_choice(self, "distribution", SHAPES)

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The distribution of variance 1/fan_in."""
        fan_in = fans_of(self, tuple(shape), axes).fan_in
        return spread(1.0 / math.sqrt(fan_in), self.distribution)
