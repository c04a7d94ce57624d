"""Two places where a product's factors are not strangers to each other.

Attention picks the keys that lie along its query. Where keys and values are read from one tensor,
the values it averages lean the same way: of n directions one is no longer averaged out, which
outweighs the averages once there are about n keys. And logits of a tied head hold, for the token
that is read, the product of an embedding with itself.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.algebra import mean_pairs
from fanin.propagation.attention_parts import (
    data_argument,
    is_weight,
    keys_behind,
    origin,
    read_from,
    softmax_behind,
    softmax_of_logits,
    under_transposes,
)
from fanin.propagation.call import Call, functional_name
from fanin.propagation.covariance import covariance
from fanin.propagation.layout import atom_range
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.state import State, gaussian


def inverse_directions(
    graph: Graph, states: Mapping[int, State], tensor: int, left: int = 16
) -> float:
    """Σλ²/(Σλ)² of the spectrum of a tensor's features: one over its independent directions.

    A fresh matrix to m features adds 1/m to what its input has; the terms of a sum count by their
    powers. Behind a nonlinearity, a table or a batch the features count as independent, as far as
    their correlation says.
    """
    state = states[tensor]
    maker = graph.producer.get(tensor)
    own = _from_correlations(state)
    if maker is None or left == 0:
        return own
    name = functional_name(maker.name)
    if name in ("mm", "addmm"):
        data = data_argument(graph, maker)
        if data is not None and data in states:
            inner = inverse_directions(graph, states, data, left - 1)
            return min(own + inner, 1.0)
        return own
    features = graph.tensors[tensor].shape[-1:]
    varying = [
        t
        for t in maker.inputs
        if t in states and not is_weight(graph, t) and graph.tensors[t].shape[-1:] == features
    ]
    if name == "add" and len(varying) == 2:
        powers = np.array([states[t].variance for t in varying])
        parts = [inverse_directions(graph, states, t, left - 1) for t in varying]
        total = powers.sum()
        return float((powers / total) ** 2 @ parts) if total > 0 else own
    if (name in _LINEAR or "norm" in name or _keeps_features(maker, len(state.axes))) and varying:
        return max(own, inverse_directions(graph, states, varying[0], left - 1))
    return own


_LINEAR = {"view", "_unsafe_view", "reshape", "clone", "contiguous", "alias", "detach", "_to_copy",
           "mul", "add", "native_dropout", "dropout", "unsqueeze", "sub"}  # fmt: skip


def _keeps_features(operation: Operation, rank: int) -> bool:
    """A transpose that leaves the last axis where it is: heads and samples change places."""
    name = functional_name(operation.name)
    if name == "transpose":
        return all(d % rank != rank - 1 for d in operation.args[1:3])
    return name == "permute" and operation.args[1][-1] in (-1, len(operation.args[1]) - 1)


def _from_correlations(state: State) -> float:
    rank = len(state.axes)
    if rank == 0 or not state.axes[-1] or state.variance <= 0:
        return 1.0
    correlations = (state.pairs - state.mean**2) / state.variance
    return float(mean_pairs(correlations**2, state.axes, [rank - 1]).flat[0])


def leaning(graph: Graph, states: Mapping[int, State], key: int, value: int) -> float:
    """1/n of the n directions in which keys and values were read; 0 where they share no source."""
    one, two = read_from(graph, key), read_from(graph, value)
    if one is None or origin(graph, one) != origin(graph, two) or one not in states:
        return 0.0
    return inverse_directions(graph, states, one)


def leaning_power(logits: State, value: State, shares: float, share: float, dim: int) -> float:
    """What leaning adds to E[y²] of attention's output.

    Along the query's direction the average of unit Gaussians is s (1 − Σa²), by Stein's lemma:
    s the spread of a row's logits.

    Args:
        logits: of the softmax.
        value: what is averaged.
        shares: Σ a² of a row.
        share: see ``leaning``.
        dim: the axis of the keys among the logits' axes.
    """
    spread = _within(logits, dim)
    own = _within(value, len(value.axes) - 2)
    return share * own * spread * max(1 - shares, 0.0) ** 2


def raised(state: State, power: float, places: Profile = None) -> State:
    """More power at every element, shared with no other; ``places`` says where more of it."""
    if power <= 0.0 or state.second_moment <= 0.0:
        return state
    pairs, profile, rank = state.pairs.copy(), state.profile, len(state.axes)
    if places is not None:
        q = state.second_moment
        profile, _ = settled(q * even(profile, rank) + power * even(places, rank))
    pairs.flat[0] += power
    made = gaussian(state.axes, state.mean, pairs, profile=profile)
    return replace(made, mirrored=state.mirrored, pieces=state.pieces, sampled=state.sampled)


def averaged_values(call: Call, made: State) -> State:
    """``bmm`` of shares with values: with what leaning adds; any other product as it is."""
    one, two = call.tensor(0), call.tensor(1)
    softmax = None if one is None else softmax_behind(call.graph, one)
    if softmax is None or two is None:
        return made
    key = keys_behind(call.graph, softmax)
    share = 0.0 if key is None else leaning(call.graph, call.states, key, two)
    call.parts.keep(softmax, "leaning", share)
    source = softmax.args[0]
    if share == 0.0 or not isinstance(source, Ref):
        return made
    shares, logits = call.state(0), call.states[source.tensor]
    squares = shares.second_moment * shares.shape[-1]
    dim = int(softmax.args[1]) % max(len(logits.axes), 1)
    return raised(
        made, leaning_power(logits, call.state(1), squares, share, dim), asking(logits, dim, made)
    )


def asking(logits: State, dim: int, made: State) -> Profile:
    """Powers of the rows of logits, under the axes of what they average; None for even ones."""
    if logits.profile is None or len(logits.axes) != len(made.axes):
        return None
    rows = logits.profile.mean(axis=dim, keepdims=True)
    return rows if dim == len(made.axes) - 1 and rows.size > 1 else None


def _within(state: State, dim: int) -> float:
    """Variance along one axis: what two places of it do not share."""
    along = set(atom_range(state.axes, dim))
    apart = state.pairs[tuple(int(position in along) for position in range(state.pairs.ndim))]
    return max(state.second_moment - float(apart), 0.0) if along else 0.0


def query_alignment(share: float, squares: float, keys: Profile) -> float:
    """Power of a query's gradient, over what keys that are strangers to the values would send.

    A query receives Σ a (g·v) k over its keys. Where keys and values were read from one tensor of
    n directions, v goes with k along each of them: to Σ a² of strangers comes (Σ a)²/n.

    Args:
        share: 1/n, see ``leaning``.
        squares: Σ a² of a row.
        keys: powers of the keys: what is weak as a key is weak as a value.
    """
    if squares <= 0:
        return 1.0
    powers = 1.0 if keys is None else float(np.mean(keys**2))
    return 1 + share * max(1 / (squares * powers) - 1, 0.0)


def queries_of_product(call: Call) -> float:
    """``query_alignment`` where a batched product makes the logits; 1 for any other."""
    softmax = softmax_of_logits(call) if call.name in ("bmm", "baddbmm") else None
    share = None if softmax is None else call.parts.kept(softmax, "leaning")
    if softmax is None or not share:
        return 1.0
    shares = call.states[softmax.outputs[0]]
    count = shares.shape[int(softmax.args[1]) % len(shares.shape)]
    keys = call.state(2 if call.name == "baddbmm" else 1).profile
    return query_alignment(share, shares.second_moment * count, keys)


def tied_power(call: Call, data: int, weight: int) -> float:
    """What a tied head adds to E[logit²]: the logit of the very token that was embedded.

    One logit of V is Σ x e over the features of a token's stream and its own embedding.
    """
    graph, states = call.graph, call.states
    table = origin(graph, under_transposes(graph, weight))
    source = origin(graph, data)
    if table is None or source is None:
        return 0.0
    total = 0.0
    for operation in graph.consumers.get(table, ()):
        if operation.name != "embedding" or operation.index >= call.operation.index:
            continue
        read = operation.outputs[0]
        if states[read].shape != states[source].shape:
            continue
        found = covariance(call, source, read)
        shared = float(np.asarray(found).flat[0])
        rows, features = states[table].shape[0], states[source].shape[-1]
        total = max(total, (features * shared) ** 2 / rows)
    return total
