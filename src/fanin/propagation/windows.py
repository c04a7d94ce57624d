"""Windows over positions: what pools and resized maps share."""

from collections.abc import Sequence

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.carrying import Carry, forgotten, resampled
from fanin.propagation.layout import Axes, atom_range, average_weights, fit, plain_axes
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State


def spatial_axes(call: Call, count: int) -> list[int]:
    """The last ``count`` axes of the first input."""
    rank = len(call.state(0).shape)
    return list(range(rank - count, rank))


def per_axis(value: object, count: int) -> tuple[int, ...]:
    """A setting as one number an axis."""
    found = tuple(value) if isinstance(value, tuple | list) else (int(str(value)),)
    return found * count if len(found) == 1 else found


def under_plain(state: State) -> Array:
    """Pair moments with one atom an axis."""
    return fit(state.pairs, state.axes, plain_axes(state.shape))


def window_average(pairs: Array, axes: Axes, dims: Sequence[int], sizes: Sequence[int]) -> Array:
    """Pair moments of the mean over windows: neighbours share what any two positions share."""
    for dim, size in zip(dims, sizes, strict=True):
        if size == 1 or not axes[dim]:
            continue
        position = atom_range(axes, dim).start
        differ = np.take(pairs, 1, position)
        same = np.tensordot(pairs, average_weights(size), axes=(position, 0))
        pairs = np.stack([same, differ], axis=position)
    return pairs


def resized(pairs: Array, given: Sequence[int], made: Sequence[int]) -> Array:
    """Drop the atoms of axes that became 1 and add those of axes that no longer are."""
    for i in reversed(range(len(given))):
        if given[i] != 1 and made[i] == 1:
            position = sum(1 for n in given[:i] if n != 1)
            pairs = np.take(pairs, 0, position)
    position = 0
    for before, after in zip(given, made, strict=True):
        if before == 1 and after != 1:
            pairs = np.stack([pairs, pairs], axis=position)
        position += 1 if after != 1 else 0
    return pairs


def to_windows(call: Call, dims: Sequence[int]) -> Carry:
    """Each place receives from the windows that it lies in."""
    state, made = call.state(0), call.shape()
    count = len(dims)
    adaptive = call.name.lstrip("_").startswith("adaptive")
    steps = {}
    for k, d in enumerate(dims):
        n, out = state.shape[d], made[d]
        if n * out > 1 << 22:
            return forgotten
        if adaptive:
            first = np.arange(out) * n // out
            last = -(-(np.arange(out) + 1) * n // out)
        else:
            taps = per_axis(call.raw(1), count)[k]
            stride = per_axis(call.raw(2) or call.raw(1), count)[k]
            first = np.arange(out) * stride - per_axis(call.raw(3, "padding", 0) or 0, count)[k]
            last = first + taps
        places = np.arange(n)[:, None]
        steps[d] = ((places >= first) & (places < last)).astype(float)
    return resampled(steps)
