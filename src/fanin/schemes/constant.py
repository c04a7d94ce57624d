"""Schemes that give every element one value: Zeros, Ones, Constant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fanin.axes import Axes
from fanin.randomness.distributions import ConstantDistribution, Distribution
from fanin.schemes.checks import require_number
from fanin.schemes.scheme import ElementwiseScheme, Names, Numbered


@dataclass(frozen=True)
class Zeros(ElementwiseScheme):
    """Every element 0.

    Use: biases, the end of a residual branch, gates.  Never two zero matrices in a row: then
    neither gets a gradient.  A hidden layer of zeros keeps its units equal for ever.
    """

    names: ClassVar[Names] = {"zeros": {}}

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The constant 0."""
        return ConstantDistribution(0.0)


@dataclass(frozen=True)
class Ones(ElementwiseScheme):
    """Every element 1.

    Use: scales of normalisation layers.  As a weight matrix it makes all units equal.
    """

    names: ClassVar[Names] = {"ones": {}}

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The constant 1."""
        return ConstantDistribution(1.0)


@dataclass(frozen=True)
class Constant(ElementwiseScheme):
    """Every element ``value``.

    Use: biases that state a prior, forget gates (1), LayerScale (1e-5), PReLU (0.25).

    Args:
        value: any finite number.
    """

    value: float

    numbered: ClassVar[Numbered] = {"constant": lambda value: {"value": value}}

    def __post_init__(self) -> None:
        require_number(self, "value")

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The constant ``value``."""
        return ConstantDistribution(float(self.value))
