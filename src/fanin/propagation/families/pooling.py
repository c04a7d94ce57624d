"""Averages over windows."""

from collections.abc import Sequence
from math import prod

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.layout import atom_range, fit, plain_axes
from fanin.propagation.nearness import Near, by_matrices, off_diagonal
from fanin.propagation.profile import MOST_PLACES, Profile
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian, with_powers
from fanin.propagation.windows import (
    per_axis,
    pulled_back,
    resized,
    spatial_axes,
    to_windows,
    under_plain,
    window_average,
    windows_along,
)


def _average_windows(call: Call) -> tuple[list[int], tuple[float, ...]]:
    """Spatial axes and the mean number of elements that a window averages along each."""
    state, made = call.state(0), call.shape()
    if call.name.startswith(("_adaptive", "adaptive")):
        count = len(per_axis(call.raw(1), 1)) if isinstance(call.raw(1), tuple | list) else 1
        dims = spatial_axes(call, count)
        return dims, tuple(max(state.shape[d] / max(made[d], 1), 1.0) for d in dims)
    count = int(call.name[-2])
    dims = spatial_axes(call, count)
    padding = per_axis(call.raw(3, "padding", 0) or 0, count)
    # A window beyond the borders averages what there is.
    return dims, tuple(
        float(min(k, state.shape[d] + 2 * p))
        for d, k, p in zip(dims, per_axis(call.raw(1), count), padding, strict=True)
    )


@forward("avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
         "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")  # fmt: skip
def average_pool(call: Call) -> State:
    """μ² + var (1 + (k − 1) ρ) / k."""
    state = call.state(0)
    dims, sizes = _average_windows(call)
    axes = plain_axes(state.shape)
    plain, near = under_plain(state), call.nearness(0)
    windows = windows_along(call, dims) if near or _overlaps(call, dims, sizes) else None
    matrices = {} if windows is None else _averages(call, windows, sizes)
    counts = [max(round(s), 1) for s in sizes]
    together = _together(matrices, near)
    shares = {d: (float(np.diag(a).mean()), off_diagonal(a)) for d, a in together.items()}
    pairs = window_average(plain, axes, dims, counts, shares)
    call.leave_nearness(by_matrices(plain, state.shape, matrices, near))
    share = 1.0
    if not call.name.lstrip("_").startswith("adaptive"):
        share = _padding_share(call, dims)
    pairs = resized(pairs, state.shape, call.shape()) * share
    mean = state.mean * share**0.5
    made = gaussian(plain_axes(call.shape()), mean, pairs).with_flags(state)
    if call.name.lstrip("_").startswith("adaptive"):
        return with_powers(made, _pooled_profile(state.profile, state.shape, call.shape()))
    return with_powers(made, _window_powers(call, dims, made, together))


def _overlaps(call: Call, dims: Sequence[int], sizes: Sequence[float]) -> bool:
    """Whether windows hold more numbers than there are."""
    given, made = call.state(0).shape, call.shape()
    return any(size * made[d] > 1.01 * given[d] for d, size in zip(dims, sizes, strict=True))


def _together(matrices: dict[int, Array], near: Near) -> dict[int, Array]:
    """Σ a R a′ of the shares a of windows, by axis: (windows, windows)."""
    found = {}
    for d, a in matrices.items():
        whole = a / np.maximum(a.sum(axis=1, keepdims=True), 1e-12)
        found[d] = np.asarray(whole @ near.get(d, np.eye(a.shape[1])) @ whole.T)
    return found


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


def _window_powers(
    call: Call, dims: Sequence[int], made: State, together: dict[int, Array]
) -> Array | None:
    """Powers of window means place by place: borders average fewer, or padding among them.

    Args:
        call: the pool.
        dims: over which windows run.
        made: the means, on average.
        together: see ``_together``.
    """
    state, count = call.state(0), len(dims)
    kernel = per_axis(call.raw(1), count)
    stride = per_axis(call.raw(2) or kernel, count)
    padding = per_axis(call.raw(3, "padding", 0) or 0, count)
    shape = call.shape()
    if made.second_moment <= 0 or (not any(padding) and state.profile is None):
        return None
    if prod(shape[d] for d in dims) > MOST_PLACES:
        return None
    pairs, axes = under_plain(state), plain_axes(state.shape)
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
            own = np.diag(together[d]) if d in together else 1 / inside
            weights = np.stack([own, 1 - own])
            powers = np.tensordot(powers, weights, axes=(0, 0))
        else:
            powers = np.multiply.outer(powers, np.ones(len(inside)))
        valid = np.multiply.outer(valid, (inside / k) ** 2 if includes else np.ones(len(inside)))
    found = (powers * valid).reshape((1,) * (len(shape) - count) + powers.shape)
    return np.asarray(found / made.second_moment)


def _padding_share(call: Call, dims: Sequence[int]) -> float:
    """Mean square share of a window that padding leaves, where padding counts."""
    count = len(dims)
    padding = per_axis(call.raw(3, "padding", 0) or 0, count)
    includes = call.raw(5, "count_include_pad", True)
    if not any(padding) or not includes:
        return 1.0
    kernel = per_axis(call.raw(1), count)
    stride = per_axis(call.raw(2) or kernel, count)
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
    windows = windows_along(call, dims)

    def move_near(pairs: Array, near: Near) -> tuple[Array, Near]:
        plain = fit(pairs, made.axes, plain_axes(made.shape))
        left: Near = {}
        if windows is None:
            found = resized(plain, made.shape, state.shape)
            for d, size in zip(dims, sizes, strict=True):
                found = found * (made.shape[d] / (state.shape[d] * size))
        else:
            averages = _averages(call, windows, sizes)
            found = pulled_back(plain, made.shape, state.shape, averages, near)
            back = {d: a.T for d, a in averages.items()}
            left = by_matrices(plain, made.shape, back, near)
        return fit(found, plain_axes(state.shape), state.axes), left

    def move(pairs: Array) -> Array:
        return move_near(pairs, {})[0]

    return [Pass(tensor, move, carry=to_windows(call, dims), move_near=move_near)]


def _averages(call: Call, windows: dict[int, Array], sizes: Sequence[float]) -> dict[int, Array]:
    """What each window takes from each place, by axis."""
    adaptive = call.name.lstrip("_").startswith("adaptive")
    includes = not adaptive and bool(call.raw(5, "count_include_pad", True))
    return {
        d: a / (size if includes else np.maximum(a.sum(axis=1, keepdims=True), 1))
        for (d, a), size in zip(windows.items(), sizes, strict=True)
    }
