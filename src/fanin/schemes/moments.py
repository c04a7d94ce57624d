"""Mean, std and bounds of a distribution, in closed form or by quadrature."""

import math

import numpy as np

from fanin.randomness.distributions import (
    ConstantDistribution,
    Distribution,
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
)
from fanin.schemes.scheme import Moments


def moments_of(distribution: Distribution) -> Moments:
    """Mean, std and bounds of one element drawn from ``distribution``."""
    match distribution:
        case ConstantDistribution(value):
            return Moments(value, 0.0, value, value)
        case UniformDistribution(low, high):
            return Moments((low + high) / 2, (high - low) / math.sqrt(12), low, high)
        case NormalDistribution(mean, std):
            return Moments(mean, std)
        case TruncatedNormalDistribution(mean, std, low, high):
            z_mean, z_std = moments_of_cut_normal((low - mean) / std, (high - mean) / std)
            return Moments(mean + std * z_mean, std * z_std, low, high)


def moments_of_cut_normal(low: float, high: float) -> tuple[float, float]:
    """Mean and std of N(0, 1) conditioned on low <= z <= high.

    By quadrature around the mode rather than by the formulas with Φ: those subtract nearly equal
    numbers in the tails, where this one stays exact.
    """
    mode = min(max(0.0, low), high)
    # Beyond these ends the density has fallen below exp(-40²/2) of its value at the mode.
    scale = 1.0 / max(1.0, abs(mode))
    left = max(low, mode - 40 * scale)
    right = min(high, mode + 40 * scale)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    edges = np.linspace(left, right, 401)
    half = np.diff(edges)[:, None] / 2
    z = (edges[:-1, None] + half + half * nodes).ravel() - mode
    # Relative to the density at the mode, so that nothing underflows however far the tail is.
    density = np.exp(-z * (z + 2 * mode) / 2) * (half * weights).ravel()
    total = density.sum()
    mean = float((density * z).sum() / total)
    variance = float((density * (z - mean) ** 2).sum() / total)
    return mode + mean, math.sqrt(variance)
