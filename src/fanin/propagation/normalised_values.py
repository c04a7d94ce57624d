"""Numbers divided by their own power: few of them lie on a sphere, and are no Gaussians."""

from functools import lru_cache

import numpy as np

from fanin.propagation.norm_power import chi_square
from fanin.propagation.quadrature import NODES, WEIGHTS, Array

_MANY = 100.0
"""From here on the numbers behind a norm are as good as Gaussian."""


@lru_cache(maxsize=256)
def normalised_values(spread: float, uneven: float) -> Array | None:
    """Values on the nodes of one of the numbers that a norm divides by their own power.

    ν such numbers lie on a sphere: √ν u with the density (1 − u²)^((ν − 3)/2), ±1 for ν = 1, even
    for ν = 3; where places are uneven, times the root of a place's power.

    Args:
        spread: 2/ν.
        uneven: relative variance of the powers of the places.

    Returns:
        Increasing values of mean square 1; None where they are as good as Gaussian.
    """
    if spread <= 2 / _MANY and uneven <= 1 / _MANY:
        return None
    values = NODES if spread <= 2 / _MANY else _on_a_sphere(max(2 / spread, 1.0))
    if uneven > 1 / _MANY:
        powers, mass = chi_square(uneven)
        products = np.multiply.outer(values[::5], np.sqrt(powers[::4])).ravel()
        values = _spread_out(products, np.multiply.outer(WEIGHTS[::5], mass[::4]).ravel())
    return np.asarray(values / np.sqrt(float(WEIGHTS @ values**2)))


def _on_a_sphere(directions: float) -> Array:
    if directions < 1.1:
        return np.sign(NODES)
    # u = sin θ has the density cos^(ν − 2) θ; midpoints keep off its poles.
    edges = np.linspace(-np.pi / 2, np.pi / 2, 4001)
    theta = (edges[1:] + edges[:-1]) / 2
    return _spread_out(np.sin(theta), np.cos(theta) ** (directions - 2))


def _spread_out(values: Array, mass: Array) -> Array:
    """A symmetrical distribution as an increasing function on the nodes."""
    order = np.argsort(values)
    values, mass = values[order], mass[order] / mass.sum()
    found = np.interp(np.cumsum(WEIGHTS) - WEIGHTS / 2, np.cumsum(mass) - mass / 2, values)
    return np.asarray((found - found[::-1]) / 2)
