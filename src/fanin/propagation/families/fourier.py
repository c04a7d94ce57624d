"""Fourier transforms and complex numbers: E|z|² stands for the second moment.

Parseval: n bins hold n times the power of n numbers, and the first one holds their common part.
"""

from collections.abc import Sequence

import numpy as np

from fanin.propagation.algebra import scaled
from fanin.propagation.call import Call
from fanin.propagation.layout import atom_range, atoms_of, fit, plain_axes
from fanin.propagation.profile import MOST_PLACES, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import forward
from fanin.propagation.state import State, gaussian


def _transformed(call: Call, dims: Sequence[int], lengths: Sequence[int]) -> State:
    """The transform along some axes; ``lengths`` are how many numbers each one sums."""
    state, shape = call.state(0), call.shape()
    rank = len(shape)
    axes = plain_axes(state.shape)
    pairs = fit(state.pairs, state.axes, axes)
    powers: Array = np.ones((1,) * rank)
    for dim, n in sorted(zip((d % rank for d in dims), lengths, strict=True), reverse=True):
        bins = shape[dim]
        if not axes[dim]:
            continue
        at = atom_range(axes, dim).start
        same, differ = np.take(pairs, 0, at), np.take(pairs, 1, at)
        first, rest = n * (same + (n - 1) * differ), n * (same - differ)
        # Rounding leaves less than nothing in the first bin of what a norm has centred.
        q, alone = max(float(first.flat[0]), 0.0), max(float(rest.flat[0]), 0.0)
        mixed = (first + (bins - 1) * rest) / bins
        level = np.full(bins, alone)
        level[0] = q
        if powers.size * bins <= MOST_PLACES and level.mean() > 0:
            view = [1] * rank
            view[dim] = bins
            powers = powers * (level / level.mean()).reshape(view)
        # Two bins have nothing in common.
        pairs = mixed if bins == 1 else np.stack([mixed, np.zeros_like(mixed)], axis=at)
        axes = (*axes[:dim], (bins,) if bins != 1 else (), *axes[dim + 1 :])
    made = plain_axes(shape)
    if pairs.shape != (2,) * len(atoms_of(made)):
        pairs = np.full((2,) * len(atoms_of(made)), 0.0)
        pairs.flat[0] = state.second_moment * float(np.prod(lengths))
    factor = _scale(int(call.raw(2)), float(np.prod(lengths)))
    found = gaussian(made, 0.0, pairs, profile=settled(powers)[0]).with_flags(state)
    return scaled(found, factor)


def _scale(norm: int, count: float) -> float:
    return (1.0, count**-0.5, 1 / count)[norm]


@forward("_fft_c2c", "_fft_r2c")
def fft(call: Call) -> State:
    """Sums of n numbers with turning phases."""
    state, dims = call.state(0), [int(d) for d in call.raw(1)]
    return _transformed(call, dims, [state.shape[d] for d in dims])


@forward("_fft_c2r")
def inverse_fft(call: Call) -> State:
    """Back to real numbers: the missing half of the bins mirrors the other."""
    state, dims = call.state(0), [int(d) for d in call.raw(1)]
    lengths = [state.shape[d] for d in dims]
    lengths[-1] = int(call.raw(3))
    return _transformed(call, dims, lengths)


@forward("view_as_real", "view_as_real_copy")
def parts_of_complex(call: Call) -> State:
    """Real and imaginary part, half of the power each."""
    state = call.state(0)
    pairs = np.stack([state.pairs / 2, np.zeros_like(state.pairs)], axis=-1)
    profile = None if state.profile is None else state.profile[..., None]
    made = gaussian((*state.axes, (2,)), 0.0, pairs, profile=profile)
    return made.with_flags(state)


@forward("view_as_complex", "view_as_complex_copy")
def complex_of_parts(call: Call) -> State:
    """Two real numbers in one."""
    state = call.state(0)
    axes = state.axes[:-1]
    pairs = fit(state.pairs, state.axes, (*axes, (2,)))
    profile = None
    if state.profile is not None:
        profile = settled(state.profile.mean(axis=-1))[0]
    return gaussian(axes, 0.0, 2 * np.take(pairs, 0, -1), profile=profile).with_flags(state)
