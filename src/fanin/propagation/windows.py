"""Windows over positions: what pools and resized maps share."""

from collections.abc import Mapping, Sequence

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.carrying import Carry, forgotten, resampled
from fanin.propagation.layout import Axes, atom_range, fit, plain_axes
from fanin.propagation.nearness import NONE, Near, off_diagonal
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


def window_average(
    pairs: Array,
    axes: Axes,
    dims: Sequence[int],
    sizes: Sequence[int],
    shares: Mapping[int, tuple[float, float]] | None = None,
) -> Array:
    """Pair moments of the mean over windows.

    Args:
        pairs: with one atom an axis.
        axes: of the tensor.
        dims: over which windows run.
        sizes: of the windows.
        shares: by axis, where windows overlap or neighbours are alike: Σ a R a of a window's
            shares and Σ a R a′ of two windows'; 1/size and 0 elsewhere.
    """
    for dim, size in zip(dims, sizes, strict=True):
        if size == 1 or not axes[dim]:
            continue
        position = atom_range(axes, dim).start
        own, other = (shares or {}).get(dim, (1 / size, 0.0))
        same = np.tensordot(pairs, np.array([own, 1 - own]), axes=(position, 0))
        differ = np.tensordot(pairs, np.array([other, 1 - other]), axes=(position, 0))
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


def windows_along(call: Call, dims: Sequence[int]) -> dict[int, Array] | None:
    """Which places each window holds, by axis, as 0 and 1: (windows, places); None if too many."""
    state, made = call.state(0), call.shape()
    count = len(dims)
    adaptive = call.name.lstrip("_").startswith("adaptive")
    found = {}
    for k, d in enumerate(dims):
        n, out = state.shape[d], made[d]
        if n * out > 1 << 22:
            return None
        if adaptive:
            first = np.arange(out) * n // out
            last = -(-(np.arange(out) + 1) * n // out)
        else:
            taps = per_axis(call.raw(1), count)[k]
            stride = per_axis(call.raw(2) or call.raw(1), count)[k]
            first = np.arange(out) * stride - per_axis(call.raw(3, "padding", 0) or 0, count)[k]
            last = first + taps
        places = np.arange(n)
        found[d] = ((places >= first[:, None]) & (places < last[:, None])).astype(float)
    return found


def pulled_back(
    pairs: Array,
    made: Sequence[int],
    given: Sequence[int],
    matrices: Mapping[int, Array],
    near: Near = NONE,
) -> Array:
    """Pair moments of Aᵀ g, axis by axis: of each old place all the new ones it is part of.

    Args:
        pairs: of g, one atom an axis.
        made: shape of g.
        given: shape of what A was applied to.
        matrices: A of some axes, (made, given).
        near: which of the new places are alike.
    """
    found = resized(pairs, made, given)
    for d, a in matrices.items():
        own, all_pairs = a.T @ near.get(d, np.eye(len(a))) @ a, np.outer(a.sum(0), a.sum(0))
        if given[d] == 1:
            # One old place: the sum over all the new ones.
            at = sum(m != 1 for m in made[:d])
            ratio = pairs.take(1, at).flat[0] / pairs.flat[0] if made[d] > 1 else 1.0
            found = found * (float(own[0, 0]) + float(all_pairs[0, 0] - own[0, 0]) * ratio)
            continue
        at = sum(m != 1 for m in given[:d])
        same, differ = np.take(found, 0, at), np.take(found, 1, at)
        one, two = float(np.diag(own).mean()), off_diagonal(own)
        whole_one, whole_two = float(np.diag(all_pairs).mean()), off_diagonal(all_pairs)
        found = np.stack(
            [one * same + (whole_one - one) * differ, two * same + (whole_two - two) * differ],
            axis=at,
        )
    return found


def to_windows(call: Call, dims: Sequence[int]) -> Carry:
    """Each place receives from the windows that it lies in."""
    found = windows_along(call, dims)
    return forgotten if found is None else resampled({d: a.T for d, a in found.items()})
