"""The backward walk: second moments of the loss's gradient, from the outputs to the inputs.

The gradient of a tensor is kept as a sum over *sources*: gradients whose signs have nothing to do
with each other.  What reaches a tensor from one source by several ways (directly and through
x·σ(x), or through a view) adds up coherently; what comes from different sources adds in squares.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod

import numpy as np

from fanin.graph.graph import Graph, Operation
from fanin.propagation.call import Call, CallParts
from fanin.propagation.carrying import Carried, alike
from fanin.propagation.cotangent import Seed
from fanin.propagation.families.pointwise import pointwise_backward
from fanin.propagation.nearness import NONE, Near, kept, mixed
from fanin.propagation.nearness_kept import MOVING, of_products
from fanin.propagation.nothing import back_past_nothing, is_empty, reads_nothing
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.quadrature import Array, expectation, pair_moments
from fanin.propagation.radial import radial_power
from fanin.propagation.registry import Pass, backward_rule, forward_rule
from fanin.propagation.sample_paths import on_path, path_backward
from fanin.propagation.sampling import marginal_powers, moments_under, sample_backward
from fanin.propagation.state import State

MOST_SOURCES = 32
"""More sources than this are joined into one: long residual streams collect one per branch."""


@dataclass
class _Component:
    pairs: Array
    slope: float | Array = 1.0
    piece: float = 1.0
    profile: Profile = None
    near: Near = field(default_factory=dict)
    """Which places are alike."""
    opposite: bool = False
    """The units of a mirrored pair, z and −z, receive b·φ′(z) and −b·φ′(−z) with one b."""


Gradient = dict[Hashable, _Component]
Sent = dict[tuple[int, int], float]
"""Power of the gradient that an operation (by index) sends to a tensor that it reads."""
_SAMPLES = "along samples"
"""The source of what came along samples."""
_UNSETTLED = _Component(np.zeros(()))
"""Stands for it until all of it has come."""


def total_pairs(
    gradient: Gradient, state: State, *, pieces: bool = False, mirrored: bool = False
) -> Array:
    """Pair moments of a tensor's gradient, all sources together.

    With ``pieces`` each is weighted by the power of the matrix stretch that it is about to meet;
    with ``mirrored`` they are those of the differences of opposite units over √2, which is what a
    mirrored matrix mixes.
    """
    total = np.zeros_like(state.pairs)
    for component in gradient.values():
        total = total + component.pairs * _slope_moments(component, state, pieces, mirrored)
    return total


def _slope_moments(
    component: _Component, state: State, pieces: bool = False, mirrored: bool = False
) -> Array | float:
    factor = component.piece if pieces else 1.0
    slope = component.slope
    if mirrored and component.opposite:
        slope = (slope + (slope if isinstance(slope, float) else slope[::-1])) / 2**0.5
    if isinstance(slope, float):
        return factor * slope**2
    return factor * pair_moments(slope, state.base.correlations)


def total_along(gradient: Gradient, state: State) -> Array:
    """Pair moments of g·z, all sources together: z is the base of the state, standardised.

    What an activation behind a norm sends back is u·φ′(z); where u is the same in many places, as
    behind a mean over positions, part of it lies along z.
    """
    base = state.base
    total = np.zeros_like(state.pairs)
    if base.std == 0.0:
        return total
    z = (base.values - base.mean) / base.std
    for component in gradient.values():
        moments = pair_moments(z * component.slope, base.correlations)
        total = total + component.pairs * moments
    return total


def total_near(
    gradient: Gradient, state: State, total: Array, own: Near = NONE
) -> tuple[Array, Near]:
    """Which places of a tensor's gradient are alike, all sources together.

    Args:
        gradient: of the tensor.
        state: of the tensor.
        total: its pair moments.
        own: which places of the tensor are alike: their slopes are, too.

    Returns:
        Its pair moments, neighbours counted as what they are, and R by axis.
    """
    if not any(component.near for component in gradient.values()):
        return total, NONE
    parts = ((c.pairs, _slope_moments(c, state), c.near) for c in gradient.values())
    return of_products(total, parts, state, own)


def total_by_value(gradient: Gradient) -> Array | None:
    """Root mean square of a tensor's gradient on the nodes of its base, of mean square 1.

    None where no source depends on the tensor's own value.
    """
    if all(isinstance(component.slope, float) for component in gradient.values()):
        return None
    square = np.asarray(sum(float(c.pairs.flat[0]) * np.square(c.slope) for c in gradient.values()))
    power = expectation(square)
    return np.asarray(np.sqrt(square / power)) if power > 0 else None


def total_profile(gradient: Gradient, state: State) -> Profile:
    """Profile of a tensor's gradient: those of all sources, each with its power."""
    if all(component.profile is None for component in gradient.values()):
        return None
    total: Array = np.zeros((1,) * len(state.axes))
    for component in gradient.values():
        power = float(np.ravel(component.pairs.flat[0] * _slope_moments(component, state))[0])
        total = total + power * even(component.profile, len(state.axes))
    return settled(total)[0]


def walk_backward(
    graph: Graph, states: Mapping[int, State], seeds: Mapping[int, Seed], parts: CallParts
) -> dict[int, Array]:
    """Pair moments of the gradient of every tensor that the seeds depend on.

    Args:
        graph: what ran.
        states: of every tensor, from the forward walk.
        seeds: the loss's gradient with respect to some tensors.
        parts: what forward rules left.
    """
    gradients: dict[int, Gradient] = {
        # Outputs of one shape are differentiated along one direction.
        tensor: {("seed", states[tensor].shape): _Component(seed.pairs, profile=seed.profile)}
        for tensor, seed in seeds.items()
    }
    sent: Sent = parts.sent
    parts.seeds.update({tensor: float(seed.pairs.flat[0]) for tensor, seed in seeds.items()})
    for operation in reversed(graph.operations):
        if any(out in gradients for out in operation.outputs):
            _step(Call(graph, operation, states, parts), gradients, sent)
    _settle(graph.tensors, gradients, states, parts)
    return {t: total_pairs(g, states[t]) for t, g in gradients.items() if t in states}


def _step(call: Call, gradients: dict[int, Gradient], sent: Sent) -> None:
    operation, states = call.operation, call.states
    rule = backward_rule(call.name)
    outs = [k for k, out in enumerate(operation.outputs) if out in gradients and out in states]
    _settle(operation.outputs, gradients, states, call.parts)
    if on_path(call):
        _along_samples(call, outs, gradients)
        return
    for k in outs:
        if len(gradients[operation.outputs[k]]) > MOST_SOURCES:
            _join(operation, k, gradients, states)
    passes: list[Pass] | None
    if reads_nothing(call):
        passes = back_past_nothing(call)
    elif rule is not None:
        ways = rule(call)
        passes = None if ways is None else list(ways)
    elif forward_rule(call.name) is None:
        passes = pointwise_backward(call)
    else:
        passes = None
    if passes is None:
        totals = {
            k: total_pairs(gradients[operation.outputs[k]], states[operation.outputs[k]])
            for k in outs
        }
        passes = sample_backward(call, totals)
    for number, way in enumerate(passes):
        if (operation.index, way.tensor) in call.parts.closed:
            continue
        if is_empty(call.graph, way.tensor):
            continue
        if way.output in outs and call.has_gradient(way.tensor) and way.tensor in states:
            _send(call, way, number, gradients, sent)


def _along_samples(call: Call, outs: list[int], gradients: dict[int, Gradient]) -> None:
    outside = {}
    for k in outs:
        out = call.operation.outputs[k]
        foreign = {s: c for s, c in gradients[out].items() if s != _SAMPLES}
        if foreign:
            state = call.states[out]
            outside[k] = total_pairs(foreign, state), total_profile(foreign, state)
    for tensor in path_backward(call, outside):
        gradients.setdefault(tensor, {})[_SAMPLES] = _UNSETTLED
    for out in call.operation.outputs:
        call.parts.sample_gradients.pop(out, None)


def _settle(
    tensors: Iterable[int],
    gradients: dict[int, Gradient],
    states: Mapping[int, State],
    parts: CallParts,
) -> None:
    """Measure what came along samples, once all of it has."""
    for tensor in tensors:
        held = gradients.get(tensor, {})
        if held.get(_SAMPLES) is _UNSETTLED:
            gradient = parts.sample_gradients[tensor]
            powers = marginal_powers(gradient.double().square().numpy())
            held[_SAMPLES] = _Component(moments_under(gradient, states[tensor]), profile=powers)


def _send(call: Call, way: Pass, number: int, gradients: dict[int, Gradient], sent: Sent) -> None:
    out = call.operation.outputs[way.output]
    state, target = call.states[out], call.states[way.tensor]
    coherent = way.slope is not None
    shared = state.base.key == target.base.key
    arriving: Gradient = {}
    stranger = 1.0
    if way.along_output or way.move_radial is not None:
        stranger = _along(call, out, gradients, sent)
    evenly = way.carry or partial(alike, given=state.shape, target=target.shape)

    def carry(profile: Profile, pairs: Array, near: Near) -> Carried:
        found = evenly if way.carry_near is None else way.carry_near(pairs, near)
        return found(profile)

    def moved(pairs: Array, near: Near) -> tuple[Array, Near]:
        if way.move_near is not None:
            return way.move_near(pairs, near)
        left = NONE if call.name in MOVING else kept(near, state.shape, target.shape)
        return way.move(pairs), left

    if (
        coherent
        and (shared or all(isinstance(c.slope, float) for c in gradients[out].values()))
        and (shared or isinstance(way.slope, float))
    ):
        for source, component in gradients[out].items():
            slope = component.slope * way.slope  # type: ignore[operator]
            profile, factor = carry(component.profile, component.pairs, component.near)
            pairs, near = moved(component.pairs, component.near)
            piece = component.piece
            if target.pieces is not None and state.pieces is None and profile is not None:
                piece = target.pieces.met(profile)  # behind a function that bends
            arriving[source] = _Component(
                pairs * factor, slope, piece, profile, near, component.opposite
            )
    else:
        total = total_pairs(gradients[out], state, pieces=way.through_matrix, mirrored=way.mirrored)
        own = call.parts.near.get(out, NONE)
        total, near = total_near(gradients[out], state, total, own)
        profile, factor = carry(total_profile(gradients[out], state), total, near)
        if way.move_radial is not None:
            pairs = way.move_radial(total, stranger) * factor
            near = kept(near, state.shape, target.shape)
        elif way.move_along is None:
            pairs, near = moved(total, near)
            pairs = pairs * (factor * stranger)
        else:
            pairs = way.move_along(total, total_along(gradients[out], state)) * factor
            near = kept(near, state.shape, target.shape)
        if isinstance(way.slope, float):
            pairs = pairs * way.slope**2
        # A coherent way keeps one source for all inputs, so that their sum stays coherent.
        source = (call.operation.index, way.output, "all" if coherent else number)
        values = way.profile
        if way.by_value is not None:
            values = way.by_value(total_by_value(gradients[out]))
        slope = 1.0 if values is None else values
        opposite = way.mirrored and target.mirrored
        arriving[source] = _Component(pairs, slope, way.piece, profile, near, opposite)
    place = call.operation.index, way.tensor
    sent[place] = sent.get(place, 0.0) + sum(map(_power, arriving.values()))
    held = gradients.setdefault(way.tensor, {})
    for source, component in arriving.items():
        if source in held and _alike(held[source], component):
            held[source] = _together(held[source], component)
        elif source in held:
            held[source, number] = component
        else:
            held[source] = component


def _together(one: _Component, two: _Component) -> _Component:
    """The sum of two gradients from one source that stand at the same places."""
    profile = one.profile
    if one.profile is not None and two.profile is not None and one.profile is not two.profile:
        mine, its = _power(one), _power(two)
        whole = mine + its
        if whole > 0:
            profile, _ = settled((mine * one.profile + its * two.profile) / whole)
    near = one.near
    if (one.near or two.near) and one.near is not two.near:
        near = mixed((_power(c), c.near) for c in (one, two))
    return replace(one, slope=one.slope + two.slope, profile=profile, near=near)


def _power(component: _Component) -> float:
    slope = component.slope
    square = slope**2 if isinstance(slope, float) else expectation(slope**2)
    return float(component.pairs.flat[0]) * square


def _along(call: Call, out: int, gradients: Mapping[int, Gradient], sent: Sent) -> float:
    """E[(Σ g·y)²] of an output over that of a gradient that knows nothing of y."""
    states = call.states

    def power_of(tensor: int, reader: Operation | None = None) -> float | None:
        held = gradients.get(tensor)
        if held is None:
            return None
        if reader is not None:
            return sent.get((reader.index, tensor), 0.0)
        return float(total_pairs(held, states[tensor]).flat[0])

    own = prod(states[out].shape) * states[out].second_moment * (power_of(out) or 0.0)
    if own == 0.0:
        return 1.0
    found = radial_power(call.graph, states, call.parts, out, power_of)
    return 1.0 if found is None else found / own


_TOGETHER = 0.9
"""Cosine of the amplitudes of two gradients, place by place, from which on they stand together: the
product of both is then off by a tenth at most."""


def _alike(one: _Component, two: _Component) -> bool:
    """Whether two gradients from one source stand at the same places."""
    if one.pairs.shape != two.pairs.shape:
        return False
    if one.profile is None or two.profile is None:
        return one.profile is two.profile
    if one.profile.ndim != two.profile.ndim:
        return False
    return bool(np.sqrt(one.profile * two.profile).mean() >= _TOGETHER)


def _join(
    operation: Operation, k: int, gradients: dict[int, Gradient], states: Mapping[int, State]
) -> None:
    out = operation.outputs[k]
    pairs = total_pairs(gradients[out], states[out])
    profile = total_profile(gradients[out], states[out])
    pairs, near = total_near(gradients[out], states[out], pairs)
    gradients[out] = {("joined", out): _Component(pairs, profile=profile, near=near)}
