"""Views, copies, casts, slices and shuffles: moments stay, axes move."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from fanin.propagation import profile as profiles
from fanin.propagation.base import Base
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carry, forgotten, reordered, viewed
from fanin.propagation.layout import (
    Arrangement,
    Axes,
    Axis,
    atom_range,
    atoms_of,
    fit,
    fit_flat,
    plain_axes,
    regroup,
)
from fanin.propagation.pieces import Pieces
from fanin.propagation.profile import Profile
from fanin.propagation.quadrature import Array
from fanin.propagation.reflection import evenness_of_bins
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian, moved_profiles


def moved_state(
    state: State,
    axes: Axes,
    pairs: Array,
    base_pairs: Array,
    view: object,
    pieces: Pieces | None = None,
    move: Callable[[Profile], Profile] = lambda profile: None,
) -> State:
    """The state under new axes.  Equal views of one base stay functions of one base.

    ``move`` brings the powers place by place under the new axes; they are forgotten without it.
    """
    old = state.base
    profile, inner = moved_profiles(state, move)
    average = old.averages
    if average is not None:
        average = replace(average, keys=average.keys | {(key, view) for key in average.keys})
    base = Base((old.key, view), old.mean, old.std, base_pairs, inner, average, old.quantiles)
    blocked = None
    if state.blocked is not None:
        mask = move(profiles.even(state.blocked.double().numpy(), len(state.axes)))
        blocked = None if mask is None else torch.from_numpy(mask > 0)
    return replace(
        state, axes=axes, pairs=pairs, base=base, known=None, blocked=blocked, pieces=pieces,
        profile=profile,
    )  # fmt: skip


@forward(
    "clone", "detach", "alias", "contiguous", "_to_copy", "to", "lift_fresh", "lift_fresh_copy",
    "lift", "positive", "dropout_identity", "_conj", "resolve_conj", "_fw_primal",
)  # fmt: skip
def same(call: Call) -> State:
    """Copies and casts."""
    return call.state(0)


@backward(
    "clone", "alias", "contiguous", "_to_copy", "to", "lift_fresh", "lift_fresh_copy", "lift",
    "positive", "_fw_primal",
)  # fmt: skip
def same_backward(call: Call) -> list[Pass]:
    """The gradient passes unchanged; of that of a complex number only what is real."""
    made, tensor = call.operation.outputs[0], call.tensor(0)
    if tensor is not None and call.kind(made).startswith("complex") and call.is_float(tensor):
        share = (1 + evenness_of_bins(call)) / 2
        target = call.state(0).axes
        return [Pass(tensor, lambda pairs: share * fit(pairs, call.made().axes, target))]
    return _through(call, lambda pairs: fit(pairs, call.made().axes, call.state(0).axes))


@backward("detach")
def detach_backward(call: Call) -> list[Pass]:
    """Nothing flows back."""
    return []


def _through(
    call: Call,
    move: Callable[[Array], Array],
    slope: float | None = 1.0,
    carry: Carry | None = None,
) -> list[Pass]:
    tensor = call.tensor(0)
    return [] if tensor is None else [Pass(tensor, move, slope, carry=carry)]


@forward("copy")
def copy(call: Call) -> State:
    """``copy_(source)``: the source, broadcast to the target."""
    from fanin.propagation.algebra import aligned

    return aligned(call.state(1), call.state(0))[0]


@backward("copy")
def copy_backward(call: Call) -> list[Pass]:
    """To the source alone."""
    from fanin.propagation.factors import mover

    source = call.tensor(1)
    if source is None:
        return []
    return [Pass(source, mover(call.made().axes, call.state(1).axes), None)]


def reshaped(state: State, shape: Sequence[int]) -> State:
    """The same elements in row-major order under another shape."""
    if tuple(shape) == state.shape:
        return state
    if 0 in shape:
        return gaussian(plain_axes(shape), 0.0, np.zeros((2,) * len(atoms_of(plain_axes(shape)))))
    arrangement = Arrangement(atoms_of(state.axes), [state.pairs, state.base.pairs])
    axes = regroup(arrangement, shape)
    view = ("reshape", tuple(shape))
    pieces = None if state.pieces is None else state.pieces.reshaped(state.shape, shape)
    return moved_state(
        state, axes, arrangement.arrays[0], arrangement.arrays[1], view, pieces,
        lambda p: profiles.reshaped(p, state.shape, shape),
    )  # fmt: skip


@forward(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "flatten",
    "unflatten", "_reshape_copy", "view_copy",
)  # fmt: skip
def reshape(call: Call) -> State:
    """Regroup atoms into the new axes; the shape is that of the output."""
    return reshaped(call.state(0), call.shape())


@backward(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "flatten",
    "unflatten", "_reshape_copy", "view_copy",
)  # fmt: skip
def reshape_backward(call: Call) -> list[Pass]:
    """The same regrouping, back."""
    move = lambda pairs: fit_flat(pairs, call.made().axes, call.state(0).axes)  # noqa: E731
    return _through(call, move, carry=viewed(call.made().shape, call.state(0).shape))


def permuted(state: State, order: Sequence[int]) -> State:
    """Axes in another order."""
    atoms = [p for d in order for p in atom_range(state.axes, d)]
    axes = tuple(state.axes[d] for d in order)
    view = ("permute", tuple(order))
    pieces = state.pieces
    if pieces is not None:
        pieces = replace(pieces, axis=list(order).index(pieces.axis))
    return moved_state(
        state, axes, state.pairs.transpose(atoms), state.base.pairs.transpose(atoms), view, pieces,
        lambda p: profiles.permuted(p, order),
    )  # fmt: skip


def _order(call: Call) -> list[int]:
    rank = len(call.state(0).axes)
    if call.name == "permute":
        return [d % rank for d in call.raw(1, "dims")]
    order = list(range(rank))
    if call.name in ("t", "numpy_T", "mT", "adjoint"):
        one, two = (-2, -1) if rank >= 2 else (0, 0)
    else:
        one, two = call.raw(1, "dim0"), call.raw(2, "dim1")
    if rank:
        order[one], order[two] = order[two], order[one]
    return order


@forward("t", "transpose", "permute", "numpy_T", "swapaxes", "movedim")
def permute(call: Call) -> State:
    """Axes in another order."""
    return permuted(call.state(0), _order(call))


@backward("t", "transpose", "permute", "numpy_T", "swapaxes", "movedim")
def permute_backward(call: Call) -> list[Pass]:
    """The inverse order."""
    state = call.state(0)
    atoms = [p for d in _order(call) for p in atom_range(state.axes, d)]
    moved = tuple(state.axes[d] for d in _order(call))
    inverse = np.argsort(atoms)
    move = lambda pairs: fit(pairs, call.made().axes, moved).transpose(inverse)  # noqa: E731
    return _through(call, move, carry=reordered(_order(call)))


@forward("expand", "broadcast_to", "expand_copy")
def expand(call: Call) -> State:
    """Repeat along axes of length 1, as copies that agree."""
    from fanin.propagation.algebra import aligned

    blank = gaussian(plain_axes(call.shape()), 0.0, np.zeros((2,) * _count(call.shape())))
    state = call.state(0)
    grown = aligned(state, blank)[0]
    rank = len(call.shape())
    return moved_state(
        state, grown.axes, grown.pairs, grown.base.pairs, ("expand", call.shape()), None,
        lambda p: None if p is None else profiles.even(p, rank),
    )  # fmt: skip


@forward("repeat", "tile")
def repeat(call: Call) -> State | None:
    """Repeat whole axes: new outermost atoms along which all agree."""
    state = call.state(0)
    times = list(call.raw(1, "repeats"))
    axes: list[Axis] = []
    pairs, base = state.pairs, state.base.pairs
    position = 0
    lead = len(times) - len(state.axes)
    for i, n in enumerate(times):
        axis = state.axes[i - lead] if i >= lead else ()
        if n > 1:
            pairs, base = (np.stack([a, a], axis=position) for a in (pairs, base))
            axes.append((n, *axis))
        else:
            axes.append(axis)
        position += len(axes[-1])

    def again(profile: Profile) -> Profile:
        if profile is None:
            return None
        full = profiles.even(profile, len(times))
        found = np.tile(full, [n if m != 1 else 1 for n, m in zip(times, full.shape, strict=True)])
        return profiles.settled(found)[0]

    return moved_state(state, tuple(axes), pairs, base, ("repeat", tuple(times)), None, again)


def _count(shape: Sequence[int]) -> int:
    return sum(1 for n in shape if n != 1)


@backward("expand", "broadcast_to", "expand_copy")
def expand_backward(call: Call) -> list[Pass]:
    """Summed over what was repeated."""
    from fanin.propagation.factors import mover

    tensor = call.tensor(0)
    if tensor is None:
        return []
    slope = 1.0 if call.shape() == call.state(0).shape else None
    return [Pass(tensor, mover(call.made().axes, call.state(0).axes), slope)]


@forward("roll", "flip", "fliplr", "rot90")
def shuffle(call: Call) -> State:
    """Elements in another order along an axis: other numbers at each place, equal moments."""
    state = call.state(0)

    def turned(profile: Profile) -> Profile:
        if profile is None or call.name == "rot90":
            return None
        if call.name == "roll":
            shifts, dims = ((v,) if isinstance(v, int) else tuple(v)
                            for v in (call.raw(1), call.raw(2, "dims", ()) or ()))  # fmt: skip
            return np.roll(profile, shifts, dims) if dims else None
        return np.flip(profile, tuple(call.raw(1, "dims")) if call.name == "flip" else 1)

    return moved_state(
        state, state.axes, state.pairs, state.base.pairs, call.operation.index, None, turned
    )


@backward("roll", "flip", "fliplr", "rot90")
def shuffle_backward(call: Call) -> list[Pass]:
    """The opposite order."""
    tensor = call.tensor(0)
    move = lambda pairs: fit(pairs, call.made().axes, call.state(0).axes)  # noqa: E731
    return [] if tensor is None else [Pass(tensor, move, carry=_turned_back(call))]


def _turned_back(call: Call) -> Carry:
    """Profiles follow whole numbers of places, back again."""
    amounts, dims = call.raw(1), call.raw(2, "dims", ())
    if call.name == "flip":
        return lambda p: (p if p is None else np.flip(p, tuple(amounts)), 1.0)
    if call.name == "roll" and dims:
        shifts = [-int(n) for n in (amounts if isinstance(amounts, tuple) else (amounts,))]
        axes = tuple(dims) if isinstance(dims, tuple) else (dims,)
        return lambda p: (p if p is None else np.roll(p, shifts, axes), 1.0)
    return forgotten
