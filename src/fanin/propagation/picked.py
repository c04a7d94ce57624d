"""Elements that several known indices pick together, ``x[i, j]``, and what they send back.

A text tower reads one token of every sample. Two picks that agree in the position and differ in
the sample share what the positions share: for every kind of pair of picks, the indices say how
often each of their coordinates agrees.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch

from fanin.propagation.carrying import Carried, Carry
from fanin.propagation.layout import Axes, atoms_of, fit, plain_axes, sum_weights
from fanin.propagation.profile import MOST_PLACES, even, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.rows_read import agreement
from fanin.propagation.state import State, gaussian


class Picks:
    """Known indices along the leading axes of a table, broadcast to one shape.

    Args:
        indices: one tensor of integers for each leading axis; negative ones count from the end.
        lengths: of these axes.
    """

    def __init__(self, indices: Sequence[torch.Tensor], lengths: Sequence[int]) -> None:
        shape = np.broadcast_shapes(*(tuple(index.shape) for index in indices))
        spread = [index.expand(shape) for index in indices]
        self.lengths = tuple(lengths)
        self.indices = tuple(
            index.long() % max(n, 1) for index, n in zip(spread, lengths, strict=True)
        )
        self.shape = tuple(self.indices[0].shape)

    def chances(self) -> Array:
        """For every kind of pair of picks, the chance of every kind of pair in the table.

        Shape: an axis of 2 for each atom of the picks, then one for each index: 0 where it agrees.
        """
        count = len(self.indices)
        together = {}
        for subset in product((False, True), repeat=count):
            label = torch.zeros(self.shape, dtype=torch.long)
            for index, n, taken in zip(self.indices, self.lengths, subset, strict=True):
                label = label * n + index if taken else label
            together[subset] = agreement(label, self.shape, 1)
        rank = len(atoms_of(plain_axes(self.shape)))
        found = np.zeros((2,) * (rank + count))
        for kind in product((0, 1), repeat=count):
            agree = np.zeros((2,) * rank)
            # Exactly those agree: of the rest, whatever agrees too is taken off.
            for more in product((False, True), repeat=count):
                if any(extra and not bit for extra, bit in zip(more, kind, strict=True)):
                    continue
                subset = tuple(extra or not bit for extra, bit in zip(more, kind, strict=True))
                agree = agree + (-1) ** sum(more) * together[subset]
            found[np.index_exp[...] + kind] = agree
        return np.clip(found, 0.0, 1.0)

    def read(self, table: State) -> State:
        """The elements picked, with the axes of the indices in front."""
        count = len(self.indices)
        rest = table.axes[count:]
        pairs = _leading_free(fit(table.pairs, table.axes, self._axes(rest)), self.lengths)
        made = np.tensordot(self.chances(), pairs, axes=count)
        profile, power = None, 1.0
        if table.profile is not None:
            powers = even(table.profile, len(table.axes))
            whole = np.broadcast_to(powers, (*self.lengths, *powers.shape[count:]))
            if self.indices[0].numel() * whole[(0,) * count].size <= MOST_PLACES:
                profile, power = settled(whole[tuple(i.numpy() for i in self.indices)])
        axes = (*plain_axes(self.shape), *rest)
        mean = table.mean * power**0.5
        return gaussian(axes, mean, made * power, profile=profile).with_flags(table)

    def sent_back(self, pairs: Array, given: Axes, table: State) -> Array:
        """Gradient of the table: each element sums the gradients of those that picked it.

        Args:
            pairs: pair moments of the gradient of the elements picked.
            given: its axes.
            table: that was read.
        """
        count = len(self.indices)
        places, rest = plain_axes(self.shape), table.axes[count:]
        inner = len(atoms_of(places))
        found = fit(pairs, given, (*places, *rest))
        weights = self.chances()
        for k, n in enumerate(atoms_of(places)):
            weights = weights * _along(sum_weights(n), k, weights.ndim)
        summed = np.tensordot(weights, found, axes=(range(inner), range(inner)))
        for k, n in enumerate(self.lengths):
            summed = summed / _along(np.maximum(sum_weights(n), 1.0), k, summed.ndim)
        for k in reversed(range(count)):
            if self.lengths[k] == 1:
                summed = np.take(summed, 0, k)
        return fit(np.asarray(summed), self._axes(rest), table.axes)

    def carry(self, table: State, made: State) -> Carry:
        """The profile of the gradient: at the places that were picked."""
        count = len(self.indices)

        def carried(profile: Array | None) -> Carried:
            powers = even(profile, len(made.axes))
            powers = np.broadcast_to(powers, (*self.shape, *powers.shape[len(self.shape) :]))
            rest = powers.shape[len(self.shape) :]
            if np.prod(self.lengths) * np.prod(rest, initial=1.0) > MOST_PLACES:
                return None, 1.0
            total = np.zeros((*self.lengths, *rest))
            np.add.at(total, tuple(i.numpy() for i in self.indices), powers)
            return settled(total.reshape((*table.shape[:count], *rest)))[0], 1.0

        return carried

    def _axes(self, rest: Axes) -> Axes:
        return (*plain_axes(self.lengths), *rest)


def _along(values: Array, axis: int, rank: int) -> Array:
    return values.reshape([2 if k == axis else 1 for k in range(rank)])


def _leading_free(pairs: Array, lengths: Sequence[int]) -> Array:
    """With an axis for each of the lengths, those of 1 too: their pairs always agree."""
    for k, n in enumerate(lengths):
        if n == 1:
            pairs = np.stack([pairs, pairs], axis=k)
    return pairs
