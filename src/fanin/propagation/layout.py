"""How the axes of a tensor split and join, and what that does to its pair moments.

An axis is a tuple of *atoms*, row-major: after ``(B, T, d) -> (B·T, d)`` the first axis has the
atoms B and T.  Pair moments live in an array with one axis of length 2 per atom: index 0 for
pairs that agree there, 1 for pairs that differ.  Atoms of size 1 do not exist.
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from fanin.propagation.quadrature import Array

Axis = tuple[int, ...]
Axes = tuple[Axis, ...]

MOST_ATOMS = 9
"""Beyond this the atoms of one axis are joined: 2⁹ pair moments are the most that is carried."""


def atoms_of(axes: Axes) -> tuple[int, ...]:
    """All atoms in order."""
    return tuple(atom for axis in axes for atom in axis)


def shape_of(axes: Axes) -> tuple[int, ...]:
    """The shape of the tensor."""
    return tuple(prod(axis) for axis in axes)


def plain_axes(shape: Sequence[int]) -> Axes:
    """One atom per axis; none for axes of length 1."""
    return tuple((int(n),) if n != 1 else () for n in shape)


def first_atom(axes: Axes, axis: int) -> int:
    """Position of an axis's first atom among all atoms."""
    return sum(len(a) for a in axes[:axis])


def atom_range(axes: Axes, axis: int) -> range:
    """Positions of an axis's atoms among all atoms."""
    start = first_atom(axes, axis)
    return range(start, start + len(axes[axis]))


def split_atom(pairs: Array, position: int) -> Array:
    """Pair moments after one atom is written as two: differing in either is differing."""
    same, differ = np.take(pairs, 0, position), np.take(pairs, 1, position)
    inner_same = np.stack([same, differ], axis=position)
    inner_differ = np.stack([differ, differ], axis=position)
    return np.stack([inner_same, inner_differ], axis=position + 1)


def join_atoms(pairs: Array, position: int, outer: int, inner: int) -> Array:
    """Pair moments after two neighbouring atoms are written as one.

    Pairs that differ are averaged over how they differ.
    """
    weights = np.array([[0, inner - 1], [outer - 1, (outer - 1) * (inner - 1)]], dtype=float)
    weights /= weights.sum()
    moved = np.moveaxis(pairs, (position, position + 1), (0, 1))
    same = moved[0, 0]
    differ = np.tensordot(weights, moved, axes=2)
    return np.stack([same, differ], axis=position)


class Arrangement:
    """A mutable list of atoms with one or several arrays of pair moments that follow it."""

    def __init__(self, atoms: Sequence[int], arrays: Sequence[Array]) -> None:
        self.atoms = list(atoms)
        self.arrays = list(arrays)

    def split(self, position: int, outer: int) -> None:
        """Write the atom at ``position`` as (outer, rest)."""
        inner = self.atoms[position] // outer
        self.atoms[position : position + 1] = [outer, inner]
        self.arrays = [split_atom(array, position) for array in self.arrays]

    def join(self, position: int) -> None:
        """Write the atoms at ``position`` and the next as one."""
        outer, inner = self.atoms[position : position + 2]
        self.atoms[position : position + 2] = [outer * inner]
        self.arrays = [join_atoms(array, position, outer, inner) for array in self.arrays]


def regroup(arrangement: Arrangement, shape: Sequence[int]) -> Axes:
    """Regroup row-major atoms into axes of the given lengths, splitting and joining as needed."""
    position, grouped = 0, []
    for length in shape:
        start, left = position, int(length)
        while left > 1:
            while arrangement.atoms[position] % left and left % arrangement.atoms[position]:
                arrangement.join(position)
            if arrangement.atoms[position] > left:
                arrangement.split(position, left)
            left //= arrangement.atoms[position]
            position += 1
        grouped.append((start, position))
    axes = tuple(tuple(arrangement.atoms[a:b]) for a, b in grouped)
    return _limited(arrangement, axes)


def _limited(arrangement: Arrangement, axes: Axes) -> Axes:
    while sum(len(axis) for axis in axes) > MOST_ATOMS and any(len(a) > 1 for a in axes):
        longest = max(range(len(axes)), key=lambda i: len(axes[i]))
        arrangement.join(first_atom(axes, longest))
        axis = axes[longest]
        axes = (*axes[:longest], (axis[0] * axis[1], *axis[2:]), *axes[longest + 1 :])
    return axes


def align_axis(
    one: Arrangement,
    start_one: int,
    count_one: int,
    two: Arrangement,
    start_two: int,
    count_two: int,
) -> int:
    """Split the atoms of one axis in two arrangements to the same sizes; how many there are.

    Where the sizes have no common refinement, each side becomes one atom.
    """
    i, j = start_one, start_two
    end_one, end_two = start_one + count_one, start_two + count_two
    while i < end_one and j < end_two:
        a, b = one.atoms[i], two.atoms[j]
        if a == b:
            pass
        elif a % b == 0:
            one.split(i, b)
            end_one += 1
        elif b % a == 0:
            two.split(j, a)
            end_two += 1
        else:
            for arrangement, start, end in ((one, start_one, end_one), (two, start_two, end_two)):
                for _ in range(end - start - 1):
                    arrangement.join(start)
            return 1
        i, j = i + 1, j + 1
    return end_one - start_one


def average_weights(size: int) -> Array:
    """Shares of pairs that agree and that differ, over all ordered pairs of ``size`` things."""
    return np.array([1 / size, 1 - 1 / size])


def average_over(pairs: Array, atoms: Sequence[int], positions: Sequence[int]) -> Array:
    """Pair moments of the mean over the given atoms; those atoms are gone."""
    for position in sorted(positions, reverse=True):
        pairs = np.tensordot(pairs, average_weights(atoms[position]), axes=(position, 0))
    return pairs


def sum_weights(size: int) -> Array:
    """Numbers of ordered pairs that agree and that differ among ``size`` things."""
    return np.array([size, size * (size - 1)], dtype=float)


def fit(pairs: Array, given: Axes, wanted: Axes) -> Array:
    """Pair moments under other atoms for the same axes (each axis of equal length in both)."""
    if given == wanted:
        return pairs
    arrangement = Arrangement(atoms_of(given), [pairs])
    position = 0
    for have, want in zip(given, wanted, strict=True):
        if have != want:
            _fit_axis(arrangement, position, len(have), want)
        position += len(want)
    return arrangement.arrays[0]


def fit_flat(pairs: Array, given: Axes, wanted: Axes) -> Array:
    """Pair moments under other atoms for the same elements in row-major order."""
    return fit(pairs, (atoms_of(given),), (atoms_of(wanted),))


def _fit_axis(arrangement: Arrangement, start: int, count: int, wanted: Axis) -> None:
    end, position = start + count, start
    for atom in wanted:
        while arrangement.atoms[position] < atom or arrangement.atoms[position] % atom:
            arrangement.join(position)
            end -= 1
        if arrangement.atoms[position] > atom:
            arrangement.split(position, atom)
            end += 1
        position += 1


def broadcast_axes(
    one: Axes, one_arrays: Sequence[Array], two: Axes, two_arrays: Sequence[Array]
) -> tuple[Axes, list[Array], list[Array]]:
    """The common axes of two tensors that broadcast, and the arrays of both under them."""
    rank = max(len(one), len(two))
    one, two = ((),) * (rank - len(one)) + one, ((),) * (rank - len(two)) + two
    first = Arrangement(atoms_of(one), one_arrays)
    second = Arrangement(atoms_of(two), two_arrays)
    i = j = 0
    axes: list[Axis] = []
    holes_one: list[int] = []
    holes_two: list[int] = []
    total = 0
    for a, b in zip(one, two, strict=True):
        if a and b:
            count = align_axis(first, i, len(a), second, j, len(b))
            axis = tuple(first.atoms[i : i + count])
            i, j = i + count, j + count
        elif a:
            axis = a
            holes_two.extend(range(total, total + len(a)))
            i += len(a)
        else:
            axis = b
            holes_one.extend(range(total, total + len(b)))
            j += len(b)
        axes.append(axis)
        total += len(axis)
    shape = (2,) * total
    ones = [np.broadcast_to(np.expand_dims(x, tuple(holes_one)), shape) for x in first.arrays]
    twos = [np.broadcast_to(np.expand_dims(x, tuple(holes_two)), shape) for x in second.arrays]
    return tuple(axes), ones, twos
