"""The largest number along an axis."""

from math import exp, lgamma

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.carrying import grown
from fanin.propagation.columns import columns_behind
from fanin.propagation.layout import atoms_of, fit, plain_axes
from fanin.propagation.maxima import (
    below_nodes,
    correlation_of_maxima,
    values_of_largest,
    weights_of_largest,
)
from fanin.propagation.quadrature import WEIGHTS, Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, distributed, gaussian


@forward("max", "amax")
def largest_along(call: Call) -> list[State | None] | None:
    """The largest along one axis of equicorrelated normals; None where its place is asked for."""
    state, dim = call.state(0), _reduced_axis(call)
    if dim is None or np.any(np.diff(state.values) < -1e-12) or state.profile is not None:
        return None
    if any(call.graph.consumers.get(out) for out in call.operation.outputs[1:]):
        return None
    axes, n = plain_axes(state.shape), state.shape[dim]
    correlations = fit(state.base.correlations, state.axes, axes)
    position = sum(m != 1 for m in state.shape[:dim])
    near = float(np.take(correlations, 1, position).flat[0]) if n > 1 else 1.0
    weights = weights_of_largest(n, round(max(near, 0.0), 3))
    mean, square = float(weights @ state.values), float(weights @ state.values**2)
    relative = correlations
    if n > 1:
        relative = correlation_of_maxima(
            np.take(correlations, 0, position), np.take(correlations, 1, position), n
        )
    level, levels = _levels(call, state, position if n > 1 else None)
    own, both = mean - state.mean, state.mean**2 + 2 * state.mean * (mean - state.mean) * level
    pairs = both + own**2 * levels + (square - mean**2) * relative
    made = gaussian(plain_axes(call.shape()), state.mean + own * level, pairs)
    if made.base.std > 0:
        made = distributed(made, values_of_largest(state.values, weights, square))
    rest = [None] * (len(call.operation.outputs) - 1)
    return [made.with_flags(state), *rest]


def _levels(call: Call, state: State, reduced: int | None) -> tuple[float, Array]:
    """E[σ] of the units of a narrow matrix, and E[σ σ′] for pairs of maxima, over E[σ²].

    A unit of n weights has the variance Σ w² in all samples, places and windows: the mean of its
    maximum goes with σ, χ of n numbers, while different units differ in theirs.
    """
    axes = plain_axes(state.shape)
    rank = len(atoms_of(axes)) - (reduced is not None)
    even = np.ones((1,) * rank)
    tensor = call.tensor(0)
    straight = float(np.ptp(state.values - state.base.values)) <= 1e-6 * state.base.std
    found = None
    if tensor is not None and straight:
        found = columns_behind(call.graph, tensor, axes)
    if found is None:
        return 1.0, even
    product, numbered = found
    weight = call.graph.tensors[product.inputs[-1]]
    terms = weight.shape[0]
    if not weight.of_parameters and weight.kind != "parameter":
        return 1.0, even
    root = exp(lgamma((terms + 1) / 2) - lgamma(terms / 2)) * (2 / terms) ** 0.5
    kept = [column for k, column in enumerate(numbered) if k != reduced]
    same = even
    for k, column in enumerate(kept):
        if column:
            same = same * np.array([1.0, 0.0]).reshape([2 if p == k else 1 for p in range(rank)])
    return root, same + (1 - same) * root**2


@backward("max", "amax")
def largest_along_backward(call: Call) -> list[Pass] | None:
    """G to the largest, one of n."""
    state, made, dim, tensor = call.state(0), call.made(), _reduced_axis(call), call.tensor(0)
    if dim is None:
        return None
    if tensor is None:
        return []
    n = state.shape[dim]
    chance = below_nodes() ** (n - 1)
    position = sum(m != 1 for m in state.shape[:dim])

    def move(pairs: Array) -> Array:
        found = fit(pairs, made.axes, plain_axes(made.shape))
        moved = found / n**2
        moved.flat[0] = found.flat[0] / n
        if n > 1:
            # Of two along the axis only one is the largest.
            apart = moved.copy()
            apart.flat[0] = 0.0
            moved = np.stack([moved, apart], axis=position)
        return fit(moved, plain_axes(state.shape), state.axes)

    keeps = len(made.shape) == len(state.shape)
    carry = grown(len(state.shape), [] if keeps else [dim])
    return [Pass(tensor, move, profile=np.sqrt(chance / float(WEIGHTS @ chance)), carry=carry)]


def _reduced_axis(call: Call) -> int | None:
    """The one axis that a maximum runs over; None for all of them, several, or two tensors."""
    value, rank = call.raw(1, "dim"), len(call.state(0).shape)
    if isinstance(value, tuple | list) and len(value) == 1:
        value = value[0]
    return value % rank if isinstance(value, int) and rank and not isinstance(value, bool) else None
