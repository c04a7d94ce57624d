"""Weights with which a deep plain stack starts as an orthogonal linear map, whatever activation.

Opposite units pass φ(x) − φ(−x) on: mirrored weights [[Q, −Q], [−Q, Q]] make a net of any φ a net
of the odd function ψ(x) = φ(x) − φ(−x), of half the width.  For ReLU, GELU or SiLU ψ is linear and
the net an isometry at every scale (Balduzzi et al. 2017).  For sigmoid (ψ = tanh(x/2)), ELU, SELU
or Mish ψ is odd with its greatest slope at 0, as tanh itself is: small signals then pass an
orthogonal net of gain 1/ψ′(0) as they are, and what must be chosen is how small.  A signal of
second moment q loses about a·q of itself in each layer (tanh: 2q), so that over L layers q = 1/(aL)
loses one nat: q0/(1 + a·L·q0), half of it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from fanin.propagation.quadrature import WEIGHTS, on_nodes, slopes_on_nodes
from fanin.propagation.stability import (
    Function,
    is_odd,
    odd_slope,
    resolved,
    second_moment,
)

MOST_CHANGE = 1.0
"""Nats by which the signal or its gradient may change over the whole stack."""

SMALLEST = 1e-10
"""Second moments below leave nothing for float32 to tell apart from a bias."""


@dataclass(frozen=True)
class Isometry:
    """A near-isometric start of a plain stack.

    Args:
        mirrored: opposite units carry ψ(x) = φ(x) − φ(−x); else φ is odd and ψ = φ.
        linear: ψ is a straight line, so that the start is an isometry at every scale.
        gain: of the orthogonal matrices, 1/ψ′(0).
        first: second moment of the first layer's output; the first layer brings data there.
        last: the same in the last layer.
        passed: second moment of ψ behind the last layer, which the next layer reads.
        features: second moment of a unit, φ itself, behind the last layer.
    """

    mirrored: bool
    linear: bool
    gain: float
    first: float
    last: float
    passed: float
    features: float


def isometry(function: str | Function, depth: int) -> Isometry | None:
    """The near-isometric start of ``depth`` layers of one activation; None where there is none.

    There is none where ψ vanishes (even functions), has no slope at 0 (ReLU²), or grows faster
    than its slope at 0 says, so that signals which grow in training would explode.

    Examples:
        >>> isometry("gelu", 100)
        Isometry(mirrored=True, linear=True, gain=1.0, first=1.0, last=1.0, passed=1.0, ...
        >>> start = isometry("tanh", 100)
        >>> start.mirrored, start.gain, round(start.first, 4), round(start.last / start.first, 2)
        (False, 1.0, 0.005, 0.5)
        >>> isometry("sigmoid", 100).gain
        2.0
    """
    phi = resolved(function)
    slope = odd_slope(phi)
    if slope is not None:
        features = second_moment(phi, 1.0)
        return Isometry(True, True, 1 / slope, 1.0, 1.0, slope**2, features)
    mirrored = not is_odd(phi)
    psi = odd_part(phi) if mirrored else phi
    steepest = _greatest_slope_at_zero(psi)
    if steepest is None:
        return None
    gain = 1 / steepest
    first = _largest_quiet(psi, gain, depth)
    if first is None:
        return None
    last = first
    passed = _passed(psi, last)
    for _ in range(depth - 1):
        last = gain**2 * passed
        passed = _passed(psi, last)
    features = _passed(phi, last) if mirrored else passed
    return Isometry(mirrored, False, gain, first, last, passed, features)


def odd_part(function: Function) -> Function:
    """ψ(x) = φ(x) − φ(−x), what a pair of opposite units passes on."""

    def psi(x: torch.Tensor) -> torch.Tensor:
        return function(x) - function(-x)

    return psi


def _greatest_slope_at_zero(psi: Function) -> float | None:
    """ψ′(0), if the odd function ψ has one and never rises above that line."""
    h = torch.tensor([1e-6, 1e-4], dtype=torch.float64)
    x = torch.linspace(0.01, 8.0, 800, dtype=torch.float64)
    with torch.no_grad():
        near, far = (psi(h).double() / h).tolist()
        steepness = float((psi(x).double() / x).max())
    # 1e-3: the same slope at two scales, to what double precision leaves of a difference of 1e-6.
    if not near > 1e-6 or abs(near - far) > 1e-3 * near or steepness > near * (1 + 1e-3):
        return None
    return round(float(near), 6)


def _passed(psi: Function, q: float) -> float:
    """E[ψ(√q z)²]."""
    return float(WEIGHTS @ np.square(on_nodes(psi, 0.0, math.sqrt(q))))


def _largest_quiet(psi: Function, gain: float, depth: int) -> float | None:
    """The largest q ≤ 1 of which one layer changes signal and gradient by ≤ 1/depth nats."""
    if _change(psi, gain, 1.0) * depth <= MOST_CHANGE:
        return 1.0
    low, high = math.log(SMALLEST), 0.0
    if _change(psi, gain, SMALLEST) * depth > MOST_CHANGE:
        return None
    for _ in range(30):  # to 2e-8 of ln q
        middle = (low + high) / 2
        quiet = _change(psi, gain, math.exp(middle)) * depth <= MOST_CHANGE
        low, high = (middle, high) if quiet else (low, middle)
    return math.exp(low)


def _change(psi: Function, gain: float, q: float) -> float:
    """Nats by which one layer changes q or the gradient's second moment."""
    kept = gain**2 * _passed(psi, q) / q
    slopes = gain**2 * float(WEIGHTS @ np.square(slopes_on_nodes(psi, 0.0, math.sqrt(q))))
    if not (kept > 0 and slopes > 0):
        return math.inf
    return max(abs(math.log(kept)), abs(math.log(slopes)))
