"""The largest of a window: maxima of equicorrelated normals, through an increasing function."""

from functools import lru_cache
from math import exp, lgamma, prod

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.carrying import grown
from fanin.propagation.columns import columns_behind
from fanin.propagation.layout import atom_range, atoms_of, fit, plain_axes
from fanin.propagation.nearness import settled
from fanin.propagation.overlapping_maxima import kernels_of_windows, sharing
from fanin.propagation.profile import MOST_PLACES
from fanin.propagation.quadrature import NODES, WEIGHTS, Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, distributed, gaussian, with_powers
from fanin.propagation.taps import zeros_around
from fanin.propagation.windows import per_axis, resized, spatial_axes, to_windows


@lru_cache(maxsize=512)
def _order_weights(count: int, correlation: float) -> Array:
    """Weights on the nodes: the density of the largest of ``count`` equicorrelated normals."""
    rho = min(max(correlation, 0.0), 1.0)
    if rho >= 1.0 - 1e-9 or count == 1:
        return WEIGHTS
    largest = count * _cumulative() ** (count - 1) * WEIGHTS
    largest /= largest.sum()
    if rho <= 1e-9:
        return np.asarray(largest)
    # The common part √ρ u and the largest of the own parts: their sum, put back on the nodes.
    common = np.linspace(-6, 6, 61)
    mass = np.exp(-(common**2) / 2)
    mass /= mass.sum()
    total = np.zeros_like(NODES)
    step = NODES[1] - NODES[0]
    for u, m in zip(common, mass, strict=True):
        place = np.clip((np.sqrt(rho) * u + np.sqrt(1 - rho) * NODES - NODES[0]) / step, 0,
                        len(NODES) - 1.001)  # fmt: skip
        left = place.astype(int)
        part = place - left
        np.add.at(total, left, m * largest * (1 - part))
        np.add.at(total, left + 1, m * largest * part)
    return total


@forward("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d",
         "adaptive_max_pool3d", "adaptive_max_pool1d", "max_pool2d", "max_pool1d",
         "mkldnn_max_pool2d",
         "max_pool1d_with_indices")  # fmt: skip
def max_pool(call: Call) -> list[State | None] | None:
    """The largest of k equicorrelated normals, through the increasing function that made them.

    Windows at the border hold fewer of them, and zeros where the map was padded before.
    """
    count = _space(call)
    state, before = zeros_around(call, count)
    if np.any(np.diff(state.values) < -1e-12):
        return None  # not increasing in its base: the largest input is not at the largest base
    near = round(max(_nearby(state, call, count), 0.0), 3)
    sizes, zeros, members = _windows_of(call, state, before)
    mean, square, mass = np.zeros(sizes.shape), np.zeros(sizes.shape), np.zeros_like(WEIGHTS)
    for size, zero in sorted(set(zip(sizes.ravel(), zeros.ravel(), strict=True))):
        weights, here = _order_weights(int(size), near), (sizes == size) & (zeros == zero)
        values = np.maximum(state.values, 0.0) if zero else state.values
        mean[here], square[here] = weights @ values, weights @ values**2
        mass += weights * here.mean()
    powers = _powers_read(state, members)
    if powers is not None:
        mean, square = mean * powers**0.5, square * powers
    first, second = float(mean.mean()), float(square.mean())
    axes = plain_axes(state.shape)
    own = fit(state.pairs, state.axes, axes) - state.mean**2
    relative = own / own.flat[0] if own.flat[0] > 0 else np.ones_like(own)
    kernels = kernels_of_windows(dict(zip(spatial_axes(call, count), members, strict=True)))
    relative = sharing(relative, axes, kernels)
    call.leave_nearness({d: r for d, a in kernels.items() if (r := settled(a)) is not None})
    pairs = resized(first**2 + (second - first**2) * relative, state.shape, call.shape())
    made = gaussian(plain_axes(call.shape()), first, pairs).with_flags(state)
    rest = [None] * (len(call.operation.outputs) - 1)
    if second <= 0.0:
        return [made, *rest]
    if square.size <= MOST_PLACES and np.ptp(square) > 0:
        lead = len(call.shape()) - count
        return [with_powers(made, square.reshape((1,) * lead + square.shape) / second), *rest]
    values = np.interp(np.cumsum(WEIGHTS) - WEIGHTS / 2, np.cumsum(mass) - mass / 2, state.values)
    if made.base.std > 0:
        made = distributed(made, values * (second / float(WEIGHTS @ values**2)) ** 0.5)
    return [made, *rest]


def _space(call: Call) -> int:
    if call.name.startswith("adaptive"):
        return len(call.raw(1))
    return 3 if "3d" in call.name else 1 if "1d" in call.name else 2


def _nearby(state: State, call: Call, count: int) -> float:
    """Mean correlation of two places that differ along one axis."""
    axes = plain_axes(state.shape)
    correlations = fit(state.base.correlations, state.axes, axes)
    atoms = [atom_range(axes, d).start for d in spatial_axes(call, count) if axes[d]]
    return float(np.mean([np.take(correlations, 1, a).flat[0] for a in atoms])) if atoms else 0.0


def _powers_read(state: State, members: list[Array]) -> Array | None:
    """Mean power of the numbers in each window; None where all places are alike."""
    count = len(members)
    if state.profile is None or any(a.size > MOST_PLACES for a in members):
        return None
    found = state.profile.mean(axis=tuple(range(state.profile.ndim - count)))
    for k, inside in enumerate(members):
        shares = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
        if found.shape[k] != 1:
            found = np.moveaxis(np.tensordot(shares, found, axes=(1, k)), 0, k)
    return np.broadcast_to(found, [len(a) for a in members])


def _windows_of(
    call: Call, state: State, before: tuple[int, ...]
) -> tuple[Array, Array, list[Array]]:
    """How many numbers each window holds, whether zeros stand beside them, and which they are."""
    count = len(before)
    given, made = state.shape[len(state.shape) - count :], call.shape()[-count:]
    sizes, zeros, members = np.ones(()), np.zeros((), dtype=bool), list[Array]()
    for k, (n, out) in enumerate(zip(given, made, strict=True)):
        places = np.arange(out)
        if call.name.startswith("adaptive"):
            first, last, beyond = places * n // out, -(-(places + 1) * n // out), np.zeros(out)
        else:
            kernel = per_axis(call.raw(1), count)
            stride = per_axis(call.raw(2) or kernel, count)[k]
            own = per_axis(call.raw(3, "padding", 0) or 0, count)[k]
            start = places * stride - own
            # Padding of the pool's own counts as minus infinity: only what was there before is 0.
            padded = call.state(0).shape[len(call.state(0).shape) - count + k]
            from_, to = np.maximum(start, 0), np.minimum(start + kernel[k], padded)
            first = np.maximum(from_ - before[k], 0)
            last = np.minimum(to - before[k], n)
            beyond = (to - from_) - np.maximum(last - first, 0)
        sizes = np.multiply.outer(sizes, np.maximum(last - first, 1))
        zeros = np.logical_or.outer(zeros, beyond > 0)
        there = np.arange(n)
        members.append(((there >= first[:, None]) & (there < last[:, None])).astype(float))
    return sizes, zeros, members


@backward("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d",
          "adaptive_max_pool3d", "adaptive_max_pool1d", "max_pool2d", "max_pool1d",
          "mkldnn_max_pool2d", "max_pool1d_with_indices")  # fmt: skip
def max_pool_backward(call: Call) -> list[Pass]:
    """G to the largest of each window."""
    tensor, state, made = call.tensor(0), call.state(0), call.made()
    if tensor is None:
        return []

    count = _space(call)
    sizes, _, _ = _windows_of(call, state, (0,) * count)
    size = max(round(float(sizes.mean())), 1)
    # The chance that the element at base value z is the largest of its window is Φ(z)^(k − 1).
    chance = _cumulative() ** (size - 1)
    mean_chance = float(WEIGHTS @ chance)
    windows = prod(made.shape) * size / prod(state.shape)

    def move(pairs: Array) -> Array:
        found = resized(fit(pairs, made.axes, plain_axes(made.shape)), made.shape, state.shape)
        share = windows * mean_chance
        moved = found * share**2
        moved.flat[0] = found.flat[0] * share
        return fit(moved, plain_axes(state.shape), state.axes)

    carry = to_windows(call, spatial_axes(call, count))
    return [Pass(tensor, move, profile=np.sqrt(chance / mean_chance), carry=carry)]


@lru_cache(maxsize=1)
def _cumulative() -> Array:
    """Φ on the nodes."""
    from torch import erf, from_numpy

    return np.asarray(0.5 * (1 + erf(from_numpy(NODES / np.sqrt(2))).numpy()))


def correlation_of_maxima(same: Array, across: Array, count: int) -> Array:
    """Correlation of the maxima of two windows of ``count`` equicorrelated normals.

    What all places of both windows share shifts both maxima as a whole: ``across`` adds as it is.
    What is left has the largest of ``count`` strangers, whose correlation starts with the slope
    1/(count · variance), the chance that both windows choose the same place, and ends at 1.

    Args:
        same: correlation of the same place of both windows.
        across: correlation of different places; its first entry that of a window's own places.
        count: places of a window.
    """
    within = min(max(float(across.flat[0]), 0.0), 1.0)
    if within >= 1.0 - 1e-9:
        return same
    weights = _order_weights(count, 0.0)
    spread = float(weights @ NODES**2) - float(weights @ NODES) ** 2
    slope = min(1 / (count * spread), 1.0)
    rest = np.clip((same - across) / (1 - within), 0.0, 1.0)
    chosen = slope * rest + (1 - slope) * rest ** (2 + np.log2(count) / 6)
    found = across + (1 - within) * spread * chosen
    return np.asarray(found / (within + (1 - within) * spread))


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
    weights = _order_weights(n, round(max(near, 0.0), 3))
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
    values = np.interp(np.cumsum(WEIGHTS) - WEIGHTS / 2, np.cumsum(weights) - weights / 2,
                       state.values)  # fmt: skip
    if made.base.std > 0:
        made = distributed(made, values * (square / float(WEIGHTS @ values**2)) ** 0.5)
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
    chance = _cumulative() ** (n - 1)
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
