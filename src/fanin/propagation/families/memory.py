"""Memory written through views: buffers that a model fills part by part."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fanin.graph.graph import Ref
from fanin.propagation import profile as profiles
from fanin.propagation.call import Call
from fanin.propagation.layout import plain_axes
from fanin.propagation.profile import MOST_PLACES, Profile
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
    pairs = np.full((2,) * sum(1 for n in shape if n != 1), min(mean**2, q))
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
