"""Sums into places: messages to the nodes of a graph, tokens back from their experts.

A node of degree d sums d messages: E[y²] = E[d]·q + E[d(d − 1)]·ρq over the nodes, ρ the
correlation of two messages.  The degrees are counted where the indices are known.
"""

from dataclasses import dataclass

import torch

from fanin.propagation.algebra import added
from fanin.propagation.call import Call
from fanin.propagation.edge_sums import Places, along_edges, at_nodes, line_of, tensor_of
from fanin.propagation.edges import degrees_at, gathered_by
from fanin.propagation.layout import fit
from fanin.propagation.profile import Profile
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian


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


def _shares(places: _Places) -> Array | None:
    """The factor of each message: one over its node's degree in a mean."""
    return (1 / degrees_at(places.index.long())).numpy() if places.reduce == "mean" else None


def _summed(source: State, places: _Places, nodes: int, others: Places | None) -> State:
    """The sums at all nodes.

    Args:
        source: the messages.
        places: where they go.
        nodes: how many there are.
        others: from which node each message comes, if that is known.
    """
    dim, ends, shares = places.dim, places.index.long().numpy(), _shares(places)
    edges = line_of(source.pairs, source.axes, dim, source.profile)
    line = at_nodes(edges, ends, nodes, others, shares)
    axes, pairs, profile = tensor_of(line, source.axes, dim, nodes, source.profile)
    weight = len(ends) if shares is None else float(shares.sum())
    return gaussian(axes, weight / nodes * source.mean, pairs, profile=profile)


@forward("scatter_add", "index_add", "scatter_reduce")
def scatter(call: Call) -> State | None:
    """What was there plus the sum, or mean, of the messages."""
    places = _places(call)
    if places is None:
        return None
    target, source = call.state(0), call.state(3, "src" if call.name != "index_add" else "source")
    messages = call.tensor(3, "src" if call.name != "index_add" else "source")
    others = None
    if messages is not None and places.dim == 0:
        others = gathered_by(call.graph, call.states, messages, len(places.index))
    nodes = target.shape[places.dim]
    made = _summed(source, places, nodes, None if others is None else others.numpy())
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
    ends, count = places.index.long(), made.shape[places.dim]
    shares = _shares(places)

    def move(pairs: Array, profile: Profile) -> tuple[Array, Profile]:
        nodes = line_of(pairs, made.axes, places.dim, profile)
        edges = along_edges(nodes, ends.numpy(), count, shares)
        axes, found, powers = tensor_of(edges, made.axes, places.dim, len(ends), profile)
        return fit(found, axes, call.states[source].axes), powers

    passes.append(Pass(source, lambda p: move(p, None)[0], move_placed=move))
    return passes
