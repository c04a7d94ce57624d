"""Pooling and resizing: averages, maxima of windows, nearest and linear interpolation."""

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.carrying import Carry, forgotten, resampled
from fanin.propagation.layout import Axes, atom_range, average_weights, fit, plain_axes
from fanin.propagation.profile import MOST_PLACES, Profile
from fanin.propagation.quadrature import NODES, WEIGHTS, Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian, with_powers


def _spatial(call: Call, count: int) -> list[int]:
    rank = len(call.state(0).shape)
    return list(range(rank - count, rank))


def _window(value: object, count: int) -> tuple[int, ...]:
    found = tuple(value) if isinstance(value, tuple | list) else (int(str(value)),)
    return found * count if len(found) == 1 else found


def _under_plain(state: State) -> Array:
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


def _average_windows(call: Call) -> tuple[list[int], tuple[float, ...]]:
    """Spatial axes and the mean number of elements that a window averages along each."""
    state, made = call.state(0), call.shape()
    if call.name.startswith(("_adaptive", "adaptive")):
        count = len(_window(call.raw(1), 1)) if isinstance(call.raw(1), tuple | list) else 1
        dims = _spatial(call, count)
        return dims, tuple(max(state.shape[d] / max(made[d], 1), 1.0) for d in dims)
    count = int(call.name[-2])
    dims = _spatial(call, count)
    padding = _window(call.raw(3, "padding", 0) or 0, count)
    # A window beyond the borders averages what there is.
    return dims, tuple(
        float(min(k, state.shape[d] + 2 * p))
        for d, k, p in zip(dims, _window(call.raw(1), count), padding, strict=True)
    )


@forward("avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
         "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")  # fmt: skip
def average_pool(call: Call) -> State:
    """μ² + var (1 + (k − 1) ρ) / k."""
    state = call.state(0)
    dims, sizes = _average_windows(call)
    axes = plain_axes(state.shape)
    pairs = window_average(_under_plain(state), axes, dims, [max(round(s), 1) for s in sizes])
    share = 1.0
    if not call.name.lstrip("_").startswith("adaptive"):
        share = _padding_share(call, dims)
    pairs = resized(pairs, state.shape, call.shape()) * share
    mean = state.mean * share**0.5
    made = gaussian(plain_axes(call.shape()), mean, pairs).with_flags(state)
    if call.name.lstrip("_").startswith("adaptive"):
        return with_powers(made, _pooled_profile(state.profile, state.shape, call.shape()))
    return with_powers(made, _window_powers(call, dims, made))


def _pooled_profile(profile: Profile, given: Sequence[int], made: Sequence[int]) -> Profile:
    """Mean powers of equal stretches of each axis; None where the axes do not divide."""
    if profile is None:
        return None
    found = profile
    for d, (n, m) in enumerate(zip(given, made, strict=True)):
        if found.shape[d] == 1 or n == m:
            continue
        if n % m:
            return None
        shape = (*found.shape[:d], m, n // m, *found.shape[d + 1 :])
        found = found.reshape(shape).mean(axis=d + 1)
    return found


def _window_powers(call: Call, dims: Sequence[int], made: State) -> Array | None:
    """Powers of window means place by place: borders average fewer, or padding among them."""
    state, count = call.state(0), len(dims)
    kernel = _window(call.raw(1), count)
    stride = _window(call.raw(2) or kernel, count)
    padding = _window(call.raw(3, "padding", 0) or 0, count)
    shape = call.shape()
    if made.second_moment <= 0 or (not any(padding) and state.profile is None):
        return None
    if prod(shape[d] for d in dims) > MOST_PLACES:
        return None
    pairs, axes = _under_plain(state), plain_axes(state.shape)
    includes = call.raw(5, "count_include_pad", True)
    for position in reversed(range(pairs.ndim)):
        if not any(axes[d] and atom_range(axes, d).start == position for d in dims):
            pairs = np.take(pairs, 0, position)
    powers = pairs
    valid = np.ones(())
    for d, k, s, p in zip(dims, kernel, stride, padding, strict=True):
        starts = np.arange(shape[d]) * s - p
        inside = np.minimum(starts + k, state.shape[d]) - np.maximum(starts, 0)
        inside = np.maximum(inside, 1)
        if axes[d]:
            weights = np.stack([1 / inside, 1 - 1 / inside])
            powers = np.tensordot(powers, weights, axes=(0, 0))
        else:
            powers = np.multiply.outer(powers, np.ones(len(inside)))
        valid = np.multiply.outer(valid, (inside / k) ** 2 if includes else np.ones(len(inside)))
    found = (powers * valid).reshape((1,) * (len(shape) - count) + powers.shape)
    return np.asarray(found / made.second_moment)


def _padding_share(call: Call, dims: Sequence[int]) -> float:
    """Mean square share of a window that padding leaves, where padding counts."""
    count = len(dims)
    padding = _window(call.raw(3, "padding", 0) or 0, count)
    includes = call.raw(5, "count_include_pad", True)
    if not any(padding) or not includes:
        return 1.0
    kernel = _window(call.raw(1), count)
    stride = _window(call.raw(2) or kernel, count)
    share = 1.0
    for d, k, s, p in zip(dims, kernel, stride, padding, strict=True):
        starts = np.arange(call.shape()[d]) * s - p
        inside = np.minimum(starts + k, call.state(0).shape[d]) - np.maximum(starts, 0)
        share *= float(((inside / k) ** 2).mean())
    return share


@backward("avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
          "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
          "adaptive_avg_pool3d")  # fmt: skip
def average_pool_backward(call: Call) -> list[Pass]:
    """G / k, to each element of the window; overlapping windows add."""
    tensor, state, made = call.tensor(0), call.state(0), call.made()
    if tensor is None:
        return []
    dims, sizes = _average_windows(call)

    def move(pairs: Array) -> Array:
        found = fit(pairs, made.axes, plain_axes(made.shape))
        found = resized(found, made.shape, state.shape)
        for d, size in zip(dims, sizes, strict=True):
            reached = made.shape[d] * size / state.shape[d]
            found = found * reached / size**2
        return fit(found, plain_axes(state.shape), state.axes)

    return [Pass(tensor, move, carry=_windows(call, dims))]


def _windows(call: Call, dims: Sequence[int]) -> Carry:
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
            taps = _window(call.raw(1), count)[k]
            stride = _window(call.raw(2) or call.raw(1), count)[k]
            first = np.arange(out) * stride - _window(call.raw(3, "padding", 0) or 0, count)[k]
            last = first + taps
        places = np.arange(n)[:, None]
        steps[d] = ((places >= first) & (places < last)).astype(float)
    return resampled(steps)


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
    """The largest of k equicorrelated normals, through the increasing function that made them."""
    state = call.state(0)
    if np.any(np.diff(state.values) < -1e-12):
        return None  # not increasing in its base: the largest input is not at the largest base
    count, size = _max_window(call)
    base = state.base
    dims = _spatial(call, count)
    axes = plain_axes(state.shape)
    correlations = fit(base.correlations, state.axes, axes)
    near = 0.0
    atoms = [atom_range(axes, d).start for d in dims if axes[d]]
    if atoms:
        picks = [float(np.take(correlations, 1, a).flat[0]) for a in atoms]
        near = float(np.mean(picks))
    weights = _order_weights(size, round(max(near, 0.0), 3))
    mean = float(weights @ state.values)
    square = float(weights @ state.values**2)
    own = fit(state.pairs, state.axes, axes) - state.mean**2
    relative = own / own.flat[0] if own.flat[0] > 0 else np.ones_like(own)
    pairs = mean**2 + (square - mean**2) * relative
    pairs = resized(pairs, state.shape, call.shape())
    made = gaussian(plain_axes(call.shape()), mean, pairs).with_flags(state)
    return [made, *[None] * (len(call.operation.outputs) - 1)]


def _max_window(call: Call) -> tuple[int, int]:
    if call.name.startswith("adaptive"):
        dims = len(call.raw(1))
        given, made = call.state(0).shape, call.shape()
        ratio = [given[-k] / max(made[-k], 1) for k in range(1, dims + 1)]
        return dims, max(round(prod(ratio)), 1)
    count = 3 if "3d" in call.name else 1 if "1d" in call.name else 2
    kernel = _window(call.raw(1), count)
    stride = _window(call.raw(2) or kernel, count)
    padding = _window(call.raw(3, "padding", 0) or 0, count)
    size = 1.0
    for k, (taps, s, p) in enumerate(zip(kernel, stride, padding, strict=True)):
        n = call.state(0).shape[len(call.state(0).shape) - count + k]
        out = call.shape()[len(call.shape()) - count + k]
        starts = np.arange(out) * s - p
        size *= float((np.minimum(starts + taps, n) - np.maximum(starts, 0)).mean())
    return count, max(round(size), 1)


@backward("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d",
          "adaptive_max_pool3d", "adaptive_max_pool1d", "max_pool2d", "max_pool1d",
          "mkldnn_max_pool2d", "max_pool1d_with_indices")  # fmt: skip
def max_pool_backward(call: Call) -> list[Pass]:
    """G to the largest of each window."""
    tensor, state, made = call.tensor(0), call.state(0), call.made()
    if tensor is None:
        return []

    _, size = _max_window(call)
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

    carry = _windows(call, _spatial(call, _max_window(call)[0]))
    return [Pass(tensor, move, profile=np.sqrt(chance / mean_chance), carry=carry)]


@lru_cache(maxsize=1)
def _cumulative() -> Array:
    """Φ on the nodes."""
    from torch import erf, from_numpy

    return np.asarray(0.5 * (1 + erf(from_numpy(NODES / np.sqrt(2))).numpy()))


_NEAREST = ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
            "_upsample_nearest_exact1d", "_upsample_nearest_exact2d")  # fmt: skip


@forward(*_NEAREST, "pixel_shuffle_copy")
def upsample_nearest(call: Call) -> State:
    """Copies: each position stands for several."""
    state = call.state(0)
    pairs = resized(_under_plain(state), state.shape, call.shape())
    return gaussian(plain_axes(call.shape()), state.mean, pairs).with_flags(state)


@backward(*_NEAREST)
def upsample_nearest_backward(call: Call) -> list[Pass]:
    """The sum over the copies."""
    tensor, state, made = call.tensor(0), call.state(0), call.made()
    if tensor is None:
        return []
    axes = plain_axes(made.shape)
    dims = [i for i, (a, b) in enumerate(zip(state.shape, made.shape, strict=True)) if a != b]

    def move(pairs: Array) -> Array:
        found = fit(pairs, made.axes, axes)
        ratios = [max(made.shape[d] // state.shape[d], 1) for d in dims]
        found = window_average(found, axes, dims, ratios) * prod(ratios) ** 2
        found = resized(found, made.shape, state.shape)
        return fit(found, plain_axes(state.shape), state.axes)

    steps = {
        d: (np.arange(state.shape[d])[:, None] == np.arange(made.shape[d]) * state.shape[d]
            // made.shape[d]).astype(float)
        for d in dims
    }  # fmt: skip
    return [Pass(tensor, move, carry=resampled(steps) if steps else None)]
