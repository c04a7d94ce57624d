"""Distributions that are no Gaussians: those of sums, and of what a norm leaves of one.

A residual stream of rectified numbers stays skewed however many normal ones are added to it: a
ReLU behind the next norm passes more than half of its power.
"""

from functools import lru_cache

import numpy as np

from fanin.propagation.quadrature import (
    COUNT,
    NODES,
    WEIGHTS,
    Array,
    expectation,
    hermite_coefficients,
)

_STEP = 13
_COARSE = slice(_STEP // 2, None, _STEP)
_CLEARLY = 0.01
"""Share of the variance that is no straight line of a normal number before it counts."""
_BENT = slice(2, 9)
_BENT_CLEARLY = 3e-4
"""The same share of curves of low degree alone: one of 3e-4 in z² − 1 is a skewness of 0.07, which
changes what a ReLU passes by 1 %."""


def is_gaussian(values: Array) -> bool:
    """Whether a function on the nodes is as good as a straight line.

    Args:
        values: of the function.
    """
    mean = expectation(values)
    variance = expectation(values**2) - mean**2
    if variance <= 0:
        return True
    coefficients = hermite_coefficients(values)
    bent = float((coefficients[_BENT] ** 2).sum())
    return bent < _BENT_CLEARLY * variance and 1 - coefficients[1] ** 2 / variance < _CLEARLY


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


@lru_cache(maxsize=1)
def _meeting() -> tuple[np.ndarray, np.ndarray, Array]:
    rows = np.arange(COUNT).reshape(-1, _STEP)
    count = len(rows)
    # 5 k + 4 is its own mirror image: odd functions stay odd.
    starts = (5 * np.arange(count) + 4) % _STEP
    first = rows[:, starts].ravel()
    second = np.tile(rows[:, _STEP // 2], count)
    mass = WEIGHTS[first] * WEIGHTS[second]
    return first, second, mass / mass.sum()


def strangers(one: Array, two: Array) -> tuple[Array, Array, Array]:
    """Values of two independent numbers, given on the nodes, and the mass of each pair.

    Every thirteenth node of the one meets every thirteenth of the other, each time from another
    first node on: were they always the same, a normal number plus a sign would take few values.
    """
    first, second, mass = _meeting()
    return one[first], two[second], mass


def of_sum(one: Array, two: Array) -> Array:
    """The standardised distribution of the sum of two independent numbers, given on the nodes."""
    first, second, mass = strangers(one, two)
    return standardised(in_order(first + second, mass))


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
