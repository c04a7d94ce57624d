"""How the profile of a gradient moves back through an operation.

Each function takes the profile of an output's gradient and returns that of an input's, with the
factor by which the input's power differs from what even gradients would give: a slice that no one
reads has none, a norm divides weak places by less.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod

import numpy as np

from fanin.propagation.profile import MOST_PLACES, Profile, even, permuted, reshaped, settled
from fanin.propagation.quadrature import Array

Carried = tuple[Profile, float]
Carry = Callable[[Profile], Carried]


def unchanged(profile: Profile) -> Carried:
    """Place by place, as it came."""
    return profile, 1.0


def forgotten(profile: Profile) -> Carried:
    """Spread evenly: every place receives something from every other."""
    del profile
    return None, 1.0


def alike(profile: Profile, given: Sequence[int], target: Sequence[int]) -> Carried:
    """Axes of equal length keep their places; summed, resized and removed ones are evened out."""
    if profile is None or tuple(given) == tuple(target):
        return profile, 1.0
    lead = len(given) - len(target)
    broadcast = lead >= 0 and all(
        n in (1, m) for n, m in zip(target, given[max(lead, 0) :], strict=True)
    )
    if lead != 0 and not broadcast:
        return None, 1.0
    others = tuple(
        d for d, n in enumerate(given) if d < lead or n != target[d - lead]
    )  # summed over, or of another length
    found = profile.mean(axis=others, keepdims=True)
    return settled(found.reshape(found.shape[lead:]))[0], 1.0


def viewed(given: Sequence[int], target: Sequence[int]) -> Carry:
    """The same elements in row-major order."""
    return lambda profile: (reshaped(profile, given, target), 1.0)


def reordered(order: Sequence[int]) -> Carry:
    """Axes back from a permutation."""
    inverse = [int(d) for d in np.argsort(order)]
    return lambda profile: (permuted(profile, inverse), 1.0)


def placed(given: Sequence[int], target: Sequence[int], dim: int, places: object) -> Carry:
    """Into some places (a slice, an index) of one axis of a tensor that is zero elsewhere.

    Args:
        given: shape of the part, with the axis ``dim`` in place (of length 1 for one index).
        target: shape of the whole.
        dim: the axis.
        places: what indexes it.
    """

    def carry(profile: Profile) -> Carried:
        n = target[dim]
        if given[dim] == n:
            return profile, 1.0
        part = even(profile, len(given))
        shape = list(part.shape)
        shape[dim] = n
        if prod(shape) > MOST_PLACES:
            return None, 1.0
        whole = np.zeros(shape)
        view = (slice(None),) * dim
        whole[(*view, places)] = part if not isinstance(places, int) else part.take(0, dim)  # type: ignore[index]
        return settled(whole)[0], 1.0

    return carry


def picked(dim: int, start: int, length: int) -> Carry:
    """One stretch of an axis: it has the power of its places."""

    def carry(profile: Profile) -> Carried:
        if profile is None or profile.shape[dim] == 1:
            return profile, 1.0
        return settled(profile[(slice(None),) * dim + (slice(start, start + length),)])

    return carry


def without(dim: int, before: Carry) -> Carry:
    """An axis of length 1 taken out after another step."""

    def carry(profile: Profile) -> Carried:
        found, factor = before(profile)
        return (None if found is None else found.mean(axis=dim)), factor

    return carry


def restored(dim: int, after: Carry) -> Carry:
    """An axis of length 1 put back before another step."""
    return lambda profile: after(None if profile is None else np.expand_dims(profile, dim))


def grown(rank: int, dims: Sequence[int]) -> Carry:
    """Reduced axes back, evenly: a mean or a sum was taken over them."""

    def carry(profile: Profile) -> Carried:
        if profile is None or profile.ndim == rank:
            return profile, 1.0
        return np.expand_dims(profile, tuple(d for d in dims)), 1.0

    return carry


def weighted(other: Profile, given: Sequence[int], target: Sequence[int]) -> Carry:
    """Times a factor that is strong in some places, then summed back to what was broadcast."""

    def carry(profile: Profile) -> Carried:
        if other is None:
            return alike(profile, given, target)
        together = even(profile, len(given)) * even(other, len(given))
        found, factor = settled(together)
        return alike(found, given, target)[0], factor

    return carry


def contracted(other: Profile, labels: str, other_labels: str, target_labels: str) -> Carry:
    """Through a sum over products with another tensor: the einsum of two profiles.

    Args:
        other: profile of the other factor.
        labels: a letter for each axis of the output.
        other_labels: those of the other factor.
        target_labels: those of the input that receives the gradient.
    """
    return partial(
        _contracted, other=other, labels=labels, other_labels=other_labels, target=target_labels
    )


def _contracted(
    profile: Profile, other: Profile, labels: str, other_labels: str, target: str
) -> Carried:
    if profile is None and other is None:
        return None, 1.0
    letters = "".join(dict.fromkeys(labels + other_labels))

    def spread(array: Array, own: str) -> Array:
        kept = [letter for letter in letters if letter in own]
        moved = array.transpose([own.index(letter) for letter in kept])
        return np.expand_dims(moved, [k for k, letter in enumerate(letters) if letter not in own])

    one = spread(even(profile, len(labels)), labels)
    two = spread(even(other, len(other_labels)), other_labels)
    if any(a != b and 1 not in (a, b) for a, b in zip(one.shape, two.shape, strict=True)):
        return None, 1.0
    if prod(np.broadcast_shapes(one.shape, two.shape)) > 16 * MOST_PLACES:
        return None, 1.0
    gone = tuple(k for k, letter in enumerate(letters) if letter not in target)
    together = (one * two).mean(axis=gone)
    left = [letter for letter in letters if letter in target]
    return settled(together.transpose([left.index(letter) for letter in target]))


def resampled(steps: Mapping[int, Array]) -> Carry:
    """Positions that read, or are read by, several others: convolutions and pools.

    Args:
        steps: for some axes, how much of each output place's power every input place receives,
            as a matrix (input places, output places).
    """

    def carry(profile: Profile) -> Carried:
        rank = max(steps) + 1 if profile is None else profile.ndim
        found, expected = even(profile, rank), 1.0
        for axis, step in steps.items():
            if found.shape[axis] == 1:
                # Even so far: borders receive less.
                line = step.sum(axis=1)
                found = found * line.reshape([-1 if d == axis else 1 for d in range(rank)])
            else:
                found = np.moveaxis(np.tensordot(step, found, axes=(1, axis)), 0, axis)
            expected *= float(step.sum() / step.shape[0])
            if found.size > 16 * MOST_PLACES:
                return None, 1.0
        made, power = settled(found)
        return made, power / expected if expected > 0 else 0.0

    return carry


def in_turn(*steps: Carry) -> Carry:
    """One after the other."""

    def carry(profile: Profile) -> Carried:
        total = 1.0
        for step in steps:
            profile, factor = step(profile)
            total *= factor
        return profile, total

    return carry
