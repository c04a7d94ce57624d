"""The way back through a broadcast and through a factor, which many families share."""

from collections.abc import Callable

import numpy as np

from fanin.propagation.algebra import aligned, reduced_to
from fanin.propagation.carrying import weighted
from fanin.propagation.layout import Axes, fit, shape_of
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass
from fanin.propagation.state import State


def mover(made: Axes, target: Axes) -> Callable[[Array], Array]:
    """Pair moments of a broadcast output's gradient -> those of an input's."""

    def move(pairs: Array) -> Array:
        rest, axes = reduced_to(pairs, made, target)
        return fit(rest, axes, target)

    return move


def keeps_lengths(made: Axes, target: Axes) -> bool:
    """Whether no summing is needed on the way back."""
    return shape_of(made)[len(made) - len(target) :] == shape_of(target) and all(
        n == 1 for n in shape_of(made)[: len(made) - len(target)]
    )


def by_factor(tensor: int, target: State, made: State, factor: State) -> list[Pass]:
    """G times an independent factor: its mean keeps the sign of g, what is left has its own.

    A gate z that passes g·z to one reader and g·(1 − z) to another passes g in all.
    """
    move = mover(made.axes, target.axes)
    _, under = aligned(made, factor)
    carry = weighted(under.profile, made.shape, target.shape)
    if not keeps_lengths(made.axes, target.axes):
        return [Pass(tensor, times(move, under.pairs), carry=carry)]
    rest = np.asarray(under.pairs - factor.mean**2)
    if rest.flat[0] <= 1e-9 * under.second_moment:
        return [Pass(tensor, move, factor.mean, carry=carry)]
    if abs(factor.mean) <= 1e-6 * under.second_moment**0.5:
        return [Pass(tensor, times(move, under.pairs), carry=carry)]
    return [
        Pass(tensor, move, factor.mean, carry=carry),
        Pass(tensor, times(move, rest), carry=carry),
    ]


def times(move: Callable[[Array], Array], factors: Array) -> Callable[[Array], Array]:
    """Multiply pair moments by those of an independent factor before moving them."""
    return lambda pairs: move(pairs * factors)
