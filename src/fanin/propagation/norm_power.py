"""The power that a norm divides by is itself a random number where few numbers make it.

A channel of a batch norm has power a = q W S + ε: S is a mean of ν squares, χ²-like with relative
variance 2/ν; W = Σ w²/E[Σ w²] is that of the weights that made the channel, large in one and small
in the next. What a norm makes has the power E[q W S/a], and its gradient is divided by a: with one
weight a channel (depthwise, behind padding) or two samples E[1/a] has no value but for ε.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fanin.propagation.quadrature import Array

_POINTS = 160


@dataclass(frozen=True)
class NormPower:
    """The random power a = q W S + ε that a norm divides by.

    Args:
        power: q, the expected second moment of what is normalised, its mean taken off.
        eps: ε.
        spread: relative variance of S, 2/ν of ν independent numbers.
        weights: relative variance of W, 2/m of m independent weights; for norms of rows, of what
            the rows have that were read.
        uneven: relative variance of the powers of the numbers of one channel, 0 for Gaussians.
        bounded: 2/ν of the ν numbers that are divided by their own power.
    """

    power: float
    eps: float
    spread: float = 0.0
    weights: float = 0.0
    uneven: float = 0.0
    bounded: float = 0.0

    def expected(self, weighted: bool = False) -> tuple[float, float, float, float]:
        """E[β], E[1/a], E[β/a] and E[β²/a] for β = q W S/a, each times W where ``weighted``."""
        if self.power <= 0:
            inverse = 1 / self.eps if self.eps > 0 else 0.0
            return 0.0, inverse, 0.0, 0.0
        relative = float(f"{self.eps / self.power:.4g}")
        found = _expected(relative, round(self.spread, 5), round(self.weights, 5), weighted)
        return found[0], found[1] / self.power, found[2] / self.power, found[3] / self.power

    def through(self, weighted: bool = False) -> float:
        """Mean square of 1/√a along a direction that knows nothing of the numbers normalised."""
        _, inverse, one, two = self.expected(weighted)
        own = min(self.spread / 2, 1.0)
        return inverse - own * (2 * one - two)

    @property
    def taken_back(self) -> float:
        """E[W/a] over E[1/a]: on its way through the weights the gradient meets them again."""
        alone = self.through()
        return self.through(weighted=True) / alone if self.weights > 0 and alone > 0 else 1.0


@lru_cache(maxsize=4096)
def _expected(
    eps: float, spread: float, weights: float, weighted: bool
) -> tuple[float, float, float, float]:
    s, s_mass = chi_square(spread)
    w, w_mass = chi_square(weights)
    product = np.multiply.outer(w, s)
    mass = np.multiply.outer(w_mass * w if weighted else w_mass, s_mass)
    inverse = 1 / (product + eps)
    beta = product * inverse
    found = [beta, inverse, beta * inverse, beta**2 * inverse]
    one, two, three, four = (float((mass * values).sum()) for values in found)
    return one, two, three, four


@lru_cache(maxsize=1024)
def chi_square(relative_variance: float) -> tuple[Array, Array]:
    """Nodes and weights of a mean of squares: the Γ distribution of mean 1 and that variance.

    Even nodes of its logarithm t, whose density exp(k (t − eᵗ)) falls off fast on either side;
    1/x down to x = e⁻⁴⁰ is integrated too.
    """
    if relative_variance < 1e-6:
        return np.ones(1), np.ones(1)
    k = 1 / relative_variance
    reach = 40.0 / k  # where the density has fallen to e⁻⁴⁰ of its peak

    def beyond(t: float) -> bool:
        return bool(np.exp(t) - 1 - t > reach)

    ends = []
    for sign in (-1.0, 1.0):
        low, high = 0.0, 80.0 if sign < 0 else 8.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if beyond(sign * middle) else (middle, high)
        ends.append(sign * high)
    t = np.linspace(ends[0], ends[1], _POINTS)
    log_density = k * (t - np.exp(t))
    mass = np.exp(log_density - log_density.max())
    mass /= mass.sum()
    x = np.exp(t)
    return x / float(mass @ x), mass
