"""Sums, products and averages of states: the arithmetic that the operation families share."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fanin.propagation import profile as profiles
from fanin.propagation.base import Average
from fanin.propagation.distributions import in_order, is_gaussian, of_sum, strangers
from fanin.propagation.layout import (
    Axes,
    atom_range,
    atoms_of,
    average_over,
    average_weights,
    broadcast_axes,
    shape_of,
    sum_weights,
)
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.quadrature import NODES, Array, expectation
from fanin.propagation.state import (
    State,
    distributed,
    function_of,
    gaussian,
    moved_profiles,
)


def scaled(state: State, factor: float) -> State:
    """Factor · x."""
    if factor == 1.0:
        return state
    return replace(
        state,
        mean=factor * state.mean,
        pairs=factor**2 * state.pairs,
        values=factor * state.values,
        known=None if state.known is None else state.known * factor,
        blocked=state.blocked,
    )


def shifted(state: State, offset: float) -> State:
    """X + offset, the offset the same everywhere."""
    if offset == 0.0:
        return state
    profile = state.profile
    if profile is not None:
        q, root = state.second_moment, np.sqrt(profile)
        cross = 2 * offset * state.mean * root / root.mean()
        profile, _ = settled(np.maximum(q * profile + cross + offset**2, 0.0))
    return replace(
        state,
        mean=state.mean + offset,
        pairs=state.pairs + 2 * offset * state.mean + offset**2,
        values=state.values + offset,
        known=None if state.known is None else state.known + offset,
        profile=profile,
    )


def aligned(one: State, two: State) -> tuple[State, State]:
    """Both states under the axes of their broadcast result."""
    axes, ones, twos = broadcast_axes(
        one.axes, (one.pairs, one.base.pairs), two.axes, (two.pairs, two.base.pairs)
    )
    return _under(one, axes, ones), _under(two, axes, twos)


def _under(state: State, axes: Axes, arrays: Sequence[Array]) -> State:
    rank = len(axes)
    profile, inner = moved_profiles(state, lambda p: None if p is None else even(p, rank))
    base = replace(state.base, pairs=arrays[1], profile=inner)
    pieces = state.pieces if rank == len(state.axes) else None
    known = None if state.known is None else state.known.expand(shape_of(axes))
    return replace(state, axes=axes, pairs=arrays[0], base=base, pieces=pieces, profile=profile,
                   known=known)  # fmt: skip


def added(one: State, two: State, covariance: Array | float = 0.0) -> State:
    """X + y for broadcast states, given E[x y′] − E[x]E[y] under their common axes."""
    one, two = aligned(one, two)
    blocked = either(one.blocked, two.blocked)
    level = one.blocked_level + two.blocked_level
    if two.is_constant:
        made = shifted(one, two.mean).with_flags(two)
        return replace(made, blocked=blocked, blocked_level=level)
    if one.is_constant:
        made = shifted(two, one.mean).with_flags(one)
        return replace(made, blocked=blocked, blocked_level=level)
    if one.base.key == two.base.key:
        return function_of(one, one.values + two.values).with_flags(two)
    shared = one.mean * two.mean + covariance
    pairs = one.pairs + two.pairs + 2 * shared
    powers = one.second_moment, two.second_moment
    cross = float(np.asarray(shared).flat[0])
    profile, q = profiles.added(one.profile, two.profile, powers, cross, len(one.axes))
    if profile is not None or one.profile is not None or two.profile is not None:
        pairs = pairs * (q / pairs.flat[0]) if pairs.flat[0] > 0 else np.full_like(pairs, q)
    total = gaussian(one.axes, one.mean + two.mean, pairs, profile=profile).with_flags(one, two)
    if total.base.std > 0 and not (is_gaussian(one.values) and is_gaussian(two.values)):
        values = of_sum(one.values, two.values)
        total = distributed(total, total.base.mean + total.base.std * values)
    return replace(total, blocked=blocked, blocked_level=level)


def either(one: torch.Tensor | None, two: torch.Tensor | None) -> torch.Tensor | None:
    """Places that one mask or the other blocks."""
    if one is None or two is None:
        return one if two is None else two
    return one | two


def multiplied(one: State, two: State) -> State:
    """X · y: by quadrature where both are functions of the same numbers, else independent."""
    one, two = aligned(one, two)
    if two.is_constant:
        return scaled(one, two.mean).with_flags(two)
    if one.is_constant:
        return scaled(two, one.mean).with_flags(one)
    if one.base.key == two.base.key:
        return function_of(one, one.values * two.values).with_flags(two)
    pairs, mean = one.pairs * two.pairs, one.mean * two.mean
    own = by_its_own_statistic(one, two) or by_its_own_statistic(two, one)
    if own is not None:
        q, profile = own
        scale = q / pairs.flat[0] if pairs.flat[0] > 0 else 0.0
        return gaussian(one.axes, mean * scale**0.5, pairs * scale, profile=profile).with_flags(
            one, two
        )
    profile = None
    if one.profile is not None or two.profile is not None:
        rank = len(one.axes)
        profile, scale = settled(even(one.profile, rank) * even(two.profile, rank))
        pairs = pairs * scale
        # Two that are never there at once have no product.
        mean = mean if scale > 0 else 0.0
    made = gaussian(one.axes, mean, pairs, profile=profile).with_flags(one, two)
    return distributed(made, product_values(one, two, made.second_moment))


def product_values(one: State, two: State, q: float) -> Array:
    """The product of two independent numbers on the nodes, in increasing order."""
    first, second, mass = strangers(one.values, two.values)
    found = in_order(first * second, mass)
    power = expectation(found**2)
    return found * (q / power) ** 0.5 if power > 0 else found


def by_its_own_statistic(one: State, two: State) -> tuple[float, Profile] | None:
    """E[(x g(S))²] for S an average of x² itself: E[S g(S)²]; None where S is nothing of x.

    Norms written out by hand, unit vectors and response normalisation: S of few numbers is far
    from independent of each of them.
    """
    average = two.base.averages
    if average is None or one.base.key not in average.keys:
        return None
    square = one.values**2
    norm = expectation(average.function**2)
    if norm <= 0:
        return None
    ratio = expectation(square * average.function) / norm
    if not np.allclose(square, ratio * average.function, atol=1e-9 * float(square.max())):
        return None
    made = function_of(two, ratio / average.count * average.values * two.values**2)
    profile = made.profile
    if one.profile is not None:
        # Where x is stronger than the rest of what S averages there, so is the product.
        rank = len(one.axes)
        inner = np.sqrt(even(two.base.profile, rank))
        relative = even(one.profile, rank) / np.maximum(inner, 1e-12)
        profile, _ = settled(even(made.profile, rank) * relative)
    return max(made.mean, 0.0), profile


def positions_of(state_axes: Axes, dims: Sequence[int]) -> list[int]:
    """Positions among all atoms of the atoms of the given axes."""
    rank = len(state_axes)
    return [p for d in dims for p in atom_range(state_axes, d % rank if rank else d)]


def averaged(state: State, dims: Sequence[int], keep: bool, *, total: bool = False) -> State:
    """The mean, or the sum, over some axes."""
    rank = len(state.axes)
    chosen = {d % rank for d in dims} if dims else set(range(rank))
    positions = positions_of(state.axes, sorted(chosen))
    atoms = atoms_of(state.axes)
    count = float(np.prod([atoms[p] for p in positions])) if positions else 1.0
    factor = count if total else 1.0
    pairs = average_over(state.pairs, atoms, positions) * factor**2
    axes = tuple(
        () if i in chosen else axis for i, axis in enumerate(state.axes) if keep or i not in chosen
    )
    profile: Profile = None
    if state.profile is not None:
        powers = profiles.averaged(state.profile, sorted(chosen))
        profile, _ = settled(powers if keep else powers.squeeze(tuple(sorted(chosen))))
    made = gaussian(axes, factor * state.mean, np.asarray(pairs), profile=profile)
    made = made.with_flags(state)
    positive = float(state.values.min()) >= 0 and made.mean > 0 and made.base.std > 0
    if positive:
        made = distributed(made, _like_chi_squared(made))
    average = Average(frozenset({state.base.key}), state.values, made.values, factor)
    return replace(made, base=replace(made.base, averages=average))


def one_signed(state: State) -> State:
    """A sum of numbers that all have one sign has it too."""
    if state.mean == 0.0 or state.base.mean == 0.0 or state.base.std == 0.0:
        return state
    if state.mean > 0:
        return distributed(state, _like_chi_squared(state))
    return distributed(state, -_like_chi_squared(_turned(state))[::-1])


def _turned(state: State) -> State:
    base = replace(state.base, mean=-state.base.mean)
    return replace(state, mean=-state.mean, base=base)


def _like_chi_squared(state: State) -> Array:
    """Values on the nodes for a mean of numbers that are never negative.

    A Gaussian of that mean and variance reaches 0, where 1/√x has no moments; a χ² of equal
    moments does not. Its quantiles by Wilson and Hilferty (1931), held above a hundredth.
    """
    base = state.base
    spread = base.std**2 / (9 * base.mean**2)
    scale: Array = np.maximum(1 - spread + np.sqrt(spread) * NODES, 0.01 ** (1 / 3))
    return base.mean * scale**3


def mean_pairs(pairs: Array, axes: Axes, dims: Sequence[int]) -> Array:
    """E[m m′] of the means over some axes, spread over all kinds of pairs again."""
    atoms = atoms_of(axes)
    for position in positions_of(axes, dims):
        mixed = np.tensordot(pairs, average_weights(atoms[position]), axes=(position, 0))
        pairs = np.stack([mixed, mixed], axis=position)
    return pairs


def centred_pairs(pairs: Array, axes: Axes, dims: Sequence[int]) -> Array:
    """Pair moments of x minus its mean over some axes."""
    centred: Array = pairs - mean_pairs(pairs, axes, dims)
    return centred


def summed_pairs(pairs: Array, axes: Axes, dims: Sequence[int]) -> Array:
    """Pair moments of the sum over some axes; their atoms are gone."""
    atoms = atoms_of(axes)
    for position in sorted(positions_of(axes, dims), reverse=True):
        pairs = np.tensordot(pairs, sum_weights(atoms[position]), axes=(position, 0))
    return np.asarray(pairs)


def reduced_to(pairs: Array, axes: Axes, target: Axes) -> tuple[Array, Axes]:
    """Pair moments of a broadcast tensor's gradient, summed back to the axes it came from.

    Returns them with the axes that remain, which have the lengths of ``target``.
    """
    extra = len(axes) - len(target)
    dims = [i for i in range(len(axes)) if i < extra or (axes[i] and not target[i - extra])]
    summed = summed_pairs(pairs, axes, dims)
    rest = tuple(() if i in dims else axis for i, axis in enumerate(axes))[extra:]
    return summed, rest
