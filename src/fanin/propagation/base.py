"""The Gaussian tensor of which another is an elementwise function, and averages of such."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from fanin.propagation.profile import Profile
from fanin.propagation.quadrature import (
    NODES,
    Array,
    enough_folds,
    expectation,
    oscillates,
    refined_weights,
)


@dataclass(frozen=True, eq=False)
class Base:
    """The Gaussian tensor of which another is an elementwise function.

    Two tensors with equal keys are functions of the same numbers, element by element: that is
    how x·σ(x), x + φ(x) and hand-written activations come out right.

    Args:
        key: says which numbers they are.
        mean: over all elements.
        std: likewise.
        pairs: E[x x′].
        profile: powers place by place: there x is √power · (mean + std · z).
        averages: what it is the average of, if it averages a function of another base.
        quantiles: its values on the nodes, increasing, where it is no Gaussian itself: a product,
            an average of squares, the numbers of a batch. Only correlations are then Gaussian.
    """

    key: Hashable
    mean: float
    std: float
    pairs: Array
    profile: Profile = None
    averages: "Average | None" = None
    quantiles: Array | None = None

    @property
    def values(self) -> Array:
        """The tensor itself on the nodes."""
        return self.mean + self.std * NODES if self.quantiles is None else self.quantiles

    @property
    def correlations(self) -> Array:
        """Correlation of each kind of pair, means taken off."""
        if self.std == 0.0:
            return np.ones_like(self.pairs)
        found: Array = np.clip((self.pairs - self.mean**2) / self.std**2, -1.0, 1.0)
        return found


@dataclass(frozen=True, eq=False)
class Average:
    """S, the mean or sum over some axes of a function f of a tensor's elements.

    A tensor divided by its own statistic is not divided by an independent number: whatever g,
    E[f(x) g(S)] = E[S g(S)] / count for elements that are exchangeable.

    Args:
        keys: of the base of x, and of that base under the views that S has gone through.
        function: f on the nodes of that base.
        values: S on the nodes of its own base.
        count: 1 for a mean, the number of terms for a sum.
    """

    keys: frozenset[Hashable]
    function: Array
    values: Array
    count: float


def at_power(values: Array, base: Base, power: float) -> Array:
    """A function on the nodes of a base, at places where the base has another power."""
    if power == 1.0 or base.std == 0.0:
        return values
    own = base.values
    there = np.sqrt(power) * own
    found: Array = np.interp(there, own, values)
    for end, outside in ((0, there < own[0]), (-1, there > own[-1])):
        if outside.any():
            inner = np.searchsorted(own, own[0], side="right") if end == 0 else (
                np.searchsorted(own, own[-1]) - 1)  # fmt: skip
            inner = int(np.clip(inner, 0, len(own) - 1))
            step = own[end] - own[inner]
            slope = (values[end] - values[inner]) / step if step else 0.0
            found[outside] = values[end] + slope * (there[outside] - own[end])
    return found


Finer = Callable[[float, int], Array]
"""Power of a place and number of folds of the nodes -> a function there, see ``refined``."""


def moments_by_power(
    base: Base, values: Array, finer: Finer | None
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Power of a place -> E[f] and E[f²] there."""
    if finer is None or not oscillates(values):

        def on_nodes(power: float) -> Array:
            return at_power(values, base, power)

        return (lambda p: expectation(on_nodes(p))), (lambda p: expectation(on_nodes(p) ** 2))
    strongest = 1.0 if base.profile is None else float(base.profile.max())
    folds = enough_folds(lambda k: finer(strongest, k))
    weights = refined_weights(folds)
    return (
        lambda p: float(weights @ finer(p, folds)),
        lambda p: float(weights @ finer(p, folds) ** 2),
    )
