"""Two places where a product's factors are not strangers to each other.

Attention picks the keys that lie along its query. Where keys and values are read from one tensor,
the values it averages lean the same way: of n directions one is no longer averaged out, which
outweighs the averages once there are about n keys. And logits of a tied head hold, for the token
that is read, the product of an embedding with itself.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fanin.graph.graph import Graph, Ref
from fanin.propagation.attention_parts import (
    keys_behind,
    origin,
    queries_behind,
    read_from,
    softmax_behind,
    softmax_of_logits,
    under_transposes,
)
from fanin.propagation.call import Call
from fanin.propagation.columns import numbering_columns
from fanin.propagation.covariance import covariance
from fanin.propagation.directions import inverse_directions
from fanin.propagation.few import varies
from fanin.propagation.layout import atoms_of, fit
from fanin.propagation.logit_gradients import left_along_unit_queries
from fanin.propagation.logit_rows import within
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.softmax_shares import Shares, picked_beyond
from fanin.propagation.state import State, gaussian

_ROWS_BACK = 12


def leaning(graph: Graph, states: Mapping[int, State], key: int, value: int) -> float:
    """1/n of the n directions in which keys and values were read; 0 where they share no source."""
    one, two = read_from(graph, key), read_from(graph, value)
    if one is None or origin(graph, one) != origin(graph, two) or one not in states:
        return 0.0
    return inverse_directions(graph, states, one)


def leaning_power(call: Call, value: int, shares: Shares, share: float) -> float:
    """What leaning adds to E[y²] of attention's output.

    Along the query's direction two keys that are picked both lie on its side: E[Σ a a′ z z′] over
    pairs of different keys, near s² of the logits' spread s where keys are many and s is small.
    A key that is picked is long in that direction, too: where rows differ in length, it is longer
    than others; behind a norm it has so much less in all other directions.

    Args:
        call: the operation that averages.
        value: id of what is averaged.
        shares: of the keys.
        share: see ``leaning``.
    """
    if share == 0.0:
        return 0.0
    state, source = call.states[value], read_from(call.graph, value)
    lean = shares.lean
    if source is not None and source in call.states:
        few = 2 / max(call.states[source].shape[-1], 1)
        free = min(varies(call, source, few, _ROWS_BACK) / few, 1.0)
        lean += free * picked_beyond(round(shares.keys), round(shares.std, 3), shares.kind)
    return share * within(state, len(state.axes) - 2) * max(lean, 0.0)


def leaning_together(
    graph: Graph, states: Mapping[int, State], query: int, value: int, made: State
) -> Array | None:
    """How far what leaning adds is common to pairs of elements: as far as their queries are.

    Along a query q it is M q, and M = W_v C W_k^T belongs to the weights and to what tokens have in
    common: other tokens, windows and samples meet the same one, other heads and features another.

    Args:
        graph: what ran.
        states: of its tensors.
        query: id of the queries.
        value: id of the values.
        made: the average of the values.

    Returns:
        Correlations under the axes of ``made``; None where the queries have another shape, or
        where no one knows which axes are heads.
    """
    asked = states[query]
    if asked.shape != made.shape or asked.second_moment <= 0:
        return None
    values = states[value].axes
    numbered = numbering_columns(graph, value, values)
    if numbered is None or values[:-2] != made.axes[:-2] or values[-1] != made.axes[-1]:
        return None
    lead, last = len(atoms_of(values[:-2])), len(values[-1])
    rows = len(made.axes[-2])
    others = (*numbered[:lead], *(False,) * rows, *numbered[len(numbered) - last :])
    found = fit(asked.pairs, asked.axes, made.axes) / asked.second_moment
    same = np.ones((1,) * found.ndim)
    for k, column in enumerate(others):
        if column:
            same = same * np.array([1.0, 0.0]).reshape(
                [2 if p == k else 1 for p in range(found.ndim)]
            )
    return np.asarray(np.clip(found, -1.0, 1.0) * same)


def raised(
    state: State, power: float, places: Profile = None, together: Array | None = None
) -> State:
    """More power at every element.

    Args:
        state: what there is.
        power: added to E[x²].
        places: where more of it.
        together: correlations of what is added; shared with no other element if None.
    """
    if power <= 0.0 or state.second_moment <= 0.0:
        return state
    pairs, profile, rank = state.pairs.copy(), state.profile, len(state.axes)
    if places is not None:
        q = state.second_moment
        profile, _ = settled(q * even(profile, rank) + power * even(places, rank))
    if together is None:
        pairs.flat[0] += power
    else:
        pairs = pairs + power * together
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
    kept: Shares | None = call.parts.kept(softmax, "shares")
    if share == 0.0 or kept is None or not isinstance(source, Ref):
        return made
    logits = call.states[source.tensor]
    dim = int(softmax.args[1]) % max(len(logits.axes), 1)
    query = queries_behind(call.graph, softmax)
    together = None
    if query is not None:
        together = leaning_together(call.graph, call.states, query, two, made)
    power = leaning_power(call, two, kept, share)
    return raised(made, power, asking(logits, dim, made), together)


def asking(logits: State, dim: int, made: State) -> Profile:
    """Powers of the rows of logits, under the axes of what they average; None for even ones."""
    if logits.profile is None or len(logits.axes) != len(made.axes):
        return None
    rows = logits.profile.mean(axis=dim, keepdims=True)
    return rows if dim == len(made.axes) - 1 and rows.size > 1 else None


def query_alignment(share: float, squares: float, keys: Profile) -> float:
    """Power of a query's gradient, over what keys that are strangers to the values would send.

    A query receives Σ a (g·v) k over its keys. Where keys and values were read from one tensor of
    n directions, v goes with k along each of them: to Σ a² of strangers comes (Σ a)²/n.

    Args:
        share: 1/n, see ``leaning``.
        squares: Σ a² of a row.
        keys: powers of the keys: what is weak as a key is weak as a value. Queries of windows
            in which the keys are weak are so, too.
    """
    if squares <= 0:
        return 1.0
    powers = 1.0
    if keys is not None:
        one, two = (p.mean(axis=(-2, -1)) for p in (keys, keys**2))
        powers = float((one * two).mean() / (one**3).mean())
    return 1 + share * max(1 / (squares * powers) - 1, 0.0)


def queries_of_product(call: Call) -> float:
    """Where a batched product makes the logits, of unit vectors or others; 1 for any other."""
    softmax = softmax_of_logits(call) if call.name in ("bmm", "baddbmm") else None
    kept: Shares | None = None if softmax is None else call.parts.kept(softmax, "shares")
    left = 1.0 if kept is None else left_along_unit_queries(kept)
    share = None if softmax is None else call.parts.kept(softmax, "leaning")
    if softmax is None or not share:
        return left
    shares = call.states[softmax.outputs[0]]
    count = shares.shape[int(softmax.args[1]) % len(shares.shape)]
    keys = call.state(2 if call.name == "baddbmm" else 1).profile
    return left * query_alignment(share, shares.second_moment * count, keys)


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
