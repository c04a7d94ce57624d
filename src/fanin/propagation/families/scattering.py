"""Sums into places: messages to the nodes of a graph, tokens back from their experts.

A node of degree d sums d messages: E[y²] = E[d]·q + E[d(d − 1)]·ρq over the nodes, ρ the
correlation of two messages.  The degrees are counted where the indices are known.
"""

from dataclasses import dataclass

import numpy as np
import torch

from fanin.propagation.algebra import added
from fanin.propagation.call import Call
from fanin.propagation.families.gathering import gathered
from fanin.propagation.layout import Axes, atom_range, fit, plain_axes
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
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


def _summed(source: State, places: _Places, nodes: int, shape: tuple[int, ...]) -> State:
    dim = places.dim
    plain = plain_axes(source.shape)
    pairs = fit(source.pairs, source.axes, plain)
    if source.shape[dim] == 1:
        at = sum(len(a) for a in plain[:dim])
        same = differ = pairs
    else:
        at = atom_range(plain, dim).start
        same, differ = np.take(pairs, 0, at), np.take(pairs, 1, at)
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
    other = (total**2 - (weight**2).sum()) / (nodes * (nodes - 1)) * differ
    return gaussian(axes, mean, np.stack([own, other], axis=at))


@forward("scatter_add", "index_add", "scatter_reduce")
def scatter(call: Call) -> State | None:
    """What was there plus the sum, or mean, of the messages."""
    places = _places(call)
    if places is None:
        return None
    target, source = call.state(0), call.state(3, "src" if call.name != "index_add" else "source")
    made = _summed(source, places, target.shape[places.dim], call.shape())
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
    share = 1.0
    if places.reduce == "mean":
        degrees = torch.bincount(places.index.long()).double()
        share = float((1 / degrees[places.index.long()] ** 2).mean())

    def move(pairs: Array) -> Array:
        gradient = gaussian(made.axes, 0.0, pairs)
        found = gathered(gradient, places.dim, index, tuple(places.index.shape))
        return fit(found.pairs * share, found.axes, call.states[source].axes)

    passes.append(Pass(source, move))
    return passes
