"""Fourier transforms and complex numbers: E|z|² stands for the second moment.

Parseval: n bins hold n times the power of n numbers, and the first one holds their common part.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fanin.propagation.algebra import scaled
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, forgotten
from fanin.propagation.layout import atom_range, atoms_of, fit, plain_axes
from fanin.propagation.profile import MOST_PLACES, Profile, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.reflection import evenness, transform_behind
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian


def _spectrum(
    pairs: Array, given: Sequence[int], shape: Sequence[int], sums: Mapping[int, int]
) -> tuple[Array, Array]:
    """Pair moments of the transform along some axes, and the powers of its bins.

    Args:
        pairs: of what is transformed, one atom an axis.
        given: its shape.
        shape: of the transform.
        sums: axis -> how many numbers each bin sums.
    """
    axes, rank = plain_axes(given), len(shape)
    powers: Array = np.ones((1,) * rank)
    for dim, n in sorted(sums.items(), reverse=True):
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
    return pairs, powers


def _transformed(call: Call, dims: Sequence[int], lengths: Sequence[int]) -> State:
    """The transform along some axes; ``lengths`` are how many numbers each one sums."""
    state, shape = call.state(0), call.shape()
    sums = {d % len(shape): n for d, n in zip(dims, lengths, strict=True)}
    given = fit(state.pairs, state.axes, plain_axes(state.shape))
    pairs, powers = _spectrum(given, state.shape, shape, sums)
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


@backward("_fft_c2c", "_fft_r2c", "_fft_c2r")
def fft_backward(call: Call) -> list[Pass]:
    """The transposed sums: those of all bins that read a number, with phases again.

    Of a half of the bins the other half is the mirror image, which real numbers made out of it
    read twice.
    """
    tensor, made, state = call.tensor(0), call.made(), call.state(0)
    if tensor is None:
        return []
    dims = [int(d) % len(made.axes) for d in call.raw(1)]
    lengths = [state.shape[d] for d in dims]
    half = 1.0
    if call.name == "_fft_c2r":
        lengths[-1], bins = int(call.raw(3)), state.shape[dims[-1]]
        alone = 2 if lengths[-1] % 2 == 0 else 1
        half = (4 * (bins - alone) + alone) / bins if bins >= alone else 1.0
    elif call.name == "_fft_r2c":
        half = 0.5
    factor = _scale(int(call.raw(2)), float(np.prod(lengths)))
    given, target = made.shape, state.shape
    sums = {d: given[d] for d in dims}

    def move(pairs: Array) -> Array:
        found, _ = _spectrum(fit(pairs, made.axes, plain_axes(given)), given, target, sums)
        return fit(found * (half * factor**2), plain_axes(target), state.axes)

    return [Pass(tensor, move, carry=forgotten)]


@forward("view_as_real", "view_as_real_copy")
def parts_of_complex(call: Call) -> State:
    """Real and imaginary part, half of the power each; more in the real one of even signals."""
    state, tensor = call.state(0), call.tensor(0)
    pairs = np.stack([state.pairs / 2, np.zeros_like(state.pairs)], axis=-1)
    profile = None if state.profile is None else state.profile[..., None]
    transform = None if tensor is None else transform_behind(call.graph, tensor)
    real = None if transform is None else call.graph.producer[transform.inputs[0]].inputs[0]
    if transform is not None and real is not None:
        even = evenness(call.graph, call.states, real, tuple(transform.args[1]))
        if even != 0.0:
            shares = np.array([1 + even, 1 - even]).reshape((1,) * len(state.axes) + (2,))
            profile, _ = settled(shares if profile is None else profile * shares)
    made = gaussian((*state.axes, (2,)), 0.0, pairs, profile=profile)
    return made.with_flags(state)


@backward("view_as_real", "view_as_real_copy")
def parts_of_complex_backward(call: Call) -> list[Pass]:
    """The power of both parts' gradients."""
    tensor, made, state = call.tensor(0), call.made(), call.state(0)
    if tensor is None:
        return []

    def move(pairs: Array) -> Array:
        found = fit(pairs, made.axes, (*state.axes, (2,)))
        return np.asarray(2 * np.take(found, 0, -1))

    def carry(profile: Profile) -> Carried:
        return (None if profile is None else settled(profile.mean(axis=-1))[0]), 1.0

    return [Pass(tensor, move, carry=carry)]


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


@backward("view_as_complex", "view_as_complex_copy")
def complex_of_parts_backward(call: Call) -> list[Pass]:
    """Half of the power to each part."""
    tensor, made, state = call.tensor(0), call.made(), call.state(0)
    if tensor is None:
        return []

    def move(pairs: Array) -> Array:
        wide = (*made.axes, (2,))
        return fit(np.stack([pairs / 2, np.zeros_like(pairs)], axis=-1), wide, state.axes)

    def carry(profile: Profile) -> Carried:
        return (None if profile is None else profile[..., None]), 1.0

    return [Pass(tensor, move, carry=carry)]
