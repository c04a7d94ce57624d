"""Norms of channels that were put side by side, each kind with a mean and a variance of its own.

A pooled map among the outputs of convolutions, as in a DenseNet, has less variance than its second
moment says: dividing by it makes its gradient larger than its neighbours'.
"""

from collections.abc import Sequence

import numpy as np

from fanin.graph.graph import Graph, Ref
from fanin.propagation.algebra import centred_pairs
from fanin.propagation.call import Call
from fanin.propagation.profile import Profile, even
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State

_PUT_TOGETHER = ("cat", "concat", "concatenate")
_CHANNELS = 1


def parts_of(graph: Graph, tensor: int, dim: int) -> list[int]:
    """The tensors that were put one behind the other along an axis, those within those too."""
    maker = graph.producer.get(tensor)
    if maker is None or maker.name not in _PUT_TOGETHER:
        return [tensor]
    rank = len(graph.tensors[tensor].shape)
    along = maker.args[1] if len(maker.args) > 1 else maker.kwargs.get("dim", 0)
    if int(along) % rank != dim:
        return [tensor]
    parts = [ref.tensor for ref in maker.args[0] if isinstance(ref, Ref)]
    return [
        inner
        for part in parts
        if 0 not in graph.tensors[part].shape
        for inner in parts_of(graph, part, dim)
    ]


def powers_of_parts(call: Call, source: int, dims: Sequence[int]) -> Array | None:
    """Centred powers of the channels of a tensor that was put together, (1, C, 1, …).

    Args:
        call: the norm.
        source: what it normalises, channels along axis 1.
        dims: the axes that its statistics run over.

    Returns:
        None where all channels are of one kind.
    """
    rank = len(call.graph.tensors[source].shape)
    parts = [call.states[t] for t in parts_of(call.graph, source, _CHANNELS)]
    if len(parts) < 2 or any(len(part.shape) != rank for part in parts):
        return None
    powers = [
        np.full(p.shape[_CHANNELS], max(float(centred_pairs(p.pairs, p.axes, dims).flat[0]), 0.0))
        for p in parts
    ]
    shape = [-1 if d == _CHANNELS else 1 for d in range(rank)]
    return np.asarray(np.concatenate(powers).reshape(shape))


def levelled_parts(view: State, dims: Sequence[int], eps: float, channels: Array) -> Profile:
    """Powers behind a norm that levels each channel by its own, place by place.

    Args:
        view: what is normalised.
        dims: the axes that the statistics run over.
        eps: what is added to each power.
        channels: see ``powers_of_parts``.
    """
    given = even(view.profile, len(view.shape))
    together = np.maximum(given.mean(axis=tuple(dims), keepdims=True), 1e-12)
    left = channels / np.maximum(channels + eps, 1e-30)
    own = float(channels.mean())
    return np.asarray(given / together * left * ((own + eps) / own if own > 0 else 1.0))
