"""What an operation sends of its output's gradient to a tensor that it reads, by one way.

A coherent way multiplies each component by a function of the tensor and keeps its source, so that
several ways from one source add up before they are squared.  Any other way, as through a random
matrix, makes one component with a source of its own out of all.
"""

from collections.abc import Mapping
from math import prod

from fanin.graph.graph import Operation
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, alike
from fanin.propagation.components import (
    Component,
    Gradient,
    receive,
    total_along,
    total_by_value,
    total_near,
    total_pairs,
    total_profile,
)
from fanin.propagation.nearness import NONE, Near, kept
from fanin.propagation.nearness_kept import MOVING
from fanin.propagation.norm_settings import ROW_NORMS
from fanin.propagation.profile import Profile
from fanin.propagation.quadrature import Array
from fanin.propagation.radial import radial_power
from fanin.propagation.registry import Pass
from fanin.propagation.row_strength import behind_norm, keeps_rows, mixed

Sent = dict[tuple[int, int], float]
"""Power of the gradient that an operation (by index) sends to a tensor that it reads."""


def send(call: Call, way: Pass, number: int, gradients: dict[int, Gradient], sent: Sent) -> None:
    """Send the gradient of one output to one input.

    Args:
        call: the operation.
        way: from the output to the input.
        number: of the way among those of this operation.
        gradients: by tensor; the input's is added to in place.
        sent: the power that was sent so far, added to in place.
    """
    gradient = gradients[call.operation.outputs[way.output]]
    stranger = 1.0
    if way.along_output or way.move_radial is not None:
        stranger = _along(call, way, gradients, sent)
    if _stays_coherent(call, way, gradient):
        arriving = _coherent(call, way, gradient)
    else:
        arriving = _of_its_own(call, way, number, gradient, stranger)
    place = call.operation.index, way.tensor
    sent[place] = sent.get(place, 0.0) + sum(c.power for c in arriving.values())
    receive(gradients.setdefault(way.tensor, {}), arriving, number)


def _stays_coherent(call: Call, way: Pass, gradient: Gradient) -> bool:
    """Whether slopes of the output and of the way can be multiplied: on one base, or numbers."""
    if way.slope is None:
        return False
    state, target = call.states[call.operation.outputs[way.output]], call.states[way.tensor]
    if state.base.key == target.base.key:
        return True
    slopes = (way.slope, *(c.slope for c in gradient.values()))
    return all(isinstance(slope, float) for slope in slopes)


def _coherent(call: Call, way: Pass, gradient: Gradient) -> Gradient:
    """Each component times the way's slope, under its own source."""
    state, target = call.states[call.operation.outputs[way.output]], call.states[way.tensor]
    arriving: Gradient = {}
    keeps = keeps_rows(call, way.tensor)
    for source, component in gradient.items():
        slope = component.slope * way.slope  # type: ignore[operator]
        profile, factor = _carried(call, way, component.profile, component.pairs, component.near)
        pairs, near = _moved(call, way, component.pairs, component.near)
        piece = component.piece
        if target.pieces is not None and state.pieces is None and profile is not None:
            piece = target.pieces.met(profile)  # behind a function that bends
        strength = component.strength if keeps else None
        arriving[source] = Component(
            pairs * factor, slope, piece, profile, near, component.opposite, strength
        )
    return arriving


def _of_its_own(
    call: Call, way: Pass, number: int, gradient: Gradient, stranger: float
) -> Gradient:
    """All components together, with a sign of their own.

    Args:
        call: the operation.
        way: from the output to the input.
        number: of the way among those of this operation.
        gradient: of the output.
        stranger: how much more the gradient lies along the output than a stranger's would.
    """
    out = call.operation.outputs[way.output]
    state, target = call.states[out], call.states[way.tensor]
    total = total_pairs(gradient, state, pieces=way.through_matrix, mirrored=way.mirrored)
    total, near = total_near(gradient, state, total, call.parts.near.get(out, NONE))
    profile, factor = _carried(call, way, total_profile(gradient, state), total, near)
    if way.move_radial is not None:
        pairs = way.move_radial(total, stranger) * factor
        near = kept(near, state.shape, target.shape)
    elif way.move_placed is not None:
        pairs, profile = way.move_placed(total, total_profile(gradient, state))
        near = NONE
    elif way.move_along is not None:
        pairs = way.move_along(total, total_along(gradient, state)) * factor
        near = kept(near, state.shape, target.shape)
    else:
        pairs, near = _moved(call, way, total, near)
        pairs = pairs * (factor * stranger)
    if isinstance(way.slope, float):
        pairs = pairs * way.slope**2
    values = way.profile
    if way.by_value is not None:
        values = way.by_value(total_by_value(gradient))
    strength = None
    if any(c.strength is not None for c in gradient.values()) and keeps_rows(call, way.tensor):
        strength = mixed((c.power, c.strength) for c in gradient.values())
    if _divides_rows(call, way):
        factor, strength, profile = behind_norm(call, way.tensor, strength, profile)
        pairs = pairs * factor
    # A coherent way keeps one source for all inputs, so that their sum stays coherent.
    source = (call.operation.index, way.output, number if way.slope is None else "all")
    slope = 1.0 if values is None else values
    opposite = way.mirrored and target.mirrored
    return {source: Component(pairs, slope, way.piece, profile, near, opposite, strength)}


def _divides_rows(call: Call, way: Pass) -> bool:
    """Whether the way goes to what a norm divides by its own power, row by row."""
    if call.name in ROW_NORMS:
        return way.tensor == call.tensor(0) and len(call.raw(1)) == 1
    return way.move_radial is not None


def _carried(call: Call, way: Pass, profile: Profile, pairs: Array, near: Near) -> Carried:
    """Profile of the input's gradient, and the factor by which an even one would differ."""
    if way.carry_near is not None:
        return way.carry_near(pairs, near)(profile)
    if way.carry is not None:
        return way.carry(profile)
    state, target = call.states[call.operation.outputs[way.output]], call.states[way.tensor]
    return alike(profile, given=state.shape, target=target.shape)


def _moved(call: Call, way: Pass, pairs: Array, near: Near) -> tuple[Array, Near]:
    """Pair moments of the input's gradient, and which of its places are alike."""
    if way.move_near is not None:
        return way.move_near(pairs, near)
    state, target = call.states[call.operation.outputs[way.output]], call.states[way.tensor]
    left = NONE if call.name in MOVING else kept(near, state.shape, target.shape)
    return way.move(pairs), left


def _along(call: Call, way: Pass, gradients: Mapping[int, Gradient], sent: Sent) -> float:
    """E[(Σ g·y)²] of an output over that of a gradient that knows nothing of y."""
    states, out = call.states, call.operation.outputs[way.output]

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
