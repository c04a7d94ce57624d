"""The way back through a norm that is written out by hand, as a whole."""

import numpy as np

from fanin.propagation.algebra import aligned, centred_pairs, positions_of
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry, unchanged, weighted
from fanin.propagation.few import rows_apart, varies
from fanin.propagation.layout import fit
from fanin.propagation.norm_power import NormPower
from fanin.propagation.own_direction import without_own_direction
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.quadrature import Array, expectation
from fanin.propagation.registry import Pass
from fanin.propagation.state import State, function_of
from fanin.propagation.written_norms import WrittenNorm

_LEAST = 1e-6
"""ε over the mean square: beside it ε is nothing, without it a single number has no inverse."""


def passes_of_written_norm(call: Call, found: WrittenNorm, own: list[Pass]) -> list[Pass]:
    """To the source as behind a norm, to the divisor s/r, to what lies between as it was.

    y = c u with a direction u that does not know its length r, and so is Σ g u = s: the divisor
    receives ∓ c s/r, and its inverse powers multiply that same 1/r.

    Args:
        call: the product or quotient that ends the norm.
        found: which norm it is.
        own: passes of the product or quotient alone.
    """
    whole = [_to_normalised(call, found, found.source, centre=found.centre)]
    closed = {found.source}
    if found.squared == found.numbers != found.source:
        whole.append(_to_normalised(call, found, found.numbers, centre=False))
        closed.add(found.numbers)
    call.parts.closed.update((k, tensor) for k in found.inside for tensor in closed)
    kept = [p for p in own if p.tensor not in closed | {found.divisor}]
    return [*kept, _to_divisor(call, found), *whole]


def _to_divisor(call: Call, found: WrittenNorm) -> Pass:
    made, divisor = call.made(), call.states[found.divisor]
    from fanin.propagation.factors import mover

    inverse = function_of(divisor, 1 / np.maximum(divisor.values, 1e-12))
    under = aligned(made, inverse)[1]
    to = mover(made.axes, divisor.axes)
    # Places do not matter: each row's sum is a number of its own.
    shape = np.asarray(inverse.values / expectation(inverse.values**2) ** 0.5)
    return Pass(
        found.divisor,
        lambda pairs: to(pairs * made.pairs * under.pairs),
        profile=shape,
        carry=weighted(under.profile, made.shape, divisor.shape),
        along_output=True,
    )


def _to_normalised(call: Call, found: WrittenNorm, tensor: int, *, centre: bool) -> Pass:
    made, source = call.made(), call.states[tensor]
    divided = power_divided_by(call, found)
    numbers = source.pairs
    if centre:
        numbers = centred_pairs(source.pairs, source.axes, found.dims)
    inside = positions_of(source.axes, found.dims)
    count = float(np.prod([source.shape[d] for d in found.dims]))

    def move(pairs: Array, along: float) -> Array:
        left = fit(pairs * made.second_moment, made.axes, source.axes)
        left = centred_pairs(left, source.axes, found.dims) if centre else left
        own = along * made.second_moment * float(pairs.flat[0]) / count
        return without_own_direction(left, numbers, own, source.axes, inside, divided)

    carry = _by_own_power(source, found)
    return Pass(tensor, lambda pairs: move(pairs, 1.0), move_radial=move, carry=carry)


def power_divided_by(call: Call, found: WrittenNorm) -> NormPower:
    """The random power under the root."""
    source = call.states[found.source]
    pairs = source.pairs
    if found.centre:
        pairs = centred_pairs(pairs, source.axes, found.dims)
    power = max(float(pairs.flat[0]), 0.0)
    spread, rows = found.spread, 0.0
    if found.dims == (len(source.axes) - 1,):
        spread, rows = rows_apart(varies(call, found.source, spread, 12), spread)
    return NormPower(power, _LEAST * power, min(spread, 2.0), rows)


def _by_own_power(source: State, found: WrittenNorm) -> Carry:
    if source.profile is None:
        return unchanged
    inverse = 1 / np.maximum(source.profile.mean(axis=found.dims, keepdims=True), _LEAST)

    def carry(profile: Profile) -> Carried:
        return settled(even(profile, len(source.shape)) * inverse)

    return carry
