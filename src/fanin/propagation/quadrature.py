"""Gaussian expectations of functions of one number, on one dense grid.

A dense even grid serves smooth and kinked functions alike: for smooth ones the trapezoidal rule
under a Gaussian converges faster than any power of the spacing h, and a kink of slope change s
costs at most s·h²/12 of a density below 0.4, here 2e-6·s.  Gauss–Hermite nodes, sparse where a
ReLU bends, are off by 1e-2 at the same effort.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

HALF_WIDTH = 10.0
"""The grid spans ±10 standard deviations: beyond lies 1.5e-23 of the mass."""
COUNT = 1950
"""Nodes of the grid, its own mirror image; even, so that a jump at 0 falls between two nodes."""
DEGREES = 48
"""Hermite coefficients kept for the correlation map; what is left is put on the next degree."""

NODES: Array = np.linspace(-HALF_WIDTH, HALF_WIDTH, COUNT)
"""z, the argument of a standard normal density."""
_density = np.exp(-(NODES**2) / 2)
WEIGHTS: Array = _density / _density.sum()
"""Weights that sum to 1: E[f(z)] ≈ Σ WEIGHTS·f(NODES)."""


@lru_cache(maxsize=1)
def _weighted_hermite() -> Array:
    """Rows h_k(z)·weight of the orthonormal Hermite polynomials, k from 0 to DEGREES."""
    rows = np.empty((DEGREES + 1, COUNT))
    rows[0], rows[1] = 1.0, NODES
    for k in range(2, DEGREES + 1):
        rows[k] = (NODES * rows[k - 1] - math.sqrt(k - 1) * rows[k - 2]) / math.sqrt(k)
    return rows * WEIGHTS


def expectation(values: Array) -> float:
    """E[f(z)] from the values of f on the nodes."""
    return float(WEIGHTS @ values)


_SMOOTH = 0.01
"""Mean square step from node to node, over E[f²], below which the nodes are enough for f: a sine
of numbers of std 10 has so much."""
_MOST_FOLDS = 64
_SETTLED = 1e-3


def oscillates(values: Array) -> bool:
    """Whether a function changes so much from node to node that it wants finer ones.

    A sine of numbers of std 300 is the same on neighbouring nodes, and on others by chance.
    """
    steps = np.diff(values)
    return bool(WEIGHTS[1:] @ steps**2 > _SMOOTH * (WEIGHTS @ values**2))


def refined(values: Array, folds: int) -> Array:
    """A function between the nodes too, by straight lines: ``folds`` steps for each of theirs."""
    if folds == 1:
        return values
    return np.interp(np.arange((COUNT - 1) * folds + 1) / folds, np.arange(COUNT), values)


@lru_cache(maxsize=8)
def refined_weights(folds: int) -> Array:
    """Weights of the nodes of ``refined``."""
    if folds == 1:
        return WEIGHTS
    density = np.exp(-(refined(NODES, folds) ** 2) / 2)
    return np.asarray(density / density.sum())


def enough_folds(function: Callable[[int], Array]) -> int:
    """From how many folds on E[f²] no longer changes.

    Args:
        function: number of folds -> f on so many nodes.
    """
    folds, found = 1, float(WEIGHTS @ function(1) ** 2)
    while folds < _MOST_FOLDS:
        finer = float(refined_weights(2 * folds) @ function(2 * folds) ** 2)
        if abs(finer - found) <= _SETTLED * abs(finer):
            return folds
        folds, found = 2 * folds, finer
    return folds


def hermite_coefficients(values: Array) -> Array:
    """a_k = E[f(z) h_k(z)] for the orthonormal Hermite polynomials, k from 0 to DEGREES."""
    coefficients: Array = _weighted_hermite() @ values
    return coefficients


def pair_moments(values: Array, correlations: Array, other: Array | None = None) -> Array:
    """E[f(z) g(z′)] for standard normal pairs of the given correlations; g is f by default.

    Mehler's formula: Σ a_k b_k c^k.  The part of E[f g] beyond the last kept degree decays at
    least as fast as c^(DEGREES + 1) and is put there, so that c = 1 is exact.

    Args:
        values: f on the nodes.
        correlations: any shape, from −1 to 1.
        other: g on the nodes.
    """
    a = hermite_coefficients(values)
    b = a if other is None else hermite_coefficients(other)
    products = a * b
    rest = expectation(values * (values if other is None else other)) - float(products.sum())
    c = np.clip(correlations, -1.0, 1.0)
    result: Array = np.polynomial.polynomial.polyval(c, np.append(products, rest))
    return result


def on_nodes(
    function: Callable[[torch.Tensor], torch.Tensor], mean: float = 0.0, std: float = 1.0
) -> Array:
    """The values of an elementwise function at mean + std·NODES, in float64."""
    with torch.no_grad():
        out = function(torch.from_numpy(mean + std * NODES))
    return np.asarray(out.double().numpy(), dtype=np.float64)


def slopes_on_nodes(
    function: Callable[[torch.Tensor], torch.Tensor], mean: float = 0.0, std: float = 1.0
) -> Array:
    """φ′ at mean + std·NODES, by automatic differentiation."""
    with torch.enable_grad():
        x = torch.from_numpy(mean + std * NODES).requires_grad_()
        out = function(x)
        if not out.requires_grad:
            return np.zeros(COUNT)
        (slope,) = torch.autograd.grad(out.sum(), x)
    return np.asarray(slope.numpy(), dtype=np.float64)
