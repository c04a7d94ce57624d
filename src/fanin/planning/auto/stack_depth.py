"""When a plain stack is deep, and which weights then carry a signal through it.

The limits were set from theory and on scikit-learn's digits (widths 64, 128 and 256, 4 to 20
layers, 80 steps of SGD at the best of four rates): up to 6 layers of ReLU, GELU or tanh the usual
rule is as good as an isometric start (within 1.5 points); at 8 it is worse by up to 3 points and
at 20 by 2 to 40.  Sigmoid stops learning at 3 layers, softplus at 8.
"""

import math
from functools import lru_cache

from fanin.errors import FaninError
from fanin.graph.role import Activation
from fanin.planning.auto.gain import SATURATING
from fanin.planning.subject import Subject
from fanin.propagation import stability
from fanin.propagation.isometry import Isometry, isometry
from fanin.propagation.stability import StackPoint

MOST_INSTABILITY = 1.0
"""Nats by which the gradient, an error of q or chance may change a signal over the whole stack."""

LEAST_DIFFERENCE = 0.2
"""What 1 − c may shrink to, from two samples with c = 0 at the inputs: He-ReLU's 7 layers."""

LEAST_LAYERS = 2
"""One layer between data and head is no stack."""

SECOND_MOMENTS = tuple(10 ** (k / 10 - 1) for k in range(21))
"""0.1 … 10: where fixed points are looked for; beyond, a unit is linear or saturated."""

Start = Isometry | StackPoint | None
Parameters = tuple[tuple[str, float], ...]


def troubles_of(run: list[Subject], activation: Activation) -> tuple[str, ...]:
    """What goes wrong over these layers with the gain that keeps the second moment."""
    depth, name = len(run), activation.name
    # sin(ω x) is the author's choice of frequencies, not a signal to be kept small.
    if depth < LEAST_LAYERS or name == "sin":
        return ()
    try:
        point, alike = _usual(name, _parameters(activation), depth)
    except FaninError:
        return ()  # an activation without a known function: the usual rules say so
    found = []
    if point.instability(depth) > MOST_INSTABILITY:
        found.append(
            f"{depth} layers of {name} at the usual gain change gradients by χ1 = "
            f"{point.chi1:.3g} and errors by Q′ = {point.variance_slope:.3g} each"
        )
    narrowest = min(s.fans.fan_in for s in run[1:])
    spread = math.sqrt(5 * depth / narrowest)
    if spread > MOST_INSTABILITY:
        found.append(f"chance spreads ln q by √(5L/n) = {spread:.2g} at fan-in {narrowest:g}")
    if alike < LEAST_DIFFERENCE:
        found.append(f"independent samples end with 1 − cosine = {alike:.2g}")
    return tuple(found)


def start_of(activation: Activation, depth: int, *, paired: bool = True) -> Start:
    """Which weights carry a signal through this many layers; None where no known ones do.

    Args:
        activation: what stands behind each layer.
        depth: number of layers.
        paired: whether units can stand in opposite pairs.
    """
    return _start(activation.name, _parameters(activation), depth, paired)


def _parameters(activation: Activation) -> Parameters:
    return tuple(sorted(activation.parameters.items()))


@lru_cache(maxsize=64)
def _usual(name: str, parameters: Parameters, depth: int) -> tuple[StackPoint, float]:
    """The stack at unit second moment, and 1 − c behind it from c = 0."""
    function = stability.resolved(name, dict(parameters))
    correlation = 0.0
    for _ in range(depth):
        correlation = stability.correlation_map(function, min(correlation, 1.0))
    return stability.at_second_moment(function), 1 - correlation


@lru_cache(maxsize=64)
def _start(name: str, parameters: Parameters, depth: int, paired: bool) -> Start:
    function = stability.resolved(name, dict(parameters))
    found = isometry(function, depth)
    if found is not None and (paired or not found.mirrored):
        return found
    if found is not None and found.linear:
        return None  # as stable at every gain: the usual rule is as good as any
    points = [stability.at_second_moment(function, q) for q in SECOND_MOMENTS]
    point = min(points, key=lambda p: p.instability(depth))
    # Flat ends make a stack look stable at large q: all its units are then saturated.
    if point.instability(depth) <= MOST_INSTABILITY and name not in SATURATING:
        return point
    return None
