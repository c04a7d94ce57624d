"""Moments and distributions of numbers that are there, by brute force."""

import numpy as np

from fanin.propagation.profile import MOST_PLACES
from fanin.propagation.quadrature import WEIGHTS, Array, expectation


def quantiles_of(data: Array) -> Array:
    """The increasing function of a standard normal number that has the data's distribution."""
    flat = data.ravel()
    flat = np.sort(flat[:: max(1, flat.size // MOST_PLACES)])
    mass = np.cumsum(WEIGHTS) - WEIGHTS / 2
    values = np.interp(mass * len(flat), np.arange(len(flat)) + 0.5, flat)
    mean, square = expectation(values), expectation(values**2)
    spread = np.sqrt(max(square - mean**2, 0.0))
    return values if spread == 0 else flat.mean() + (values - mean) * (flat.std() / spread)


def _squared_means(data: Array, axis: int) -> Array:
    """Mean squares of the means over every set of the axes from this one on."""
    if axis == data.ndim:
        return np.asarray(np.mean(np.square(data)))
    over = data.mean(axis=axis, keepdims=True)
    return np.stack([_squared_means(data, axis + 1), _squared_means(over, axis + 1)])


def pair_moments_of(data: Array, runs: int = 0) -> Array:
    """E[x x′] of an array for every set of axes along which x and x′ differ, by brute force.

    The mean over an axis squares into pairs that may agree there; taking the n agreeing ones out
    of the n² leaves the pairs that differ. The first ``runs`` axes number experiments: no pair
    differs there.
    """
    means = _squared_means(data, runs)
    for axis, n in enumerate(data.shape[runs:]):
        same, mixed = np.take(means, 0, axis), np.take(means, 1, axis)
        differ = (mixed - same / n) / (1 - 1 / n) if n > 1 else same
        means = np.stack([same, differ], axis=axis)
    return means
