"""Sums, products and averages of states: the arithmetic that the operation families share."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fanin.propagation.layout import (
    Axes,
    atom_range,
    atoms_of,
    average_over,
    average_weights,
    broadcast_axes,
    sum_weights,
)
from fanin.propagation.quadrature import NODES, Array
from fanin.propagation.state import Base, State, function_of, gaussian


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
    return replace(
        state,
        mean=state.mean + offset,
        pairs=state.pairs + 2 * offset * state.mean + offset**2,
        values=state.values + offset,
        known=None if state.known is None else state.known + offset,
    )


def aligned(one: State, two: State) -> tuple[State, State]:
    """Both states under the axes of their broadcast result."""
    axes, ones, twos = broadcast_axes(
        one.axes, (one.pairs, one.base.pairs), two.axes, (two.pairs, two.base.pairs)
    )
    return _under(one, axes, ones), _under(two, axes, twos)


def _under(state: State, axes: Axes, arrays: Sequence[Array]) -> State:
    base = Base(state.base.key, state.base.mean, state.base.std, arrays[1])
    pieces = state.pieces if len(axes) == len(state.axes) else None
    return replace(state, axes=axes, pairs=arrays[0], base=base, pieces=pieces)


def added(one: State, two: State, covariance: Array | float = 0.0) -> State:
    """X + y for broadcast states, given E[x y′] − E[x]E[y] under their common axes."""
    one, two = aligned(one, two)
    blocked = one.blocked if two.blocked is None else two.blocked
    if two.is_constant:
        return replace(shifted(one, two.mean), blocked=blocked).with_flags(two)
    if one.is_constant:
        return replace(shifted(two, one.mean), blocked=blocked).with_flags(one)
    if one.base.key == two.base.key:
        return function_of(one, one.values + two.values).with_flags(two)
    pairs = one.pairs + two.pairs + 2 * (one.mean * two.mean + covariance)
    total = gaussian(one.axes, one.mean + two.mean, pairs).with_flags(one, two)
    return replace(total, blocked=blocked)


def multiplied(one: State, two: State) -> State:
    """X · y: by quadrature where both are functions of the same numbers, else independent."""
    one, two = aligned(one, two)
    if two.is_constant:
        return scaled(one, two.mean).with_flags(two)
    if one.is_constant:
        return scaled(two, one.mean).with_flags(one)
    if one.base.key == two.base.key:
        return function_of(one, one.values * two.values).with_flags(two)
    return gaussian(one.axes, one.mean * two.mean, one.pairs * two.pairs).with_flags(one, two)


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
    made = gaussian(axes, factor * state.mean, np.asarray(pairs)).with_flags(state)
    positive = float(state.values.min()) >= 0 and made.mean > 0 and made.base.std > 0
    return replace(made, values=_like_chi_squared(made)) if positive else made


def _like_chi_squared(state: State) -> Array:
    """Values on the nodes for a mean of numbers that are never negative.

    A Gaussian of that mean and variance reaches 0, where 1/√x has no moments; a χ² of equal
    moments does not. Its quantiles by Wilson and Hilferty (1931), held above a hundredth.
    """
    spread = state.variance / (9 * state.mean**2)
    scale: Array = np.maximum(1 - spread + np.sqrt(spread) * NODES, 0.01 ** (1 / 3))
    return state.mean * scale**3


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
