"""The largest of a window: maxima of equicorrelated normals, through an increasing function."""

from math import prod

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.layout import atom_range, fit, plain_axes
from fanin.propagation.maxima import below_nodes, values_of_largest, weights_of_largest
from fanin.propagation.nearness import settled
from fanin.propagation.overlapping_maxima import kernels_of_windows, sharing
from fanin.propagation.profile import MOST_PLACES
from fanin.propagation.quadrature import WEIGHTS, Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, distributed, gaussian, with_powers
from fanin.propagation.taps import zeros_around
from fanin.propagation.windows import per_axis, resized, spatial_axes, to_windows

_NAMES = (
    "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "adaptive_max_pool1d", "max_pool2d", "max_pool1d",
    "mkldnn_max_pool2d", "max_pool1d_with_indices",
)  # fmt: skip


@forward(*_NAMES)
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
        weights, here = weights_of_largest(int(size), near), (sizes == size) & (zeros == zero)
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
    if made.base.std > 0:
        made = distributed(made, values_of_largest(state.values, mass, second))
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


@backward(*_NAMES)
def max_pool_backward(call: Call) -> list[Pass]:
    """G to the largest of each window."""
    tensor, state, made = call.tensor(0), call.state(0), call.made()
    if tensor is None:
        return []

    count = _space(call)
    sizes, _, _ = _windows_of(call, state, (0,) * count)
    size = max(round(float(sizes.mean())), 1)
    # The chance that the element at base value z is the largest of its window is Φ(z)^(k − 1).
    chance = below_nodes() ** (size - 1)
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
