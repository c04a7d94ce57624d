"""Distributions that are no Gaussians: those of sums, and of what a norm leaves of one.

A residual stream of rectified numbers stays skewed however many normal ones are added to it: a
ReLU behind the next norm passes more than half of its power.
"""

import numpy as np

from fanin.propagation.quadrature import NODES, WEIGHTS, Array, expectation

_COARSE = slice(6, None, 13)
_CLEARLY = 0.01
"""Share of the variance that is no straight line of a normal number before a sum is looked at."""


def is_gaussian(values: Array) -> bool:
    """Whether a function on the nodes is as good as a straight line.

    Args:
        values: of the function.
    """
    mean = expectation(values)
    variance = expectation(values**2) - mean**2
    return variance <= 0 or 1 - expectation(values * NODES) ** 2 / variance < _CLEARLY


def in_order(values: Array, mass: Array) -> Array:
    """The increasing function on the nodes that has the distribution of these values."""
    kept = mass > 1e-14
    values, mass = values[kept], mass[kept]
    order = np.argsort(values)
    values, mass = values[order], mass[order]
    places = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.interp(np.cumsum(WEIGHTS) - WEIGHTS / 2, places, values)


def standardised(values: Array) -> Array:
    """Less their mean, over their std."""
    mean = expectation(values)
    variance = expectation(values**2) - mean**2
    return (values - mean) / variance**0.5 if variance > 0 else np.zeros_like(values)


def of_sum(one: Array, two: Array) -> Array:
    """The standardised distribution of the sum of two independent numbers, given on the nodes."""
    values = np.add.outer(one[_COARSE], two[_COARSE]).ravel()
    mass = np.multiply.outer(WEIGHTS[_COARSE], WEIGHTS[_COARSE]).ravel()
    return standardised(in_order(values, mass))


def within_channels(values: Array, shared: float) -> Array:
    """What is left of f(z) where each channel is freed of its own mean and divided by its own std.

    The numbers of a channel have a part of z in common: z = √c u + √(1 − c) v with one u.

    Args:
        values: f on the nodes.
        shared: c, the correlation of z between two places of a channel.

    Returns:
        The standardised distribution over all channels and places.
    """
    c = min(max(shared, 0.0), 0.99)
    if c < _CLEARLY:
        return standardised(in_order(values, WEIGHTS))
    u, v = NODES[_COARSE], NODES[_COARSE]
    u_mass, v_mass = WEIGHTS[_COARSE] / WEIGHTS[_COARSE].sum(), WEIGHTS[_COARSE]
    v_mass = v_mass / v_mass.sum()
    found = np.interp(np.add.outer(c**0.5 * u, (1 - c) ** 0.5 * v), NODES, values)
    found -= (found @ v_mass)[:, None]
    powers = found**2 @ v_mass
    # A channel that is 0 everywhere stays so.
    lively = powers > 1e-9 * float(u_mass @ powers)
    found = np.where(lively[:, None], found / np.sqrt(np.maximum(powers, 1e-300))[:, None], 0.0)
    return standardised(in_order(found.ravel(), np.multiply.outer(u_mass, v_mass).ravel()))
