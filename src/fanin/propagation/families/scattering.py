"""Sums into places: messages to the nodes of a graph, tokens back from their experts.

A node of degree d sums d messages: E[y²] = E[d]·q + E[d(d − 1)]·ρq over the nodes, ρ the
correlation of two messages.  The degrees are counted where the indices are known.
"""

from dataclasses import dataclass

import numpy as np
import torch

from fanin.propagation.algebra import added
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried
from fanin.propagation.edges import Meeting, degrees_at, gathered_by, meeting
from fanin.propagation.layout import Axes, atom_range, fit, plain_axes
from fanin.propagation.profile import MOST_PLACES, Profile, even, settled, summed_rows
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.rows_read import gathered
from fanin.propagation.state import State, gaussian, measured


@dataclass(frozen=True)
class _Places:
    """Along which axis messages are summed, and where each one goes."""

    dim: int
    index: torch.Tensor
    reduce: str


def _places(call: Call) -> _Places | None:
    """The places, if they are known and the same along all other axes."""
    state = call.state(0)
    dim = int(call.raw(1, "dim")) % max(len(state.axes), 1)
    index = call.state(2, "index").known
    if index is None:
        return None
    if call.name == "index_add":
        return _Places(dim, index.flatten(), "sum")
    lines = index.movedim(dim, 0).reshape(index.shape[dim], -1)
    if lines.numel() == 0 or bool((lines != lines[:, :1]).any()):
        return None
    reduce = "sum" if call.name == "scatter_add" else str(call.raw(4, "reduce"))
    return _Places(dim, lines[:, 0], reduce) if reduce in ("sum", "mean") else None


def _summed(
    source: State,
    places: _Places,
    nodes: int,
    shape: tuple[int, ...],
    meet: Meeting | None = None,
) -> State:
    dim = places.dim
    plain = plain_axes(source.shape)
    pairs = fit(source.pairs, source.axes, plain)
    if source.shape[dim] == 1:
        at = sum(len(a) for a in plain[:dim])
        same = differ = pairs
    else:
        at = atom_range(plain, dim).start
        same, differ = np.take(pairs, 0, at), np.take(pairs, 1, at)
    elsewhere = differ
    if meet is not None:
        differ, elsewhere = meet.split(same, differ)
    degrees = torch.bincount(places.index.long(), minlength=nodes).double().numpy()
    if places.reduce == "mean":
        share = 1 / np.maximum(degrees, 1)
        own = (degrees * share**2).mean() * same
        own = own + (degrees * (degrees - 1) * share**2).mean() * differ
        weight = degrees * share
    else:
        own = degrees.mean() * same + (degrees * (degrees - 1)).mean() * differ
        weight = degrees
    axes: Axes = plain_axes(shape)
    mean = float(weight.mean()) * source.mean
    if nodes == 1:
        return gaussian(axes, mean, own)
    total = weight.sum()
    other = (total**2 - (weight**2).sum()) / (nodes * (nodes - 1)) * elsewhere
    found = np.stack([own, other], axis=at)
    powers = _powers(source, places, degrees, float(same.flat[0]), float(differ.flat[0]))
    if powers is None or found.flat[0] <= 0:
        return gaussian(axes, mean, found)
    profile, level = settled(powers)
    return gaussian(axes, mean, found * (level / found.flat[0]), profile=profile)


def _powers(
    source: State, places: _Places, degrees: Array, same: float, differ: float
) -> Array | None:
    """E[y²] node by node: some sum more messages than others, or stronger ones.

    Args:
        source: the messages.
        places: where they go.
        degrees: how many each node receives.
        same: E[x²] of a message.
        differ: E[x x′] of two.
    """
    given = even(source.profile, len(source.shape))
    dim, nodes = places.dim, len(degrees)
    count = source.shape[dim]
    if nodes * given.size // given.shape[dim] > MOST_PLACES or given.size > MOST_PLACES:
        return None
    index = places.index.long().numpy()
    squares = summed_rows(given, dim, index, nodes)
    roots = summed_rows(np.sqrt(given), dim, index, nodes)
    given = np.broadcast_to(given, [count if d == dim else n for d, n in enumerate(given.shape)])
    # √p √p′ of two messages, by which their product is the larger where both are strong.
    whole = np.sqrt(given).sum(axis=dim, keepdims=True) ** 2 - given.sum(axis=dim, keepdims=True)
    overlap = max(float(whole.mean()) / max(count * (count - 1), 1), 1e-12)
    powers = same * squares + differ / overlap * (roots**2 - squares)
    if places.reduce == "mean":
        powers = powers / np.expand_dims(np.maximum(degrees, 1) ** 2, tuple(
            d if d < dim else d + 1 for d in range(given.ndim - 1)))  # fmt: skip
    return np.maximum(powers, 0.0)


@forward("scatter_add", "index_add", "scatter_reduce")
def scatter(call: Call) -> State | None:
    """What was there plus the sum, or mean, of the messages."""
    places = _places(call)
    if places is None:
        return None
    target, source = call.state(0), call.state(3, "src" if call.name != "index_add" else "source")
    messages = call.tensor(3, "src" if call.name != "index_add" else "source")
    other = None
    if messages is not None and places.dim == 0:
        other = gathered_by(call.graph, call.states, messages, len(places.index))
    meet = None if other is None else meeting(places.index.long(), other)
    made = _summed(source, places, target.shape[places.dim], call.shape(), meet)
    return added(made, target).with_flags(source)


@backward("scatter_add", "index_add", "scatter_reduce")
def scatter_backward(call: Call) -> list[Pass]:
    """Each message receives the gradient of its node."""
    places, made = _places(call), call.made()
    target, source = call.tensor(0), call.tensor(3, "src" if call.name != "index_add" else "source")
    passes = []
    if target is not None:
        passes.append(Pass(target, lambda p: fit(p, made.axes, call.states[target].axes), 1.0))
    if places is None or source is None:
        return passes
    index = measured(places.index, keep=True)
    ends, count = places.index.long(), len(places.index)
    shares = np.ones(count)
    if places.reduce == "mean":
        shares = (1 / degrees_at(ends)).numpy()
    share = float((shares**2).mean())
    # Of two messages to one node both receive the same; a hub's many receive little each.
    sums = np.bincount(ends.numpy(), weights=shares)
    squares = np.bincount(ends.numpy(), weights=shares**2)
    pairs_of_messages = max(count * (count - 1), 1)
    twins = float((sums**2 - squares).sum()) / pairs_of_messages
    others = float(sums.sum() ** 2 - (sums**2).sum()) / pairs_of_messages

    def move(pairs: Array) -> Array:
        axes = (*made.axes[: places.dim], plain_axes(made.shape)[places.dim],
                *made.axes[places.dim + 1 :])  # fmt: skip
        given = fit(pairs, made.axes, axes)
        if not axes[places.dim] or count == 1:
            gradient = gaussian(made.axes, 0.0, pairs)
            found = gathered(gradient, places.dim, index, (count,))
            return fit(found.pairs * share, found.axes, call.states[source].axes)
        at = atom_range(axes, places.dim).start
        same, differ = np.take(given, 0, at), np.take(given, 1, at)
        spread = np.stack([share * same, twins * same + others * differ], axis=at)
        wide = (*axes[: places.dim], (count,), *axes[places.dim + 1 :])
        return fit(spread, wide, call.states[source].axes)

    def carry(profile: Profile) -> Carried:
        rank = len(made.shape)
        found = even(profile, rank)
        view = [-1 if d == places.dim else 1 for d in range(rank)]
        if found.shape[places.dim] != 1:
            found = np.take(found, places.index.long().numpy(), axis=places.dim)
        if shares.size * found.size > MOST_PLACES * found.shape[places.dim]:
            return None, 1.0
        return settled(found * (shares**2 / max(share, 1e-30)).reshape(view))

    passes.append(Pass(source, move, carry=carry))
    return passes
