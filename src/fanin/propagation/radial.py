"""The gradient along the tensor itself: Σ g·y, which the statistics of a norm receive.

A norm written out by hand divides x by a number r that it took from x.  The gradient of r sums
g·y over the features, and g is no stranger to y: by the chain rule the sum is the derivative of
the loss when y is stretched.  Stretching is followed forward.  It passes fresh matrices as it is
(Euler), becomes φ′(h)·h in an activation, adds up over the factors of a gate, joins the residual
stream, and ends where gradients are strangers: behind the next norm, which takes off what only
makes its input longer, at attention's logits and at the output.  There squares add.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Protocol

from fanin.graph.graph import Graph, Operation
from fanin.propagation.beside_attention import beside_attention, keys_of_values
from fanin.propagation.call import Call, CallParts
from fanin.propagation.families.attention import FUSED
from fanin.propagation.state import State
from fanin.propagation.stretch import Stretch, whole_times
from fanin.propagation.stretching import STATISTICS, Ended, through


class PowerOf(Protocol):
    """See ``radial_power``."""

    def __call__(self, tensor: int, reader: Operation | None = None) -> float | None:
        """Second moment of a tensor's gradient."""


FURTHEST = 2000
"""Operations looked at before the rest is taken for unrelated."""


def radial_power(
    graph: Graph,
    states: Mapping[int, State],
    parts: CallParts,
    site: int,
    power_of: PowerOf,
) -> float | None:
    """E[(Σ g·y)²] summed over the whole tensor ``site``; None where it cannot be said.

    Args:
        graph: what ran.
        states: of every tensor.
        parts: what forward rules left.
        site: y.
        power_of: second moment of the gradient of a tensor, or of what one of its readers sends;
            None where there is none.
    """
    stretched = {site: whole_times(states[site], 1.0)}
    total, looked = 0.0, 0
    for operation in _after(graph, site):
        touched = [t for t in dict.fromkeys(operation.inputs) if t in stretched]
        if not touched:
            continue
        looked += 1
        if looked > FURTHEST:
            return None
        call = Call(graph, operation, states, parts)
        try:
            found, ending = through(call, stretched), _logits_of(call, touched)
        except Ended:
            found, ending = {}, touched
        if _normed(call, stretched):
            # Behind a norm the change is turned away from the tensor: no more to follow.
            for out, stretch in found.items():
                total += prod(states[out].shape) * (power_of(out) or 0.0) * stretch.square
            found = {out: stretch for out, stretch in found.items() if stretch.statistic}
        stretched.update({t: s for t, s in found.items() if s.square > 0 or s.statistic})
        total += _keys_with_values(call, stretched, power_of)
        for tensor in ending:
            several = any(r is not operation for r in graph.consumers.get(tensor, ()))
            gradient = power_of(tensor, operation if several else None)
            stretch = stretched[tensor]
            if gradient is None or stretch.square == 0.0:
                continue
            factor = beside_attention(call, tensor, stretched)
            total += prod(states[tensor].shape) * gradient * stretch.square * factor
    # What the loss reads of a tensor itself ends the trail too.
    for tensor, stretch in stretched.items():
        total += prod(states[tensor].shape) * parts.seeds.get(tensor, 0.0) * stretch.square
    return total


def _after(graph: Graph, site: int) -> Iterator[Operation]:
    maker = graph.producer.get(site)
    start = -1 if maker is None else maker.index
    return (operation for operation in graph.operations if operation.index > start)


def _logits_of(call: Call, touched: list[int]) -> list[int]:
    """Queries and keys of an attention that runs whole: the trail ends there, and goes on in v."""
    return [t for t in touched if t != call.tensor(2)] if call.name in FUSED else []


def _keys_with_values(call: Call, stretched: Mapping[int, Stretch], power_of: PowerOf) -> float:
    """What keys and values read from one token receive together: large logits, large shares."""
    found = keys_of_values(call)
    if found is None:
        return 0.0
    key, value = (stretched.get(t) for t in found[:2])
    if key is None or value is None or key.degree is None or value.degree is None:
        return 0.0
    state = call.states[found[1]]
    own = prod(state.shape) * (power_of(found[1]) or 0.0) * state.second_moment
    return 2 * key.degree * value.degree * own * found[2]


def _normed(call: Call, stretched: Mapping[int, Stretch]) -> bool:
    """Whether the operation divides by a statistic of its input."""
    if call.name in STATISTICS:
        return True
    inputs = [t for t in call.operation.inputs if t in stretched]
    return call.name in ("mul", "div") and any(stretched[t].statistic for t in inputs)
