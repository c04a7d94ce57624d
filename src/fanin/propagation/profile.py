"""Where along its axes a tensor is strong or weak: second moments place by place.

A class token that starts at zero, the zero border of a padded image, the rows of causal attention
that see few keys and the growing sums of a scan all have powers of their own. A *profile* is an
array that broadcasts to the tensor's shape: E[x²] at that place over E[x²] of the whole tensor,
so that its mean is 1. Axes along which nothing changes have length 1; None stands for no change
at all.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from fanin.propagation.quadrature import Array

Profile = Array | None

MOST_PLACES = 1 << 16
"""Profiles of more places are dropped: the tensor then counts as even."""
FLAT = 1e-3
"""Differences below this share are no profile."""
MOST_LEVELS = 12
"""Distinct powers that a nonlinear function is evaluated at."""


def settled(powers: Array) -> tuple[Profile, float]:
    """A profile of mean 1 from powers of any scale, with their mean; short along even axes."""
    mean = float(powers.mean()) if powers.size else 0.0
    if mean <= 0.0 or not np.isfinite(mean):
        return None, max(mean, 0.0) if np.isfinite(mean) else 0.0
    found = powers / mean
    found = _shortened(found)
    if found.size == 1 or found.size > MOST_PLACES:
        return None, mean
    return found, mean


def _shortened(powers: Array) -> Array:
    """Axes along which nothing changes have length 1."""
    for axis, n in enumerate(powers.shape):
        if n > 1 and np.ptp(powers, axis=axis).max() <= FLAT:
            powers = powers.mean(axis=axis, keepdims=True)
    return powers


def even(profile: Profile, rank: int) -> Array:
    """The profile as an array of that rank."""
    if profile is None:
        return np.ones((1,) * rank)
    return profile.reshape((1,) * (rank - profile.ndim) + profile.shape)


def reshaped(profile: Profile, given: Sequence[int], made: Sequence[int]) -> Profile:
    """The profile of the same elements, in row-major order, under another shape."""
    if profile is None or 0 in given:
        return None
    atoms = _refinement(given, made)
    if atoms is None:
        return None
    fine: list[int] = []
    for n, parts in zip(profile.shape, _grouped(atoms, given), strict=True):
        fine += parts if n != 1 else [1] * len(parts)
    split = profile.reshape(fine)
    shape, grown, at = list[int](), list[int](), 0
    for parts in _grouped(atoms, made):
        inside = split.shape[at : at + len(parts)]
        full = any(n != 1 for n in inside)
        grown += parts if full else [1] * len(parts)
        shape.append(prod(parts) if full else 1)
        at += len(parts)
    if prod(grown) > MOST_PLACES:
        return None
    return _shortened(np.broadcast_to(split, grown).reshape(shape))


def _refinement(given: Sequence[int], made: Sequence[int]) -> list[int] | None:
    """Lengths that both shapes are products of; None where they have none in common."""
    one, two = [n for n in given if n != 1], [n for n in made if n != 1]
    atoms: list[int] = []
    i = j = 0
    a, b = (one[0] if one else 1), (two[0] if two else 1)
    while i < len(one) and j < len(two):
        step = min(a, b)
        if a % step or b % step:
            return None
        atoms.append(step)
        a, b = a // step, b // step
        if a == 1:
            i += 1
            a = one[i] if i < len(one) else 1
        if b == 1:
            j += 1
            b = two[j] if j < len(two) else 1
    return atoms


def _grouped(atoms: Sequence[int], shape: Sequence[int]) -> list[list[int]]:
    groups, at = list[list[int]](), 0
    for length in shape:
        group, left = list[int](), length
        while left > 1:
            group.append(atoms[at])
            left //= atoms[at]
            at += 1
        groups.append(group)
    return groups


def permuted(profile: Profile, order: Sequence[int]) -> Profile:
    """Axes in another order."""
    return None if profile is None else profile.transpose(order)


def taken(profile: Profile, dim: int, places: object) -> tuple[Profile, float]:
    """Some places of one axis (a slice or indices), and their power over the whole's."""
    if profile is None or profile.shape[dim] == 1:
        return profile, 1.0
    picked = profile[(slice(None),) * dim + (places,)]  # type: ignore[index]
    return settled(picked) if picked.size else (None, 1.0)


def averaged(profile: Profile, dims: Sequence[int]) -> Array:
    """Mean powers over some axes, which keep length 1."""
    assert profile is not None
    return np.asarray(profile.mean(axis=tuple(d for d in dims), keepdims=True))


def added(
    one: Profile, two: Profile, powers: tuple[float, float], cross: float, rank: int
) -> tuple[Profile, float]:
    """The profile of a sum and its second moment.

    E[x y] is shared out as the root of both powers, which it cannot exceed at any place: two
    tensors that are never there at once add up in squares, whatever their means.

    Args:
        one: profile of x.
        two: profile of y.
        powers: E[x²] and E[y²].
        cross: E[x y] as it would be without profiles.
        rank: of the sum.
    """
    if one is None and two is None:
        return None, powers[0] + powers[1] + 2 * cross
    a, b = powers[0] * even(one, rank), powers[1] * even(two, rank)
    both = np.sqrt(a * b)
    scale = (powers[0] * powers[1]) ** 0.5
    share = float(np.clip(cross / scale, -1.0, 1.0)) if scale > 0 else 0.0
    return settled(np.maximum(a + b + 2 * share * both, 0.0))


def levels(profile: Array) -> tuple[Array, Array, np.ndarray]:
    """Distinct powers of a profile, their shares, and which of them each place has.

    Where they are many, roots of the power in even steps are joined: a single weak corner keeps a
    level of its own.
    """
    flat = profile.ravel()
    distinct, places = np.unique(np.round(flat, 6), return_inverse=True)
    if len(distinct) > MOST_LEVELS:
        roots = np.sqrt(flat)
        edges = np.linspace(roots.min(), roots.max(), MOST_LEVELS + 1)[1:-1]
        _, places = np.unique(np.searchsorted(edges, roots), return_inverse=True)
        counts = np.bincount(places)
        distinct = np.bincount(places, weights=flat) / counts
    shares: Array = np.bincount(places.ravel(), minlength=len(distinct)) / flat.size
    return distinct, shares, places.reshape(profile.shape)


def at_each_power(profile: Array, function: Callable[[float], float]) -> Array:
    """A smooth function of the power at every place: between a few powers by straight lines."""
    flat = np.round(profile.ravel(), 6)
    distinct, places = np.unique(flat, return_inverse=True)
    if len(distinct) <= MOST_LEVELS:
        return np.array([function(float(p)) for p in distinct])[places].reshape(profile.shape)
    nodes = np.linspace(distinct[0] ** 0.5, distinct[-1] ** 0.5, MOST_LEVELS) ** 2
    found = np.interp(profile.ravel(), nodes, [function(float(p)) for p in nodes])
    return np.asarray(found).reshape(profile.shape)
