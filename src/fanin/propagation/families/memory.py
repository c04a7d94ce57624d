"""Memory written through views: buffers that a model fills part by part."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from fanin.graph.graph import Ref
from fanin.propagation import profile as profiles
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry
from fanin.propagation.layout import fit, plain_axes
from fanin.propagation.profile import MOST_PLACES, Profile, even, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian


@forward("updated")
def updated(call: Call) -> State:
    """Memory written through other views: the written parts in their places."""
    refs = [ref.tensor for ref in call.operation.args if isinstance(ref, Ref)]
    whole = call.states[refs[0]]
    parts = [call.states[tensor] for tensor in refs[1:]]
    if not parts:
        return whole
    shape = whole.shape
    boxes = [written(call, tensor, shape) for tensor in refs[1:]]
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
    pairs = np.full((2,) * sum(1 for n in shape if n != 1), min(mean**2, q))
    pairs.flat[0] = q
    profile = None if powers is None else profiles.settled(powers)[0]
    made = gaussian(plain_axes(shape), mean if mean**2 <= q else 0.0, pairs, profile=profile)
    level = min(p.blocked_level for p in (whole, *parts))
    return replace(made.with_flags(whole, *parts), blocked=blocked, blocked_level=level)


Box = list[tuple[int, slice | int]]


def written(call: Call, tensor: int, shape: Sequence[int]) -> Box | None:
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
    if mask.any() and not mask.all():
        # Scores that a mask hides are no scores: those left keep their power.
        powers[mask] = powers[~mask].mean()
    return powers, torch.from_numpy(mask) if mask.any() else None


def _like(mask: torch.Tensor, shape: Sequence[int]) -> np.ndarray:
    found = profiles.even(mask.double().numpy(), len(shape))
    over = tuple(i for i, (n, m) in enumerate(zip(found.shape, shape, strict=True)) if n != m)
    return np.broadcast_to(found.mean(axis=over, keepdims=True) > 0.5, shape)


@backward("updated")
def updated_backward(call: Call) -> list[Pass]:
    """Every written part receives the gradient of its place, what was there before the rest."""
    refs = [ref.tensor for ref in call.operation.args if isinstance(ref, Ref)]
    made = call.made()
    if not refs[1:]:
        return [Pass(refs[0], lambda p: fit(p, made.axes, call.states[refs[0]].axes), 1.0)]
    boxes = [written(call, tensor, made.shape) for tensor in refs[1:]]
    passes = []
    if call.states[refs[0]].shape == made.shape:
        whole = call.states[refs[0]]
        sizes = [float(np.prod(call.states[t].shape)) for t in refs[1:]]
        left = max(1 - sum(sizes) / (float(np.prod(made.shape)) or 1.0), 0.0)
        passes.append(
            Pass(
                refs[0],
                lambda p: fit(p, made.axes, whole.axes),
                1.0,
                carry=_unwritten(boxes, made.shape, left),
            )
        )
    for tensor, box in zip(refs[1:], boxes, strict=True):
        target = call.states[tensor]
        passes.append(
            Pass(tensor, _read_back(made, target, box), 1.0, carry=_read_places(box, target.shape))
        )
    return passes


def _read_back(made: State, target: State, box: Box | None) -> Callable[[Array], Array]:
    """Pair moments of the whole's gradient -> those of a part's, which agrees where it was cut."""

    def move(pairs: Array) -> Array:
        found = np.zeros_like(target.pairs)
        found.flat[0] = pairs.flat[0]
        if box is None:
            return found
        axes = list(plain_axes(made.shape))
        pairs = fit(pairs, made.axes, tuple(axes))
        for dim, place in box:
            at = sum(len(axis) for axis in axes[:dim])
            n = 1 if isinstance(place, int) else len(range(*place.indices(_length(axes[dim]))))
            if n == 1 and axes[dim]:
                pairs = np.take(pairs, 0, at)
            axes[dim : dim + 1] = [] if isinstance(place, int) else [(n,) if n != 1 else ()]
        return fit(pairs, tuple(axes), target.axes) if _fits(axes, target) else found

    return move


def _length(axis: tuple[int, ...]) -> int:
    return axis[0] if axis else 1


def _fits(axes: Sequence[tuple[int, ...]], target: State) -> bool:
    return tuple(map(_length, axes)) == target.shape


def _read_places(box: Box | None, shape: Sequence[int]) -> Carry:
    """The powers of the places that were written, of the whole's."""

    def carry(profile: Profile) -> Carried:
        if profile is None or box is None:
            return None, 1.0
        found = profile
        for dim, place in box:
            short = found.shape[dim] == 1
            if isinstance(place, int):
                found = np.take(found, 0 if short else place, axis=dim)
            elif not short:
                found = found[(slice(None),) * dim + (place,)]
        return settled(found) if found.ndim == len(shape) else (None, 1.0)

    return carry


def _unwritten(boxes: Sequence[Box | None], shape: Sequence[int], left: float) -> Carry:
    """Nothing at the places that were written."""

    def carry(profile: Profile) -> Carried:
        powers = even(profile, len(shape))
        full = list(powers.shape)
        for box in boxes:
            for dim, _ in box or ():
                full[dim] = shape[dim]
        if any(box is None for box in boxes) or np.prod(full) > MOST_PLACES:
            return None, left
        powers = np.broadcast_to(powers, full).copy()
        for box in boxes:
            view = powers
            for dim, place in box or ():
                view = view[(slice(None),) * dim + (place,)]
            view[...] = 0.0
        return settled(powers)

    return carry
