"""The largest of several equicorrelated normals."""

from functools import lru_cache

import numpy as np
import torch

from fanin.propagation.quadrature import NODES, WEIGHTS, Array


@lru_cache(maxsize=1)
def below_nodes() -> Array:
    """Φ on the nodes: the chance that another number lies below."""
    return np.asarray(0.5 * (1 + torch.erf(torch.from_numpy(NODES / np.sqrt(2))).numpy()))


@lru_cache(maxsize=512)
def weights_of_largest(count: int, correlation: float) -> Array:
    """Weights on the nodes: the density of the largest of ``count`` equicorrelated normals."""
    rho = min(max(correlation, 0.0), 1.0)
    if rho >= 1.0 - 1e-9 or count == 1:
        return WEIGHTS
    largest = count * below_nodes() ** (count - 1) * WEIGHTS
    largest /= largest.sum()
    if rho <= 1e-9:
        return np.asarray(largest)
    # The common part √ρ u and the largest of the own parts: their sum, put back on the nodes.
    common = np.linspace(-6, 6, 61)
    mass = np.exp(-(common**2) / 2)
    mass /= mass.sum()
    total = np.zeros_like(NODES)
    step = NODES[1] - NODES[0]
    for u, m in zip(common, mass, strict=True):
        place = np.clip((np.sqrt(rho) * u + np.sqrt(1 - rho) * NODES - NODES[0]) / step, 0,
                        len(NODES) - 1.001)  # fmt: skip
        left = place.astype(int)
        part = place - left
        np.add.at(total, left, m * largest * (1 - part))
        np.add.at(total, left + 1, m * largest * part)
    return total


def correlation_of_maxima(same: Array, across: Array, count: int) -> Array:
    """Correlation of the maxima of two windows of ``count`` equicorrelated normals.

    What all places of both windows share shifts both maxima as a whole: ``across`` adds as it is.
    What is left has the largest of ``count`` strangers, whose correlation starts with the slope
    1/(count · variance), the chance that both windows choose the same place, and ends at 1.

    Args:
        same: correlation of the same place of both windows.
        across: correlation of different places; its first entry that of a window's own places.
        count: places of a window.
    """
    within = min(max(float(across.flat[0]), 0.0), 1.0)
    if within >= 1.0 - 1e-9:
        return same
    weights = weights_of_largest(count, 0.0)
    spread = float(weights @ NODES**2) - float(weights @ NODES) ** 2
    slope = min(1 / (count * spread), 1.0)
    rest = np.clip((same - across) / (1 - within), 0.0, 1.0)
    chosen = slope * rest + (1 - slope) * rest ** (2 + np.log2(count) / 6)
    found = across + (1 - within) * spread * chosen
    return np.asarray(found / (within + (1 - within) * spread))


def values_of_largest(values: Array, mass: Array, power: float) -> Array:
    """The largest of numbers that are an increasing function of normals, on the nodes.

    Args:
        values: the function, on the nodes.
        mass: density of the largest on the nodes, see ``weights_of_largest``.
        power: mean square of the result.
    """
    found = np.interp(np.cumsum(WEIGHTS) - WEIGHTS / 2, np.cumsum(mass) - mass / 2, values)
    return np.asarray(found * (power / float(WEIGHTS @ found**2)) ** 0.5)
