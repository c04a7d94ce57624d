"""Mean-field analysis of plain stacks: which gain, if any, carries a signal through L layers.

A plain stack maps the second moment q of a pre-activation to Q(q) = gain² E[φ(√q z)²] and the
gradient's second moment to χ1 = gain² E[φ′(√q z)²] of itself (Poole et al. 2016, Schoenholz et
al. 2017). Matching Q(q) = q is not enough: an error in q, which finite width always brings, grows
by Q′(q) per layer, and the gradient by χ1. Both must stay near 1 for depth to be harmless.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fanin.propagation.quadrature import Array, on_nodes, pair_moments
from fanin.schemes.gains import function_of_activation

Function = Callable[[torch.Tensor], torch.Tensor]

_FINE: Array = (np.arange(40_000) + 0.5) / 40_000 * 20.0 - 10.0
"""A finer grid than the walk's: slopes that jump, as hardtanh's do, are met anywhere."""
_WEIGHTS: Array = np.exp(-(_FINE**2) / 2)
_WEIGHTS /= _WEIGHTS.sum()

_GRID = np.exp(np.linspace(math.log(1e-4), math.log(1e3), 141))
"""Second moments at which the stablest fixed point is looked for."""


@dataclass(frozen=True)
class StackPoint:
    """A plain stack at a fixed point of its variance map.

    Args:
        gain: √(n_in · Var W), the bias 0.
        q: second moment of the pre-activations that the stack keeps.
        chi1: gradient second moment's factor per layer, E[φ′²]·gain².
        variance_slope: Q′(q), the factor by which an error in q grows per layer.
    """

    gain: float
    q: float
    chi1: float
    variance_slope: float

    def instability(self, depth: int) -> float:
        """Depth · max(|ln χ1|, |ln Q′|) in nats; up to about 1 the stack is safe.

        Errors of q that shrink (Q′ < 1) do no harm: only growth of q counts.
        """
        chi = abs(_log(self.chi1))
        return depth * max(chi, _log(self.variance_slope), 0.0)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def resolved(function: str | Function, parameters: Mapping[str, float] | None = None) -> Function:
    """The activation itself: a callable as it is, a name from ``fanin.schemes.gains``."""
    if callable(function):
        return function
    return function_of_activation(function, parameters)


def second_moment(function: Function, q: float) -> float:
    """E[φ(√q z)²]."""
    return float(_WEIGHTS @ _values(function, math.sqrt(q))[0] ** 2)


def _values(function: Function, std: float, slopes: bool = False) -> tuple[Array, Array]:
    """φ and φ′ at std times the fine grid."""
    x = torch.from_numpy(std * _FINE).requires_grad_(slopes)
    with torch.set_grad_enabled(slopes):
        out = function(x)
    if not slopes:
        return np.asarray(out.double().numpy()), np.zeros(0)
    if not out.requires_grad:
        return np.asarray(out.double().numpy()), np.zeros(len(_FINE))
    (found,) = torch.autograd.grad(out.sum(), x)
    return np.asarray(out.detach().double().numpy()), np.asarray(found.double().numpy())


def at_second_moment(function: str | Function, q: float = 1.0) -> StackPoint:
    """The stack whose gain keeps this second moment: gain² E[φ(√q z)²] = q.

    Examples:
        >>> point = at_second_moment("tanh")
        >>> round(point.gain, 4), round(point.chi1, 3), round(point.variance_slope, 3)
        (1.5925, 1.178, 0.461)
    """
    phi = resolved(function)
    std = math.sqrt(q)
    values, slopes = _values(phi, std, slopes=True)
    second = float(_WEIGHTS @ values**2)
    if second <= 0 or not math.isfinite(second):
        return StackPoint(math.inf, q, math.inf, math.inf)
    gain_squared = q / second
    # d/dq E[φ(√q z)²] = E[φ φ′ z] / √q.
    slope = gain_squared * float(_WEIGHTS @ (values * slopes * _FINE)) / std
    return StackPoint(math.sqrt(gain_squared), q, gain_squared * float(_WEIGHTS @ slopes**2), slope)


def at_gain(function: str | Function, gain: float, start: float = 1.0) -> StackPoint | None:
    """The stack with this gain, where iterating its variance map from ``start`` settles.

    None where q vanishes or explodes.

    Examples:
        >>> point = at_gain("tanh", 5 / 3)
        >>> round(point.q, 2), round(point.chi1, 3)
        (1.18, 1.21)
    """
    phi = resolved(function)
    q = start
    for _ in range(2000):
        new = gain**2 * second_moment(phi, q)
        if not 1e-8 < new < 1e8:
            return None
        if abs(new - q) <= 1e-10 * q:
            break
        q = new
    else:
        if abs(new - q) > 1e-6 * q:
            return None
    found = at_second_moment(phi, q)
    return StackPoint(gain, q, found.chi1, found.variance_slope)


def stablest(function: str | Function, depth: int) -> StackPoint:
    """Among all gains, the one whose fixed point is least unstable over ``depth`` layers.

    Where a function is as stable at every scale (ReLU), the unit second moment is taken.
    """
    phi = resolved(function)
    unit = at_second_moment(phi, 1.0)
    best = unit
    for q in _GRID:
        point = at_second_moment(phi, float(q))
        if point.instability(depth) < best.instability(depth) - 1e-3:
            best = point
    return best


def critical_gain(function: str | Function) -> StackPoint | None:
    """The gain whose fixed point has χ1 = 1 exactly, by bisection; None where there is none.

    For odd saturating functions that is the limit q → 0, with gain 1/φ′(0).
    """
    phi = resolved(function)
    points = [at_second_moment(phi, float(q)) for q in _GRID]
    logs = [_log(p.chi1) for p in points]
    if all(abs(x) < 1e-3 for x in logs):
        return at_second_moment(phi, 1.0)
    for k in range(len(points) - 1):
        if logs[k] * logs[k + 1] < 0 and all(map(math.isfinite, logs[k : k + 2])):
            low, high = points[k].q, points[k + 1].q
            for _ in range(60):
                middle = math.sqrt(low * high)
                same = _log(at_second_moment(phi, middle).chi1) * logs[k] > 0
                low, high = (middle, high) if same else (low, middle)
            return at_second_moment(phi, low)
    slope = slope_at_zero(phi)
    if slope is not None and slope > 0 and abs(logs[0]) < 1e-2:
        return StackPoint(1 / slope, 0.0, 1.0, 1.0)
    return None


def odd_slope(function: str | Function, tolerance: float = 1e-3) -> float | None:
    """C where φ(x) − φ(−x) = c·x for all x, else None.

    With mirrored orthogonal weights such a net is at the start an orthogonal linear map, whatever
    its depth (Balduzzi et al. 2017 for ReLU).

    Examples:
        >>> odd_slope("gelu"), odd_slope("tanh") is None
        (1.0, True)
    """
    phi = resolved(function)
    x = torch.linspace(0.01, 8.0, 400, dtype=torch.float64)
    with torch.no_grad():
        odd = (phi(x) - phi(-x)).double()
    c = float((odd * x).sum() / (x * x).sum())
    error = float((odd - c * x).abs().max() / max(abs(c) * 8.0, 1e-12))
    return round(c, 6) if c > 0 and error <= tolerance else None


def slope_at_zero(function: str | Function) -> float | None:
    """φ′(0), None where the slopes from left and right differ (a kink at 0)."""
    phi = resolved(function)
    h = 1e-4
    x = torch.tensor([-h, 0.0, h], dtype=torch.float64)
    with torch.no_grad():
        left, middle, right = (float(v) for v in phi(x))
    one, two = (middle - left) / h, (right - middle) / h
    return (one + two) / 2 if abs(one - two) <= 1e-2 * max(abs(one), abs(two)) else None


def orthogonal_gain(function: str | Function) -> float | None:
    """1/φ′(0): the gain with which orthogonal weights keep small signals and their gradients.

    None where φ(0) ≠ 0, where φ is kinked at 0, or where φ′(0) is not positive: deep orthogonal
    nets are then no isometries.

    Examples:
        >>> orthogonal_gain("tanh")
        1.0
        >>> orthogonal_gain("relu") is None
        True
    """
    phi = resolved(function)
    with torch.no_grad():
        zero = float(phi(torch.zeros(1, dtype=torch.float64)))
    slope = slope_at_zero(phi)
    if slope is None or slope <= 0 or abs(zero) > 1e-9:
        return None
    return round(1 / slope, 6)


def is_odd(function: str | Function) -> bool:
    """φ(−x) = −φ(x): the correlation between samples can then stay where it is."""
    phi = resolved(function)
    x = torch.linspace(0.01, 8.0, 200, dtype=torch.float64)
    with torch.no_grad():
        gap = float((phi(x) + phi(-x)).abs().max())
        size = float(phi(x).abs().max())
    return gap <= 1e-6 * max(size, 1e-12)


def correlation_map(function: str | Function, correlation: float, q: float = 1.0) -> float:
    """E[φ φ′] / E[φ²] of two inputs with this correlation and second moment q each.

    For ReLU the arc-cosine kernel (Cho & Saul 2009): 0 goes to 1/π.
    """
    values = on_nodes(resolved(function), 0.0, math.sqrt(q))
    pairs = pair_moments(values, np.array([correlation, 1.0]))
    return float(pairs[0] / pairs[1])


def width_fluctuation(depth: int, width: float) -> tuple[float, float]:
    """Mean and std of ln q behind ``depth`` Gaussian He-ReLU layers of finite width.

    ln q ~ N(−5L/2n, 5L/n): what chance alone does, so what a diagnosis must let pass.

    Examples:
        >>> mean, std = width_fluctuation(50, 64)
        >>> round(mean, 2), round(std, 2)
        (-1.95, 1.98)
    """
    ratio = 5 * depth / width
    return -ratio / 2, math.sqrt(ratio)
