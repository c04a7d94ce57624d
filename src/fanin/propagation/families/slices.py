"""Parts of a tensor: slices, single indices, splits."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from fanin.propagation.algebra import scaled
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carry, placed, restored, viewed
from fanin.propagation.families.views import moved_state, reshaped
from fanin.propagation.layout import (
    Arrangement,
    Axes,
    atom_range,
    atoms_of,
    fit,
    fit_flat,
    shape_of,
)
from fanin.propagation.profile import settled
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, at_places, moved_profiles


def sliced(
    state: State,
    dim: int,
    length: int,
    view: object,
    start: int | None = None,
    step: int | None = 1,
) -> State:
    """A part of one axis: the other moments stay, but for powers that differ along it.

    ``start`` is where the part begins, every ``step``-th place is taken; None for parts that are
    no range.
    """
    if start is None or step is None:
        state = _no_longer(state, dim)
    else:
        state = at_places(state, dim, slice(start, start + step * length, step))
        start = start if step == 1 else None
    axes, position = state.axes, atom_range(state.axes, dim).start
    arrangement = Arrangement(atoms_of(axes), [state.pairs, state.base.pairs])
    for _ in range(len(axes[dim]) - 1):
        arrangement.join(position)
    arrays = arrangement.arrays
    if axes[dim] and length == 1:
        arrays = [np.take(a, 0, position) for a in arrays]
    new = (*axes[:dim], (length,) if length != 1 else (), *axes[dim + 1 :])
    pieces = state.pieces
    if pieces is None or pieces.axis != dim:
        return moved_state(state, new, arrays[0], arrays[1], view, pieces, lambda p: p)
    part = moved_state(state, new, arrays[0], arrays[1], view, None, lambda p: p)
    if start is None:
        return part
    part = scaled(part, pieces.factor(start, length) ** 0.5)
    return replace(part, pieces=pieces.part(start, length))


def _no_longer(state: State, dim: int) -> State:
    """Places of which nobody knows where they are: the mean power along that axis."""
    profile, inner = moved_profiles(
        state, lambda p: None if p is None else settled(p.mean(axis=dim, keepdims=True))[0]
    )
    return replace(state, profile=profile, base=replace(state.base, profile=inner), blocked=None)


def without_axis(state: State, dim: int) -> State:
    """An axis of length 1 taken out."""
    profile, inner = moved_profiles(state, lambda p: None if p is None else p.squeeze(dim))
    blocked = state.blocked
    if blocked is not None:
        blocked = blocked.reshape((1,) * (len(state.axes) - blocked.dim()) + tuple(blocked.shape))
        blocked = blocked.squeeze(dim)
    state = replace(
        state, profile=profile, base=replace(state.base, profile=inner), blocked=blocked
    )
    pieces = state.pieces
    if pieces is not None and pieces.axis > dim:
        pieces = replace(pieces, axis=pieces.axis - 1)
    return replace(state, axes=(*state.axes[:dim], *state.axes[dim + 1 :]), pieces=pieces)


def piece_factor(state: State, dim: int, start: int, length: int) -> float:
    """Power of the matrix behind a range of an axis, over that of the whole matrix."""
    pieces = state.pieces
    return 1.0 if pieces is None or pieces.axis != dim else pieces.factor(start, length)


# Gradients of disjoint parts never meet in one element: they add in squares, not coherently,
# hence slope None for slices.
def part_of(pairs: Array, given: Axes, target: Axes, dim: int) -> Array:
    """Pair moments of a gradient that is 0 outside of a slice: back in the whole axis."""
    n, length = shape_of(target)[dim], shape_of(given)[dim]
    joined = (*target[:dim], (n,) if n != 1 else (), *target[dim + 1 :])
    inside = (*target[:dim], (length,) if length != 1 else (), *target[dim + 1 :])
    pairs = fit(pairs, given, inside)
    if n == 1:
        return fit(pairs, joined, target)
    position = atom_range(joined, dim).start
    if length == 1:
        pairs = np.stack([pairs, np.zeros_like(pairs)], axis=position)
        share = np.array([1 / n, 0.0])
    else:
        share = np.array([length / n, length * (length - 1) / (n * (n - 1))])
    view = [1] * pairs.ndim
    view[position] = 2
    return fit(pairs * share.reshape(view), joined, target)


def into(
    call: Call, move: Callable[[Array], Array], piece: float = 1.0, carry: Carry | None = None
) -> list[Pass]:
    """The one way back of a part: into the tensor that it was cut from."""
    tensor = call.tensor(0)
    return [] if tensor is None else [Pass(tensor, move, piece=piece, carry=carry)]


def start_of(call: Call, dim: int) -> int:
    """First index of a slice, or the index of a select."""
    value = call.raw(2, "index" if call.name.startswith("select") else "start", 0) or 0
    n = call.state(0).shape[dim]
    return int(value) + n if int(value) < 0 else min(int(value), n)


def axis_of(call: Call, value: int) -> int:
    """An axis of the tensor that is cut, counted from the front."""
    return value % max(len(call.state(0).axes), 1)


@forward("slice", "narrow", "slice_copy")
def slice_(call: Call) -> State:
    """A range of one axis."""
    dim = axis_of(call, call.raw(1, "dim", 0) or 0)
    view = (call.name, *call.operation.args[1:])
    step = int(call.raw(4, "step", 1) or 1)
    return sliced(call.state(0), dim, call.shape()[dim], view, start_of(call, dim), step)


@backward("slice", "narrow", "slice_copy")
def slice_backward(call: Call) -> list[Pass]:
    """0 outside of the range."""
    dim = axis_of(call, call.raw(1, "dim", 0) or 0)
    made, target = call.made().axes, call.state(0).axes
    if shape_of(made) == shape_of(target):
        return into(call, lambda pairs: fit(pairs, made, target))
    piece = piece_factor(call.state(0), dim, start_of(call, dim), shape_of(made)[dim])
    step = call.raw(4, "step", 1) or 1
    start, length = start_of(call, dim), shape_of(made)[dim]
    places = slice(start, start + length * step, step)
    carry = placed(shape_of(made), shape_of(target), dim, places)
    return into(call, lambda pairs: part_of(pairs, made, target, dim), piece, carry)


def _piece_dim(call: Call) -> int:
    return axis_of(call, (call.raw(1, "dim") if call.name == "unbind" else call.raw(2, "dim")) or 0)


@forward("split", "split_with_sizes", "unsafe_split", "chunk", "unsafe_chunk", "tensor_split",
         "unsafe_split_with_sizes", "split_with_sizes_copy", "split_copy")  # fmt: skip
def split(call: Call) -> list[State]:
    """Several ranges of one axis."""
    dim = _piece_dim(call)
    count = len(call.operation.outputs)
    starts = _starts(call, dim)
    return [
        sliced(
            call.state(0), dim, call.shape(k)[dim], (call.name, k, call.operation.index), starts[k]
        )
        for k in range(count)
    ]


def _starts(call: Call, dim: int) -> list[int]:
    """Where each piece of a split begins."""
    sizes = [call.shape(k)[dim] for k in range(len(call.operation.outputs))]
    return [sum(sizes[:k]) for k in range(len(sizes))]


@backward("split", "split_with_sizes", "unsafe_split", "chunk", "unsafe_chunk", "tensor_split",
          "unsafe_split_with_sizes", "split_with_sizes_copy", "split_copy")  # fmt: skip
def split_backward(call: Call) -> list[Pass]:
    """Each piece's gradient in its range."""
    dim, tensor, target = _piece_dim(call), call.tensor(0), call.state(0).axes
    if tensor is None:
        return []

    def move(pairs: Array, k: int) -> Array:
        return part_of(pairs, call.made(k).axes, target, dim)

    return [
        Pass(
            tensor,
            partial(move, k=k),
            None,
            k,
            piece=piece_factor(call.state(0), dim, start, call.shape(k)[dim]),
            carry=placed(
                call.shape(k), shape_of(target), dim, slice(start, start + call.shape(k)[dim])
            ),
        )
        for k, start in enumerate(_starts(call, dim))
    ]


@forward("unbind", "unbind_copy")
def unbind(call: Call) -> list[State]:
    """Every index of one axis."""
    dim = _piece_dim(call)
    states = []
    for k in range(len(call.operation.outputs)):
        states.append(without_axis(sliced(call.state(0), dim, 1, ("select", dim, k), k), dim))
    return states


@backward("unbind", "unbind_copy")
def unbind_backward(call: Call) -> list[Pass]:
    """Each index's gradient in its place."""
    dim, tensor, target = _piece_dim(call), call.tensor(0), call.state(0).axes
    if tensor is None:
        return []

    def move(pairs: Array, k: int) -> Array:
        made = call.made(k).axes
        return part_of(pairs, (*made[:dim], (), *made[dim:]), target, dim)

    return [
        Pass(
            tensor,
            partial(move, k=k),
            None,
            k,
            piece=piece_factor(call.state(0), dim, k, 1),
            carry=restored(
                dim,
                placed((*call.shape(k)[:dim], 1, *call.shape(k)[dim:]), shape_of(target), dim, k),
            ),
        )
        for k in range(len(call.operation.outputs))
    ]


@forward("as_strided")
def as_strided(call: Call) -> State | None:
    """All the elements in their own order are a reshape; None for other strides."""
    return reshaped(call.state(0), call.shape()) if _in_order(call) else None


@backward("as_strided")
def as_strided_backward(call: Call) -> list[Pass] | None:
    """The same elements back."""
    tensor, state, made = call.tensor(0), call.state(0), call.made()
    if not _in_order(call):
        return None
    if tensor is None:
        return []
    carry = viewed(made.shape, state.shape)
    return [Pass(tensor, lambda pairs: fit_flat(pairs, made.axes, state.axes), 1.0, carry=carry)]


def _in_order(call: Call) -> bool:
    """Whether a strided view shows every element once, row by row."""
    shape, strides = call.shape(), [int(n) for n in call.raw(2, "stride")]
    if prod(shape) != prod(call.state(0).shape) or (call.raw(3, "storage_offset") or 0) != 0:
        return False
    expected = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True
