"""Concatenation and stacking: size-weighted moments, pairs across the seams included."""

from collections.abc import Sequence
from functools import partial
from math import prod

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry, forgotten, picked, without
from fanin.propagation.families.slices import part_of
from fanin.propagation.layout import (
    Axes,
    atom_range,
    fit,
    plain_axes,
    shape_of,
)
from fanin.propagation.profile import MOST_PLACES, Profile, even, settled, taken
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, constant, gaussian


def common_axes(states: Sequence[State], dim: int) -> Axes:
    """Atoms of all axes but ``dim``, which becomes one atom: those of the largest part."""
    largest = max(states, key=lambda s: s.shape[dim])
    total = sum(s.shape[dim] for s in states)
    return (*largest.axes[:dim], (total,) if total != 1 else (), *largest.axes[dim + 1 :])


def part_pairs(state: State, axes: Axes, dim: int) -> Array:
    """Pair moments of a part, with one atom (of two bits) along ``dim`` and the common others."""
    n = state.shape[dim]
    wanted = (*axes[:dim], (n,) if n != 1 else (), *axes[dim + 1 :])
    pairs = fit(state.pairs, state.axes, wanted)
    if n == 1:
        at = atom_range(axes, dim).start
        pairs = np.stack([pairs, pairs], axis=at)
    return pairs


def joined(states: Sequence[State], dim: int) -> State:
    """The parts one behind the other along an axis."""
    states = [s for s in states if 0 not in s.shape] or list(states[:1])
    if len(states) == 1:
        return states[0]
    dim %= len(states[0].axes)
    axes = common_axes(states, dim)
    sizes = np.array([s.shape[dim] for s in states], float)
    total = sizes.sum()
    at = atom_range(axes, dim).start
    mean = float(sum(n * s.mean for n, s in zip(sizes, states, strict=True)) / total)
    same: Array | float = 0.0
    differ: Array | float = 0.0
    for n, state in zip(sizes, states, strict=True):
        pairs = part_pairs(state, axes, dim)
        same = same + np.take(pairs, 0, at) * n / total
        differ = differ + np.take(pairs, 1, at) * n * (n - 1)
        differ = differ + n * state.mean * (total * mean - n * state.mean)
    differ = np.asarray(differ) / (total * (total - 1))
    pairs = np.stack([np.asarray(same), differ], axis=at)
    profile = joined_powers(states, dim)
    return gaussian(axes, mean, pairs, profile=profile).with_flags(*states)


def joined_powers(states: Sequence[State], dim: int) -> Profile:
    """Powers of the parts one behind the other."""
    rank = len(states[0].axes)
    parts = [s.second_moment * even(s.profile, rank) for s in states]
    lengths = [max(p.shape[i] for p in parts) for i in range(rank)]
    total = sum(s.shape[dim] for s in states)
    if prod(lengths[:dim]) * prod(lengths[dim + 1 :]) * total > MOST_PLACES:
        return None
    grown = [
        np.broadcast_to(p, (*lengths[:dim], s.shape[dim], *lengths[dim + 1 :]))
        for p, s in zip(parts, states, strict=True)
    ]
    return settled(np.concatenate(grown, axis=dim))[0]


@forward("cat", "concat", "concatenate")
def cat(call: Call) -> State:
    """Along an existing axis."""
    states = [call.states[t] for t in call.tensors(0)]
    return joined([s for s in states if len(s.axes) == len(call.shape())], _dim(call))


def _dim(call: Call) -> int:
    return int(call.raw(1, "dim", 0) or 0) % max(len(call.shape()), 1)


@backward("cat", "concat", "concatenate")
def cat_backward(call: Call) -> list[Pass]:
    """Each part receives its own stretch of the gradient."""
    made, dim, passes = call.made(), _dim(call), []
    start = 0
    for tensor in call.tensors(0):
        target = call.states[tensor]
        if 0 in target.shape or len(target.axes) != len(made.axes):
            continue
        move = partial(_stretch, given=made.axes, target=target.axes, dim=dim)
        carry = picked(dim, start, target.shape[dim])
        passes.append(Pass(tensor, move, carry=carry))
        start += target.shape[dim]
    return passes


def _stretch(pairs: Array, given: Axes, target: Axes, dim: int) -> Array:
    n, length = shape_of(given)[dim], shape_of(target)[dim]
    plain = (*given[:dim], (n,) if n != 1 else (), *given[dim + 1 :])
    pairs = fit(pairs, given, plain)
    if n != 1 and length == 1:
        pairs = np.take(pairs, 0, atom_range(plain, dim).start)
    inside = (*given[:dim], (length,) if length != 1 else (), *given[dim + 1 :])
    return fit(pairs, inside, target)


def _stacked(call: Call) -> tuple[list[State], int]:
    states = [call.states[t] for t in call.tensors(0)]
    dim = int(call.raw(1, "dim", 0) or 0) % len(call.shape())
    grown = [
        gaussian(
            (*s.axes[:dim], (), *s.axes[dim:]), s.mean, s.pairs,
            profile=None if s.profile is None else np.expand_dims(s.profile, dim),
        ).with_flags(s)
        for s in states
    ]  # fmt: skip
    return grown, dim


@forward("stack")
def stack(call: Call) -> State:
    """Along a new axis."""
    states, dim = _stacked(call)
    return joined(states, dim)


@backward("stack")
def stack_backward(call: Call) -> list[Pass]:
    """Each part receives its own gradient."""
    made = call.made()
    _, dim = _stacked(call)
    passes = []
    for k, tensor in enumerate(call.tensors(0)):
        target = call.states[tensor].axes
        grown = (*target[:dim], (), *target[dim:])
        move = partial(_stretch, given=made.axes, target=grown, dim=dim)
        passes.append(Pass(tensor, move, carry=without(dim, picked(dim, k, 1))))
    return passes


@forward("constant_pad_nd")
def pad(call: Call) -> State:
    """A constant around: the share of the old elements, axis by axis."""
    state, made = call.state(0), call.shape()
    value = float(call.raw(2, "value", 0) or 0)
    axes = plain_axes(state.shape)
    pairs = fit(state.pairs, state.axes, axes)
    mean, given, profile = state.mean, list(state.shape), state.profile
    # Pairs of widths, from the last axis on.
    flat = [int(w) for w in call.raw(1, "pad")]
    widths = {len(made) - 1 - k: (flat[2 * k], flat[2 * k + 1]) for k in range(len(flat) // 2)}
    for d, (n, m) in enumerate(zip(state.shape, made, strict=True)):
        if widths.get(d, (0, 0)) == (0, 0):
            continue
        before, after = widths.get(d, (0, m - n))
        here = gaussian(plain_axes(given), mean, pairs, profile=profile)
        if before < 0 or after < 0:
            cut = slice(max(-before, 0), n + min(after, 0))
            profile, power = taken(profile, d, cut)
            pairs, mean, given[d] = pairs * power, mean * power**0.5, len(range(n)[cut])
            if given[d] == 1 and n > 1:
                pairs = np.take(pairs, 0, atom_range(here.axes, d).start)
            before, after = max(before, 0), max(after, 0)
            here = gaussian(plain_axes(given), mean, pairs, profile=profile)
            if not before and not after:
                continue
        whole = joined(
            [*_border(given, d, before, value), here, *_border(given, d, after, value)], d
        )
        given[d] = m
        mean, profile = whole.mean, whole.profile
        pairs = fit(whole.pairs, whole.axes, plain_axes(given))
    return gaussian(plain_axes(made), mean, pairs, profile=profile).with_flags(state)


def _border(shape: Sequence[int], dim: int, width: int, value: float) -> list[State]:
    return [constant((*shape[:dim], width, *shape[dim + 1 :]), value)] if width > 0 else []


@backward("constant_pad_nd")
def pad_backward(call: Call) -> list[Pass]:
    """The gradient inside."""
    tensor, state, made = call.tensor(0), call.state(0), call.made()
    if tensor is None:
        return []

    def move(pairs: Array) -> Array:
        given = list(made.shape)
        pairs = fit(pairs, made.axes, plain_axes(given))
        for d, n in enumerate(state.shape):
            if given[d] == n:
                continue
            target = [*given[:d], n, *given[d + 1 :]]
            if given[d] > n:
                pairs = _stretch(pairs, plain_axes(given), plain_axes(target), d)
            else:
                pairs = part_of(pairs, plain_axes(given), plain_axes(target), d)
            given = target
        return fit(pairs, plain_axes(given), state.axes)

    return [Pass(tensor, move, by_value=lambda values: values, carry=_unpadded(call))]


def _unpadded(call: Call) -> Carry:
    """The places inside of the border."""
    state, pads = call.state(0), [int(n) for n in call.raw(1)]
    rank = len(state.shape)

    def carry(profile: Profile) -> Carried:
        factor = 1.0
        for k, before in enumerate(pads[::2]):
            dim = rank - 1 - k
            profile, share = picked(dim, before, state.shape[dim])(profile)
            factor *= share
        return profile, factor

    # Where places are cut off instead, what is left is spread evenly.
    return carry if min(pads) >= 0 else forgotten
