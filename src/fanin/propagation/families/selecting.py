"""One place of an axis: a class token, the last step; and the sum of two such places."""

import numpy as np

from fanin.graph.graph import Ref
from fanin.propagation.call import Call
from fanin.propagation.carrying import placed, restored
from fanin.propagation.families.slices import (
    axis_of,
    into,
    part_of,
    piece_factor,
    sliced,
    start_of,
    without_axis,
)
from fanin.propagation.layout import atom_range, fit, shape_of
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State


@forward("select", "select_copy")
def select(call: Call) -> State:
    """One index of one axis."""
    dim = axis_of(call, call.raw(1, "dim"))
    index = start_of(call, dim)
    return without_axis(sliced(call.state(0), dim, 1, ("select", dim, index), index), dim)


@backward("select", "select_copy")
def select_backward(call: Call) -> list[Pass]:
    """0 at the other indices."""
    dim = axis_of(call, call.raw(1, "dim"))
    made, target = call.made().axes, call.state(0).axes
    kept = (*made[:dim], (), *made[dim:])
    piece = piece_factor(call.state(0), dim, start_of(call, dim), 1)
    carry = restored(dim, placed(shape_of(kept), shape_of(target), dim, start_of(call, dim)))
    sign, n = _added_to(call, dim), call.state(0).shape[dim]
    if sign == 0 or n == 1:
        return into(call, lambda pairs: part_of(pairs, kept, target, dim), piece, carry)
    joined = (*target[:dim], (n,), *target[dim + 1 :])
    position = atom_range(joined, dim).start

    def move(pairs: Array) -> Array:
        found = part_of(pairs, kept, joined, dim)
        same, differ = np.take(found, 0, position), np.take(found, 1, position)
        # Of n (n − 1) pairs of places two receive one gradient; half of them are counted here.
        return fit(np.stack([same, differ + sign * same / (n - 1)], axis=position), joined, target)

    return into(call, move, piece, carry)


def _added_to(call: Call, dim: int) -> int:
    """1 where it is added to another place of the same tensor, −1 for a difference; 0 elsewhere.

    Both places then receive one gradient.
    """
    graph, tensor = call.graph, call.operation.outputs[0]
    readers = graph.consumers.get(tensor, ())
    if len(readers) != 1 or readers[0].name not in ("add", "sub") or "alpha" in readers[0].kwargs:
        return 0
    others = [a.tensor for a in readers[0].args[:2] if isinstance(a, Ref) and a.tensor != tensor]
    if len(others) != 1 or len(graph.consumers.get(others[0], ())) != 1:
        return 0
    maker = graph.producer.get(others[0])
    if maker is None or maker.name != "select" or maker.args[0] != call.raw(0):
        return 0
    if int(maker.args[1]) % len(call.state(0).axes) != dim:
        return 0
    return 1 if readers[0].name == "add" else -1
