"""Sums over products of two independent tensors: pair moments, and powers place by place."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from fanin.propagation.layout import (
    Arrangement,
    Axes,
    align_axis,
    atoms_of,
    first_atom,
    sum_weights,
)
from fanin.propagation.profile import MOST_PLACES, even
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State, gaussian, with_powers


def contracted_pairs(
    one: tuple[Axes, Array], two: tuple[Axes, Array], labels_one: str, labels_two: str, out: str
) -> tuple[Axes, Array, float]:
    """Pair moments of an einsum over two independent tensors.

    Args:
        one: axes and pair moments of the first.
        two: those of the second.
        labels_one: a letter for each axis of the first; shared letters go together.
        labels_two: likewise.
        out: letters of the output; what is missing is summed.

    Returns:
        The output's axes, its pair moments, and the number of terms in each sum.
    """
    first = Arrangement(atoms_of(one[0]), [one[1]])
    second = Arrangement(atoms_of(two[0]), [two[1]])
    axes_one, axes_two = list(one[0]), list(two[0])
    for letter in labels_one:
        if letter not in labels_two:
            continue
        i, j = labels_one.index(letter), labels_two.index(letter)
        a, b = axes_one[i], axes_two[j]
        if not a or not b:
            continue
        p, r = first_atom(tuple(axes_one), i), first_atom(tuple(axes_two), j)
        count = align_axis(first, p, len(a), second, r, len(b))
        axes_one[i], axes_two[j] = (
            tuple(first.atoms[p : p + count]),
            tuple(second.atoms[r : r + count]),
        )
    ids: dict[tuple[str, int], int] = {}

    def subscripts(labels: str, axes: Sequence[tuple[int, ...]]) -> list[int]:
        return [
            ids.setdefault((letter, k), len(ids))
            for letter, axis in zip(labels, axes, strict=True)
            for k in range(len(axis))
        ]

    sub_one, sub_two = subscripts(labels_one, axes_one), subscripts(labels_two, axes_two)
    axis_of = dict(zip(labels_two, axes_two, strict=True)) | {
        letter: axis
        for letter, axis in zip(labels_one, axes_one, strict=True)
        if axis or letter not in labels_two
    }
    operands: list[object] = [first.arrays[0], sub_one, second.arrays[0], sub_two]
    terms = 1.0
    for letter in dict.fromkeys(labels_one + labels_two):
        if letter not in out:
            for k, atom in enumerate(axis_of[letter]):
                operands += [sum_weights(atom), [ids[letter, k]]]
                terms *= atom
    axes_out = tuple(axis_of[letter] for letter in out)
    sub_out = [ids[letter, k] for letter in out for k in range(len(axis_of[letter]))]
    pairs = np.einsum(*operands, sub_out, optimize=len(operands) > 6)  # type: ignore[call-overload]
    return axes_out, np.asarray(pairs), terms


def contract(one: State, two: State, labels_one: str, labels_two: str, out: str) -> State:
    """The state of an einsum over two independent tensors; Gaussian, a sum of many terms."""
    axes, pairs, terms = contracted_pairs(
        (one.axes, one.pairs), (two.axes, two.pairs), labels_one, labels_two, out
    )
    made = gaussian(axes, terms * one.mean * two.mean, pairs).with_flags(one, two)
    made = with_powers(made, _powers(one, two, (labels_one, labels_two, out), terms, made))
    for factor, labels in ((one, labels_one), (two, labels_two)):
        pieces = factor.pieces
        if pieces is not None and labels[pieces.axis] in out:
            return replace(made, pieces=replace(pieces, axis=out.index(labels[pieces.axis])))
    return made


def _powers(
    one: State, two: State, letters: tuple[str, str, str], terms: float, made: State
) -> Array | None:
    """Powers of the product place by place, over its second moment as it would be without.

    Terms that agree in both factors meet the powers of both; pairs of different terms meet the
    roots of the powers of two places each, or, behind shares that sum to 1, have what their squares
    leave of 1.
    """
    if one.profile is None and two.profile is None:
        return None
    if made.second_moment <= 0:
        return None
    own = terms * one.second_moment * two.second_moment / made.second_moment
    if not 0 < own < np.inf:
        return None
    lengths = dict(zip(letters[0], one.shape, strict=True)) | dict(
        zip(letters[1], two.shape, strict=True)
    )
    factors: list[tuple[Array, str]] = []
    for state, labels in ((one, letters[0]), (two, letters[1])):
        # Axes of length 1 are left out: an einsum over the rest, summed axes at full length.
        profile = even(state.profile, len(state.axes))
        kept = [i for i, n in enumerate(profile.shape) if n != 1]
        shape = [profile.shape[i] for i in kept]
        factors.append((profile.reshape(shape), "".join(labels[i] for i in kept)))
    uneven = {c for _, labels in factors for c in labels}
    # Windows or samples along which both differ count once.
    if prod(lengths[c] for c in uneven if c in letters[2]) > MOST_PLACES:
        return None

    def met(*given: Array) -> Array:
        rest = "".join(c for c in letters[2] if c in uneven)
        labels = ",".join(labels for _, labels in factors)
        found = np.einsum(f"{labels}->{rest}", *given)
        found = found / prod(lengths[c] for c in uneven if c not in rest)
        return np.asarray(found).reshape([lengths[c] if c in rest else 1 for c in letters[2]])

    found = met(*(profile for profile, _ in factors))
    if one.profile is not None and abs(one.mean * terms - 1) < 1e-6 and one.mean > 0:
        squares = found / max(float(found.mean()), 1e-12) * terms**2 / terms * one.second_moment
        left = np.clip(1 - squares, 0.0, None)
        left = left / left.mean() if float(left.mean()) > 1e-9 else np.ones(())
    else:
        roots = met(*(np.sqrt(profile) for profile, _ in factors))
        left = _of_different(roots, found, terms)
        for profile, labels in factors:
            summed = tuple(k for k, c in enumerate(labels) if c not in letters[2])
            mean, square = np.sqrt(profile).mean(axis=summed), profile.mean(axis=summed)
            usual = float(_of_different(mean, square, terms).mean())
            left = left / usual if usual > 0 else np.zeros(())
    return np.maximum(own * found + (1 - own) * left, 0.0)


def _of_different(mean: Array, square: Array, terms: float) -> Array:
    """Mean product of two different ones of so many numbers, from their mean and mean square."""
    return np.maximum(terms * mean**2 - square, 0.0) / max(terms - 1, 1.0)
