"""Rows of a table that places read, and what they send back into it.

Two places that hold one index see one row; how often that happens, for every kind of pair, is
counted where the indices are known and is one in the table's length where they are not.
"""

from collections.abc import Sequence

import numpy as np
import torch

from fanin.propagation.data_moments import pair_moments_of
from fanin.propagation.layout import Axes, atom_range, atoms_of, fit, plain_axes
from fanin.propagation.profile import MOST_PLACES, Profile, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State, gaussian


def agreement(index: torch.Tensor | None, shape: Sequence[int], rows: int) -> Array:
    """For every kind of pair of places, the chance that both hold the same index."""
    axes = plain_axes(shape)
    bits = (2,) * len(atoms_of(axes))
    if index is None:
        chance = np.full(bits, 1 / max(rows, 1))
        chance.flat[0] = 1.0
        return chance
    sizes = [n for n in index.shape if n != 1]
    labels, inverse = torch.unique(index, return_inverse=True)
    total = np.zeros(bits)
    flat = inverse.reshape(sizes).numpy() if sizes else inverse.reshape(()).numpy()
    if index.numel() * min(len(labels), 64) > 1 << 24:
        chance = np.full(bits, 1 / len(labels))
        chance.flat[0] = 1.0
        return chance
    if len(labels) > 64:
        # Random signs per label have expectation 1 where labels agree and 0 where they do not.
        signs = np.random.default_rng(0).standard_normal((64, len(labels)))
        for row in signs:
            total += pair_moments_of(row[flat])
        total /= 64
        scale = total.flat[0]
        total = np.clip(total / scale, 0.0, 1.0)
        total[np.abs(total) < 3 / np.sqrt(64 * max(index.numel(), 1))] = 0.0
        return total
    for label in range(len(labels)):
        total += pair_moments_of((flat == label).astype(float))
    return np.clip(total, 0.0, 1.0)


def gathered(table: State, dim: int, index: State | None, shape: Sequence[int]) -> State:
    """Rows of ``table`` along an axis, with the index's axes in the place of that axis.

    Args:
        table: what is read.
        dim: the axis that the index runs along.
        index: its state; its ``known`` value is counted if there is one.
        shape: shape of the index.
    """
    known = index.known if index is not None else None
    same = agreement(known, shape, table.shape[dim])
    part = fit(table.pairs, table.axes, _one(table.axes, dim))
    axes = _one(table.axes, dim)
    if axes[dim]:
        at = atom_range(axes, dim).start
        agree, differ = np.take(part, 0, at), np.take(part, 1, at)
    else:
        at = sum(len(a) for a in axes[:dim])
        agree = differ = part
    places = plain_axes(shape)
    inner = len(atoms_of(places))
    grown = [np.expand_dims(p, tuple(range(at, at + inner))) for p in (agree, differ)]
    view = [1] * (agree.ndim + inner)
    view[at : at + inner] = [2] * inner
    chance = same.reshape(view)
    pairs = chance * grown[0] + (1 - chance) * grown[1]
    profile, power = _places_read(table, dim, known, shape)
    made = (*axes[:dim], *places, *axes[dim + 1 :])
    mean = table.mean * power**0.5
    return gaussian(made, mean, pairs * power, profile=profile).with_flags(table)


def _places_read(
    table: State, dim: int, known: torch.Tensor | None, shape: Sequence[int]
) -> tuple[Profile, float]:
    """Powers of the rows that are read: a padding row of zeros counts as often as it is."""
    if table.profile is None:
        return None, 1.0
    profile = table.profile
    if known is None or profile.shape[dim] == 1:
        mean = profile.mean(axis=dim, keepdims=True)
        mean = mean.reshape(*mean.shape[:dim], *(1,) * len(shape), *mean.shape[dim + 1 :])
        return settled(mean)
    rows = known.long().numpy() % profile.shape[dim]
    if rows.size * profile.size // profile.shape[dim] > MOST_PLACES:
        profile = profile.mean(axis=tuple(i for i in range(profile.ndim) if i != dim),
                               keepdims=True)  # fmt: skip
    if rows.size > MOST_PLACES:
        return None, float(np.take(profile, rows.ravel(), axis=dim).mean())
    return settled(np.take(profile, rows.reshape(tuple(shape)), axis=dim))


def _one(axes: Axes, dim: int) -> Axes:
    n = int(np.prod(axes[dim])) if axes[dim] else 1
    return (*axes[:dim], (n,) if n != 1 else (), *axes[dim + 1 :])


def ungathered(
    pairs: Array,
    given: Axes,
    table: State,
    dim: int,
    index: State | None,
    shape: Sequence[int],
) -> Array:
    """Gradient of the table: each row sums the gradients of the places that read it."""
    known = index.known if index is not None else None
    rows = table.shape[dim]
    count = int(np.prod(shape)) if shape else 1
    same = agreement(known, shape, rows)
    places = plain_axes(shape)
    inner = len(atoms_of(places))
    axes = _one(table.axes, dim)
    at = sum(len(a) for a in axes[:dim])
    wanted = (*axes[:dim], *places, *axes[dim + 1 :])
    found = fit(pairs, given, wanted)
    atoms = atoms_of(places)
    weights = np.ones((2,) * inner)
    for k, n in enumerate(atoms):
        view = [1] * inner
        view[k] = 2
        weights = weights * np.array([n, n * (n - 1)], float).reshape(view)
    # Pairs of places on one row, and on two rows.
    on_one = weights * same
    on_two = weights * (1 - same)
    letters = list(range(at, at + inner))
    one = np.tensordot(on_one, np.moveaxis(found, letters, range(inner)), axes=inner) / rows
    if not axes[dim]:
        return fit(np.asarray(one), axes, table.axes)
    two = np.tensordot(on_two, np.moveaxis(found, letters, range(inner)), axes=inner)
    two = two / max(rows * (rows - 1), 1)
    del count
    return fit(np.stack([one, two], axis=at), axes, table.axes)
