"""Views, copies, casts, slices and shuffles: moments stay, axes move."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from fanin.graph.graph import Ref
from fanin.propagation import profile as profiles
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
from fanin.propagation.profile import MOST_PLACES, Profile
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import Base, Pieces, State, gaussian, moved_profiles


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
    """The gradient passes unchanged."""
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
    from fanin.propagation.families.pointwise import mover

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
    from fanin.propagation.families.pointwise import mover

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


@forward("updated")
def updated(call: Call) -> State:
    """Memory written through other views: the written parts in their places."""
    refs = [ref.tensor for ref in call.operation.args if isinstance(ref, Ref)]
    whole = call.states[refs[0]]
    parts = [call.states[tensor] for tensor in refs[1:]]
    if not parts:
        return whole
    shape = whole.shape
    boxes = [_written(call, tensor, shape) for tensor in refs[1:]]
    total = float(np.prod(shape)) or 1.0
    sizes = np.array([float(np.prod(p.shape)) for p in parts])
    share = min(sizes.sum() / total, 1.0)
    q_in = float(sizes @ [p.second_moment for p in parts] / sizes.sum())
    m_in = float(sizes @ [p.mean for p in parts] / sizes.sum())
    mean = share * m_in + (1 - share) * whole.mean
    q = share * q_in + (1 - share) * whole.second_moment
    powers, blocked = _powers_written(whole, parts, boxes)
    if powers is not None:
        q = float(powers.mean())
    pairs = np.full((2,) * _count(shape), min(mean**2, q))
    pairs.flat[0] = q
    profile = None if powers is None else profiles.settled(powers)[0]
    made = gaussian(plain_axes(shape), mean if mean**2 <= q else 0.0, pairs, profile=profile)
    level = min(p.blocked_level for p in (whole, *parts))
    return replace(made.with_flags(whole, *parts), blocked=blocked, blocked_level=level)


Box = list[tuple[int, slice | int]]


def _written(call: Call, tensor: int, shape: Sequence[int]) -> Box | None:
    """Where an in-place operation wrote: the slices and indices of the view that it was given."""
    steps: Box = []
    maker = call.graph.producer.get(tensor)
    target = maker.args[0] if maker is not None and maker.args else None
    while isinstance(target, Ref) and call.graph.tensors[target.tensor].shape != tuple(shape):
        maker = call.graph.producer.get(target.tensor)
        if maker is None or maker.name not in ("slice", "select", "narrow"):
            return None
        source = maker.args[0]
        dim, rest = (int(maker.args[1]), list(maker.args[2:])) if len(maker.args) > 1 else (0, [])
        if not isinstance(source, Ref):
            return None
        dim %= len(call.graph.tensors[source.tensor].shape)
        place: slice | int
        if maker.name == "select":
            place = int(rest[0])
        elif maker.name == "narrow":
            place = slice(rest[0], rest[0] + rest[1])
        else:
            place = slice(*[None if v is None else int(v) for v in (*rest, None, None, None)[:3]])
        steps.append((dim, place))
        target = source
    return steps[::-1] if isinstance(target, Ref) else None


def _powers_written(
    whole: State, parts: Sequence[State], boxes: Sequence[Box | None]
) -> tuple[Array | None, torch.Tensor | None]:
    """Powers and masked places of the whole after the parts were written, if it is known where."""
    shape = whole.shape
    rank = len(shape)
    if any(box is None for box in boxes):
        return None, None
    if np.prod(shape) <= MOST_PLACES:
        full = list(shape)
    else:
        full = [1] * rank  # along the axes that were written in part alone
        for box in boxes:
            assert box is not None
            if any(not isinstance(place, slice) for _, place in box[:-1]):
                return None, None
            for dim, _ in box:
                full[dim] = shape[dim]
        if np.prod(full) > MOST_PLACES:
            return None, None

    def reduced(profile: Profile, q: float) -> Array:
        found = profiles.even(profile, rank) * q
        over = tuple(i for i in range(rank) if full[i] == 1)
        return np.broadcast_to(found.mean(axis=over, keepdims=True), full).copy()

    powers = reduced(whole.profile, whole.second_moment)
    mask = np.zeros(full, dtype=bool)
    if whole.blocked is not None:
        mask |= reduced(whole.blocked.double().numpy(), 1.0) > 0.5
    for part, box in zip(parts, boxes, strict=True):
        assert box is not None
        view, hidden = powers, mask
        for dim, place in box:
            index = (slice(None),) * dim + (place,)
            view, hidden = view[index], hidden[index]
        own = part.second_moment * profiles.even(part.profile, len(part.shape))
        over = tuple(i for i, (n, m) in enumerate(zip(own.shape, view.shape, strict=False))
                     if m == 1 and n != 1)  # fmt: skip
        if view.ndim != own.ndim:
            return None, None
        view[...] = own.mean(axis=over, keepdims=True)
        hidden[...] = False if part.blocked is None else _like(part.blocked, hidden.shape)
    return powers, torch.from_numpy(mask) if mask.any() else None


def _like(mask: torch.Tensor, shape: Sequence[int]) -> np.ndarray:
    found = profiles.even(mask.double().numpy(), len(shape))
    over = tuple(i for i, (n, m) in enumerate(zip(found.shape, shape, strict=True)) if n != m)
    return np.broadcast_to(found.mean(axis=over, keepdims=True) > 0.5, shape)


@backward("updated")
def updated_backward(call: Call) -> list[Pass]:
    """Every written part receives the gradient of its place."""
    refs = [ref for ref in call.operation.args if isinstance(ref, Ref)]
    passes = []
    for ref in refs[1:] or refs:
        target = call.states[ref.tensor]

        def move(pairs: Array, target: State = target) -> Array:
            found = np.zeros_like(target.pairs)
            found.flat[0] = pairs.flat[0]
            return found

        passes.append(Pass(ref.tensor, move))
    return passes
