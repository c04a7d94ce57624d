"""Deep plain stacks, where keeping the second moment is not enough.

Without a norm or a skip, an error in the second moment q grows by Q′(q) per layer, the gradient by
χ1, samples grow alike, and chance alone spreads ln q by √(5L/n).  A stack is deep when one of them
shows over its L layers; it then gets weights that carry signals exactly: mirrored orthogonal where
φ(x) − φ(−x) = c·x, orthogonal for odd functions, else the gain of the stablest fixed point.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from fanin.errors import FaninError
from fanin.graph.role import Activation, Role
from fanin.planning.auto.gain import LINEAR, SATURATING, name_of
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject, once_per_model
from fanin.propagation import stability
from fanin.schemes import DeltaOrthogonal, Mirrored, Orthogonal, VarianceScaling
from fanin.schemes.scheme import Scheme

MOST_INSTABILITY = 1.0
"""Nats by which the gradient, an error of q or chance may change a signal over the whole stack."""

SECOND_MOMENTS = tuple(10 ** (k / 10 - 1) for k in range(21))
"""0.1 … 10: where fixed points are looked for; beyond, a unit is linear or saturated."""

LEAST_DIFFERENCE = 0.1
"""What 1 − c may shrink to, from two samples with c = 0 at the inputs."""


@dataclass(frozen=True)
class PlainStack:
    """The longest run of layers with one activation and neither norm nor skip.

    Args:
        weights: names, in order of running.
        activation: what stands behind each.
        troubles: what makes it deep, each with its number; empty for a shallow stack.
        even: every width within it can be halved, and no convolution has groups.
    """

    weights: tuple[str, ...]
    activation: Activation
    troubles: tuple[str, ...]
    even: bool


def in_deep_stack(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """The decision for a weight of a deep plain stack; None where the usual rules serve."""
    stack = plain_stack(circumstances)
    if stack is None or not stack.troubles or subject.name not in stack.weights:
        return None
    name, depth = stack.activation.name, len(stack.weights)
    start = _start(name, tuple(sorted(stack.activation.parameters.items())), depth)
    evidence = (*stack.troubles, *start.evidence, *subject.role.evidence)
    if start.kind == "mirrored" and stack.even:
        # What comes in is data, not pairs: the first layer makes the pairs.
        first = subject.name == stack.weights[0]
        gain = start.gain * _widening(subject, columns_halved=not first)
        scheme: Scheme = Mirrored(gain=gain, mirror="outputs" if first else "both")
        return Decision(scheme, f"{depth} plain {name} layers: mirrored orthogonal", evidence)
    if start.kind == "orthogonal":
        gain = start.gain * _widening(subject)
        whole = subject.axes.receptive and subject.axes.groups == 1
        widens = subject.fans.fan_out >= subject.fans.fan_in
        scheme = DeltaOrthogonal(gain=gain) if whole and widens else Orthogonal(gain=gain)
        return Decision(scheme, f"{depth} plain {name} layers: orthogonal", evidence)
    if start.kind == "stable gain":
        # The first layer brings data of second moment 1 to the fixed point; the others stay there.
        scale = start.q if subject.name == stack.weights[0] else start.gain**2
        reason = f"{depth} plain {name} layers: the gain of the stablest fixed point"
        return Decision(VarianceScaling(scale=scale), reason, evidence)
    return None


def advice(circumstances: Circumstances) -> tuple[str, ...]:
    """What weights alone cannot do for the model's deepest plain stack."""
    stack = plain_stack(circumstances)
    if stack is None or not stack.troubles:
        return ()
    name, depth = stack.activation.name, len(stack.weights)
    start = _start(name, tuple(sorted(stack.activation.parameters.items())), depth)
    why = "; ".join(stack.troubles)
    if start.kind == "none":
        return (
            f"{depth} plain {name} layers need a norm or a skip: no known weights carry a signal "
            f"through them ({why}).",
        )
    if start.kind == "mirrored" and not stack.even:
        return (
            f"{depth} plain {name} layers: even widths without groups would allow mirrored "
            f"orthogonal weights, which carry signals through any depth ({why}).",
        )
    return (f"{depth} plain {name} layers: the learning rate that trains falls with depth.",)


@once_per_model
def plain_stack(circumstances: Circumstances) -> PlainStack | None:
    """The longest plain stack of the model; None where the model is no chain of layers."""
    chain = _chain(circumstances)
    runs: list[list[Subject]] = []
    for subject in chain:
        plain = subject.role.role is Role.WEIGHT and not subject.role.norm_after
        activation = subject.role.activation
        if not plain or activation is None or name_of(activation) in LINEAR:
            runs.append([])
        elif runs and runs[-1] and runs[-1][-1].role.activation == activation:
            runs[-1].append(subject)
        else:
            runs.append([subject])
    run = max(runs, key=len, default=[])
    if not run:
        return None
    activation = run[0].role.activation
    assert activation is not None
    inner = [int(_channels(s)[0]) for s in run] + [int(_channels(s)[1]) for s in run[1:]]
    even = all(n % 2 == 0 for n in inner) and all(s.axes.groups == 1 for s in run)
    return PlainStack(tuple(s.name for s in run), activation, _troubles(run, activation), even)


def _chain(circumstances: Circumstances) -> list[Subject]:
    """Weights in order of running; empty unless each depth has one, without residual branches."""
    weights = sorted(
        (s for s in circumstances if s.is_layer_weight or s.is_table), key=lambda s: s.role.depth
    )
    depths = [s.role.depth for s in weights]
    if circumstances.residual_branches or len(set(depths)) != len(depths):
        return []
    plain = {Role.WEIGHT, Role.HEAD}
    return weights if all(s.role.role in plain for s in weights) else []


def _channels(subject: Subject) -> tuple[int, int]:
    """Outputs and inputs, receptive field aside."""
    taps = math.prod(subject.shape[a] for a in subject.axes.receptive)
    outputs = math.prod(subject.shape[a] for a in subject.axes.outputs)
    return outputs, subject.count // max(outputs * taps, 1)


def _widening(subject: Subject, *, columns_halved: bool = True) -> float:
    """√(rows / columns) of Q where it widens: columns of unit length would dilute the signal."""
    outputs, inputs = _channels(subject)
    ratio = outputs / inputs if columns_halved else outputs / (2 * inputs)
    return math.sqrt(max(ratio, 1.0))


def _troubles(run: list[Subject], activation: Activation) -> tuple[str, ...]:
    """What goes wrong over these layers with the gain that keeps the second moment."""
    depth, name = len(run), activation.name
    try:
        point, alike = _usual(name, tuple(sorted(activation.parameters.items())), depth)
    except FaninError:
        return ()  # an activation without a known function: the usual rules say so
    found = []
    if point.instability(depth) > MOST_INSTABILITY:
        found.append(
            f"{depth} layers of {name} at the usual gain change gradients by χ1 = "
            f"{point.chi1:.3g} and errors by Q′ = {point.variance_slope:.3g} each"
        )
    narrowest = min(s.fans.fan_in for s in run[1:]) if depth > 1 else run[0].fans.fan_in
    spread = math.sqrt(5 * depth / narrowest)
    if spread > MOST_INSTABILITY:
        found.append(f"chance spreads ln q by √(5L/n) = {spread:.2g} at fan-in {narrowest:g}")
    if alike < LEAST_DIFFERENCE:
        found.append(f"independent samples end with 1 − cosine = {alike:.2g}")
    return tuple(found)


@lru_cache(maxsize=64)
def _usual(
    name: str, parameters: tuple[tuple[str, float], ...], depth: int
) -> tuple[stability.StackPoint, float]:
    """The stack at unit second moment, and 1 − c behind it from c = 0."""
    function = stability.resolved(name, dict(parameters))
    correlation = 0.0
    for _ in range(depth):
        correlation = stability.correlation_map(function, min(correlation, 1.0))
    return stability.at_second_moment(function), 1 - correlation


@dataclass(frozen=True)
class _Start:
    kind: str
    gain: float
    evidence: tuple[str, ...]
    q: float = 1.0


@lru_cache(maxsize=64)
def _start(name: str, parameters: tuple[tuple[str, float], ...], depth: int) -> _Start:
    """Which weights carry a signal through this many layers of an activation."""
    function = stability.resolved(name, dict(parameters))
    slope = stability.odd_slope(function)
    if slope is not None:
        fact = f"{name}(x) − {name}(−x) = {slope:g}·x: opposite units pass signals on unchanged"
        return _Start("mirrored", 1 / slope, (fact,))
    gain = stability.orthogonal_gain(function)
    if gain is not None and stability.is_odd(function):
        return _Start("orthogonal", gain, (f"{name} is odd with slope {1 / gain:g} at 0",))
    points = [stability.at_second_moment(function, q) for q in SECOND_MOMENTS]
    point = min(points, key=lambda p: p.instability(depth))
    fact = f"stablest fixed point: gain {point.gain:.4g}, q = {point.q:.3g}, χ1 = {point.chi1:.4g}"
    # Flat ends make a stack look stable at large q: all its units are then saturated.
    if point.instability(depth) <= MOST_INSTABILITY and name not in SATURATING:
        return _Start("stable gain", point.gain, (fact,), point.q)
    return _Start("none", 0.0, (fact,))
