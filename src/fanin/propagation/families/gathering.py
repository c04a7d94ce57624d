"""Embeddings, index_select, gather and indexing: rows of a table.

Two places that hold one index see one row; how often that happens, for every kind of pair, is
counted where the indices are known and is one in the table's length where they are not.
"""

from collections.abc import Sequence

import numpy as np
import torch

from fanin.graph.graph import Ref
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry
from fanin.propagation.data_moments import pair_moments_of
from fanin.propagation.edges import Meeting, degrees_at, meeting, scattered_by
from fanin.propagation.families.slices import sliced
from fanin.propagation.layout import Axes, atom_range, atoms_of, fit, plain_axes
from fanin.propagation.profile import MOST_PLACES, Profile, even, settled, summed_rows
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian

MOST_LABELS = 1 << 16


def agreement(index: torch.Tensor | None, shape: Sequence[int], rows: int) -> Array:
    """For every kind of pair of places, the chance that both hold the same index."""
    axes = plain_axes(shape)
    bits = (2,) * len(atoms_of(axes))
    if index is None:
        chance = np.full(bits, 1 / max(rows, 1))
        chance.flat[0] = 1.0
        return chance
    sizes = [n for n in index.shape if n != 1]
    labels, inverse = torch.unique(index, return_inverse=True)
    total = np.zeros(bits)
    flat = inverse.reshape(sizes).numpy() if sizes else inverse.reshape(()).numpy()
    if index.numel() * min(len(labels), 64) > 1 << 24:
        chance = np.full(bits, 1 / len(labels))
        chance.flat[0] = 1.0
        return chance
    if len(labels) > 64:
        # Random signs per label have expectation 1 where labels agree and 0 where they do not.
        signs = np.random.default_rng(0).standard_normal((64, len(labels)))
        for row in signs:
            total += pair_moments_of(row[flat])
        total /= 64
        scale = total.flat[0]
        total = np.clip(total / scale, 0.0, 1.0)
        total[np.abs(total) < 3 / np.sqrt(64 * max(index.numel(), 1))] = 0.0
        return total
    for label in range(len(labels)):
        total += pair_moments_of((flat == label).astype(float))
    return np.clip(total, 0.0, 1.0)


def gathered(table: State, dim: int, index: State | None, shape: Sequence[int]) -> State:
    """Rows of ``table`` along an axis, with the index's axes in the place of that axis.

    Args:
        table: what is read.
        dim: the axis that the index runs along.
        index: its state; its ``known`` value is counted if there is one.
        shape: shape of the index.
    """
    known = index.known if index is not None else None
    same = agreement(known, shape, table.shape[dim])
    part = fit(table.pairs, table.axes, _one(table.axes, dim))
    axes = _one(table.axes, dim)
    if axes[dim]:
        at = atom_range(axes, dim).start
        agree, differ = np.take(part, 0, at), np.take(part, 1, at)
    else:
        at = sum(len(a) for a in axes[:dim])
        agree = differ = part
    places = plain_axes(shape)
    inner = len(atoms_of(places))
    grown = [np.expand_dims(p, tuple(range(at, at + inner))) for p in (agree, differ)]
    view = [1] * (agree.ndim + inner)
    view[at : at + inner] = [2] * inner
    chance = same.reshape(view)
    pairs = chance * grown[0] + (1 - chance) * grown[1]
    profile, power = _places_read(table, dim, known, shape)
    made = (*axes[:dim], *places, *axes[dim + 1 :])
    mean = table.mean * power**0.5
    return gaussian(made, mean, pairs * power, profile=profile).with_flags(table)


def _places_read(
    table: State, dim: int, known: torch.Tensor | None, shape: Sequence[int]
) -> tuple[Profile, float]:
    """Powers of the rows that are read: a padding row of zeros counts as often as it is."""
    if table.profile is None:
        return None, 1.0
    profile = table.profile
    if known is None or profile.shape[dim] == 1:
        mean = profile.mean(axis=dim, keepdims=True)
        mean = mean.reshape(*mean.shape[:dim], *(1,) * len(shape), *mean.shape[dim + 1 :])
        return settled(mean)
    rows = known.long().numpy() % profile.shape[dim]
    if rows.size * profile.size // profile.shape[dim] > MOST_PLACES:
        profile = profile.mean(axis=tuple(i for i in range(profile.ndim) if i != dim),
                               keepdims=True)  # fmt: skip
    if rows.size > MOST_PLACES:
        return None, float(np.take(profile, rows.ravel(), axis=dim).mean())
    return settled(np.take(profile, rows.reshape(tuple(shape)), axis=dim))


def _one(axes: Axes, dim: int) -> Axes:
    n = int(np.prod(axes[dim])) if axes[dim] else 1
    return (*axes[:dim], (n,) if n != 1 else (), *axes[dim + 1 :])


def ungathered(
    pairs: Array,
    given: Axes,
    table: State,
    dim: int,
    index: State | None,
    shape: Sequence[int],
    meet: Meeting | None = None,
) -> Array:
    """Gradient of the table: each row sums the gradients of the places that read it."""
    known = index.known if index is not None else None
    rows = table.shape[dim]
    count = int(np.prod(shape)) if shape else 1
    same = agreement(known, shape, rows)
    places = plain_axes(shape)
    inner = len(atoms_of(places))
    axes = _one(table.axes, dim)
    at = sum(len(a) for a in axes[:dim])
    wanted = (*axes[:dim], *places, *axes[dim + 1 :])
    found = elsewhere = fit(pairs, given, wanted)
    if meet is not None and inner == 1:
        own, differ = np.take(found, 0, at), np.take(found, 1, at)
        found, elsewhere = (np.stack([own, p], axis=at) for p in meet.split(own, differ))
    atoms = atoms_of(places)
    weights = np.ones((2,) * inner)
    for k, n in enumerate(atoms):
        view = [1] * inner
        view[k] = 2
        weights = weights * np.array([n, n * (n - 1)], float).reshape(view)
    # Pairs of places on one row, and on two rows.
    on_one = weights * same
    on_two = weights * (1 - same)
    letters = list(range(at, at + inner))
    one = np.tensordot(on_one, np.moveaxis(found, letters, range(inner)), axes=inner) / rows
    if not axes[dim]:
        return fit(np.asarray(one), axes, table.axes)
    two = np.tensordot(on_two, np.moveaxis(elsewhere, letters, range(inner)), axes=inner)
    two = two / max(rows * (rows - 1), 1)
    del count
    return fit(np.stack([one, two], axis=at), axes, table.axes)


def _index_shape(call: Call, position: int) -> tuple[int, ...]:
    tensor = call.tensor(position)
    return call.graph.tensors[tensor].shape if tensor is not None else ()


@forward("embedding", "embedding_renorm")
def embedding(call: Call) -> State:
    """Rows of the table."""
    return gathered(call.state(0), 0, call.optional(1), _index_shape(call, 1))


@backward("embedding")
def embedding_backward(call: Call) -> list[Pass]:
    """Into the rows that were read."""
    tensor, made = call.tensor(0), call.made()
    if tensor is None:
        return []
    table, index, shape = call.state(0), call.optional(1), _index_shape(call, 1)
    return [Pass(tensor, lambda p: ungathered(p, made.axes, table, 0, index, shape))]


@forward("index_select")
def index_select(call: Call) -> State:
    """Entries of one axis."""
    state = call.state(0)
    dim = int(call.raw(1, "dim")) % max(len(state.axes), 1)
    return gathered(state, dim, call.optional(2, "index"), _index_shape(call, 2) or (1,))


@backward("index_select")
def index_select_backward(call: Call) -> list[Pass]:
    """Into the entries that were read."""
    tensor = call.tensor(0)
    if tensor is None:
        return []
    dim = int(call.raw(1, "dim")) % max(len(call.state(0).axes), 1)
    index, shape = call.optional(2, "index"), _index_shape(call, 2) or (1,)
    return [_into_table(call, tensor, dim, index, shape)]


def _into_rows(call: Call, tensor: int, dim: int, index: State | None) -> Carry | None:
    """Rows that are read more often, or by places with larger gradients, receive more."""
    known = None if index is None else index.known
    if known is None or known.dim() != 1 or call.graph.tensors[tensor].of_parameters:
        return None
    rows, count = known.long().numpy(), call.shape()[dim]
    length = call.states[tensor].shape[dim]

    def carry(profile: Profile) -> Carried:
        found = even(profile, len(call.shape()))
        size = found.size // found.shape[dim]
        if size * max(count, length) > MOST_PLACES:
            return None, 1.0
        received = summed_rows(found, dim, rows % length, length)
        return settled(received)[0], 1.0

    return carry


def _meeting_at(call: Call, tensor: int, dim: int, index: State | None) -> Meeting | None:
    """Where messages along the edges of a graph go that were read here."""
    known = None if index is None else index.known
    if known is None or known.dim() != 1 or dim or call.graph.tensors[tensor].of_parameters:
        return None
    other = scattered_by(call.graph, call.states, call.operation.outputs[0], len(known))
    if other is None:
        return None
    ends, averaged = other
    return meeting(known.long(), ends, 1 / degrees_at(ends) if averaged else None)


def _into_table(
    call: Call, tensor: int, dim: int, index: State | None, shape: Sequence[int]
) -> Pass:
    made, table = call.made(), call.states[tensor]
    meet = _meeting_at(call, tensor, dim, index)
    return Pass(
        tensor,
        lambda p: ungathered(p, made.axes, table, dim, index, shape, meet),
        carry=_into_rows(call, tensor, dim, index),
    )


def _single_index(call: Call) -> tuple[int, State, tuple[int, ...]] | None:
    """The one axis that plain advanced indexing runs along; None for several or boolean ones."""
    given = [(d, ref) for d, ref in enumerate(call.raw(1)) if isinstance(ref, Ref)]
    if len(given) != 1 or call.kind(given[0][1].tensor) in ("bool", "uint8"):
        return None
    dim, ref = given[0]
    return dim, call.states[ref.tensor], call.graph.tensors[ref.tensor].shape


@forward("index", "_unsafe_index")
def index(call: Call) -> State | None:
    """``x[i]``: one integer index along one axis; a part that a mask picks; else sampled."""
    single = _single_index(call)
    state = call.state(0)
    if single is not None:
        dim, places, shape = single
        return gathered(state, dim, places, shape)
    refs = [ref for ref in call.raw(1) if isinstance(ref, Ref)]
    if (
        len(refs) == len(call.raw(1))
        and all(call.kind(r.tensor) not in ("bool", "uint8") for r in refs)
        and len(call.shape()) >= 1
    ):
        return _several(call, state, refs)
    return None


def _several(call: Call, state: State, refs: Sequence[Ref]) -> State | None:
    """``x[i, j]`` with leading integer indices: places of the joined leading axes."""
    from fanin.propagation.families.views import reshaped

    count = len(refs)
    lengths = state.shape[:count]
    shapes = [call.graph.tensors[r.tensor].shape for r in refs]
    out = tuple(np.broadcast_shapes(*shapes))
    total = int(np.prod(lengths))
    joined = reshaped(state, (total, *state.shape[count:]))
    known = [call.states[r.tensor].known for r in refs]
    flat: torch.Tensor | None = None
    if all(k is not None for k in known):
        flat = torch.zeros(out, dtype=torch.long)
        for value, n in zip(known, lengths, strict=True):
            assert value is not None
            flat = flat * n + value.long() % n
    place = gaussian(plain_axes(out), 0.0, np.zeros((2,) * len(atoms_of(plain_axes(out)))))
    from dataclasses import replace

    return gathered(joined, 0, replace(place, known=flat), out)


@backward("index", "_unsafe_index")
def index_backward(call: Call) -> list[Pass]:
    """Into the entries that were read."""
    from fanin.propagation.families.views import reshaped
    from fanin.propagation.layout import fit_flat

    tensor, made, state = call.tensor(0), call.made(), call.state(0)
    single = _single_index(call)
    if tensor is None:
        return []
    if single is not None:
        dim, places, shape = single
        return [_into_table(call, tensor, dim, places, shape)]
    refs = [ref for ref in call.raw(1) if isinstance(ref, Ref)]
    share = float(np.prod(made.shape)) / max(float(np.prod(state.shape)), 1.0)
    masked = any(call.kind(r.tensor) in ("bool", "uint8") for r in refs)
    if len(refs) == len(call.raw(1)) and not masked:
        count = len(refs)
        shape = tuple(np.broadcast_shapes(*(call.graph.tensors[r.tensor].shape for r in refs)))
        joined = reshaped(state, (int(np.prod(state.shape[:count])), *state.shape[count:]))
        if len(made.axes) == len(shape) + len(joined.axes) - 1:
            return [
                Pass(
                    tensor,
                    lambda p: fit_flat(
                        ungathered(p, made.axes, joined, 0, None, shape), joined.axes, state.axes
                    ),
                )
            ]

    def spread(pairs: Array) -> Array:
        found = np.zeros_like(state.pairs)
        found.flat[0] = pairs.flat[0] * share
        return found

    return [Pass(tensor, spread)]


@forward("gather", "take_along_dim")
def gather(call: Call) -> State:
    """Entries along an axis, chosen place by place."""
    state = call.state(0)
    dim = int(call.raw(1, "dim")) % max(len(state.axes), 1)
    shape = call.shape()
    part = state
    for d, n in enumerate(shape):
        if part.shape[d] != n:
            part = sliced(part, d, n, ("gather", call.operation.index, d))
    del dim
    return gaussian(part.axes, part.mean, part.pairs).with_flags(state)


@backward("gather", "take_along_dim")
def gather_backward(call: Call) -> list[Pass]:
    """The share of places that were read."""
    tensor, made, state = call.tensor(0), call.made(), call.state(0)
    if tensor is None:
        return []
    share = float(np.prod(made.shape)) / max(float(np.prod(state.shape)), 1.0)

    def spread(pairs: Array) -> Array:
        found = np.zeros_like(state.pairs)
        found.flat[0] = pairs.flat[0] * share
        return found

    return [Pass(tensor, spread)]
