"""A norm's gradient has no part along the numbers that were normalised: which part that is."""

from collections.abc import Sequence

import numpy as np

from fanin.propagation.layout import Axes, atoms_of
from fanin.propagation.norm_power import NormPower
from fanin.propagation.quadrature import Array


def without_own_direction(
    gradient: Array,
    numbers: Array,
    own: float,
    axes: Axes,
    inside: Sequence[int],
    divided: NormPower,
) -> Array:
    """E[(I − β u uᵀ) G (I − β u uᵀ)/a]: the gradient less its part along the numbers normalised.

    u is their direction, Gaussian with E[u uᵀ] = U before it is scaled to length 1, for which
    E[u uᵀ G u uᵀ] = (2 U G U + U tr U G)/(1 + 2 tr U²). Matrices of exchangeable pairs have their
    eigenvectors in common: along each axis the mean and what differs from it. What of G lies along
    u by more than chance is taken off on top.

    Args:
        gradient: G, pair moments of the gradient, its mean taken off where the norm does so.
        numbers: pair moments of what is normalised, likewise.
        own: mean of g z z′ g′ over all pairs of the numbers z that the norm made.
        axes: of both.
        inside: positions of the atoms that the statistics run over.
        divided: a and β.
    """
    _, inverse, one, two = divided.expected()
    atoms = atoms_of(axes)
    if numbers.flat[0] <= 0 or not inside:
        return inverse * gradient
    # Other samples or channels have a direction of their own, which is a stranger to this one's.
    same = numbers
    for position in range(numbers.ndim):
        if position not in inside:
            same = np.take(same, [0], position)
    count = float(np.prod([atoms[p] for p in inside]))
    u = eigenvalues(same / (float(same.flat[0]) * count), atoms, inside)
    g = eigenvalues(gradient, atoms, inside)
    copies = np.ones((1,) * numbers.ndim)
    for p in inside:
        shape = [1] * numbers.ndim
        shape[p] = 2
        copies = copies * np.array([atoms[p] - 1.0, 1.0]).reshape(shape)
    over = tuple(inside)
    along = (copies * u * g).sum(axis=over, keepdims=True)
    one_channel = np.zeros([1 if p in inside else 2 for p in range(numbers.ndim)])
    one_channel.flat[0] = 1.0
    squared = float((copies * u**2).sum())
    both = (2 * u * u * g + u * along) / (1 + 2 * squared)
    both = one_channel * both + (1 - one_channel) * u * u * g
    left = from_eigenvalues(inverse * g - 2 * one * u * g + two * both, atoms, inside)
    excess = (2 * one - two) * (own - float(along.flat[0]) / count)
    excess = min(excess, max(float(left.flat[0]), 0.0))
    return np.asarray(left - excess * one_channel * same / float(same.flat[0]))


def eigenvalues(pairs: Array, atoms: Sequence[int], inside: Sequence[int]) -> Array:
    """Of the matrix of all pairs: by atom inside, of what differs along it and of its mean."""
    for p in inside:
        same, differ = np.take(pairs, 0, p), np.take(pairs, 1, p)
        pairs = np.stack([same - differ, same + (atoms[p] - 1) * differ], axis=p)
    return pairs


def from_eigenvalues(values: Array, atoms: Sequence[int], inside: Sequence[int]) -> Array:
    """Pair moments of the matrix with such eigenvalues."""
    for p in inside:
        contrast, common = np.take(values, 0, p), np.take(values, 1, p)
        n = atoms[p]
        values = np.stack([(common + (n - 1) * contrast) / n, (common - contrast) / n], axis=p)
    return values
