"""Running sums: more terms, and more power, from place to place."""

import numpy as np

from fanin.propagation.algebra import one_signed
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry
from fanin.propagation.layout import fit, plain_axes
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian


def _summed(pairs: Array, profile: Profile, rank: int, dim: int, total: int) -> tuple[Array, Array]:
    """Pair moments of the running sum along an axis of one atom, and its powers place by place.

    Σ x of places s ≤ n has (r − ρ) Σ p_s + ρ (Σ √p_s)² for powers p, E[x²] = r and E[x x′] = ρ of
    two places; two sums share the terms of the shorter.
    """
    same, differ = np.take(pairs, 0, dim), np.take(pairs, 1, dim)
    powers = np.moveaxis(even(profile, rank), dim, -1)
    powers = np.broadcast_to(powers, (*powers.shape[:-1], total))
    alone, together = np.cumsum(powers, -1), np.cumsum(np.sqrt(powers), -1)
    r, rho = float(same.flat[0]), float(differ.flat[0])
    places = np.maximum((r - rho) * alone + rho * together**2, 0.0)
    n = np.arange(1, total + 1)
    least = np.minimum.outer(n, n).mean()
    own = n.mean() * (same - differ) + (n**2).mean() * differ
    other = least * (same - differ) + np.outer(n, n).mean() * differ
    found = np.stack([own, other], axis=dim)
    q = float(places.mean())
    found = found * (q / found.flat[0]) if found.flat[0] > 0 else found
    return found, np.moveaxis(places, -1, dim)


def _plain(state: State, pairs: Array) -> Array:
    """Pair moments with one bit for every axis, those of length 1 too."""
    found = fit(pairs, state.axes, plain_axes(state.shape))
    for dim, n in enumerate(state.shape):
        if n == 1:
            found = np.stack([found, found], axis=dim)
    return found


def _back(found: Array, state: State) -> Array:
    for dim in reversed(range(len(state.shape))):
        if state.shape[dim] == 1:
            found = np.take(found, 0, dim)
    return fit(found, plain_axes(state.shape), state.axes)


@forward("cumsum")
def cumsum(call: Call) -> State:
    """Sums of 1, 2, …, T terms, each place with its own power."""
    state = call.state(0)
    rank = len(state.axes)
    dim = int(call.raw(1, "dim")) % max(rank, 1)
    total = state.shape[dim] if rank else 1
    if total == 1:
        return state
    found, places = _summed(_plain(state, state.pairs), state.profile, rank, dim, total)
    roots = np.sqrt(even(state.profile, rank))
    steps = np.cumsum(np.broadcast_to(roots, [*roots.shape[:dim], total, *roots.shape[dim + 1 :]]),
                      dim)  # fmt: skip
    mean = state.mean * float(steps.mean() / roots.mean())
    made = gaussian(state.axes, mean, _back(found, state), profile=settled(places)[0])
    signed = float(state.values.min()) >= 0 or float(state.values.max()) <= 0
    return (one_signed(made) if signed else made).with_flags(state)


@backward("cumsum")
def cumsum_backward(call: Call) -> list[Pass]:
    """The same sums from the other end."""
    tensor, made = call.tensor(0), call.made()
    rank = len(made.axes)
    if tensor is None:
        return []
    target = call.state(0)
    dim = int(call.raw(1, "dim")) % max(rank, 1)
    total = made.shape[dim] if rank else 1
    if total == 1:
        return [Pass(tensor, lambda p: fit(p, made.axes, target.axes), 1.0)]

    def move(pairs: Array) -> Array:
        found, _ = _summed(_plain(made, pairs), None, rank, dim, total)
        return fit(_back(found, made), made.axes, target.axes)

    return [Pass(tensor, move, carry=_from_the_end(rank, dim, total))]


def _from_the_end(rank: int, dim: int, total: int) -> Carry:
    """Gradients that are strangers to each other add their powers from the last place on."""

    def carry(profile: Profile) -> Carried:
        powers = even(profile, rank)
        shape = [*powers.shape[:dim], total, *powers.shape[dim + 1 :]]
        sums = np.flip(np.cumsum(np.flip(np.broadcast_to(powers, shape), dim), dim), dim)
        found, mean = settled(np.asarray(sums))
        return found, mean / ((total + 1) / 2)

    return carry
