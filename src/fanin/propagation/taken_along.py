"""``gather`` along an axis by a known index: which places are read, and which receive.

Every other coordinate stays as it is. Two places along the axis share what they share in the
source, or one number where their indices agree, which is counted for every kind of pair.
"""

import numpy as np
import torch

from fanin.propagation.carrying import Carried, Carry
from fanin.propagation.layout import Axes, atom_range, fit, plain_axes, sum_weights
from fanin.propagation.profile import MOST_PLACES, Profile, even, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.rows_read import agreement
from fanin.propagation.state import State, gaussian


class TakenAlong:
    """Entries along one axis of a source, chosen place by place.

    Args:
        index: as long as the source along all axes but ``dim``.
        dim: the axis.
        length: of the source along it.
    """

    def __init__(self, index: torch.Tensor, dim: int, length: int) -> None:
        self.dim, self.length, self.shape = dim, length, tuple(index.shape)
        self.index = index.long()
        self._same = agreement(self.index, self.shape, length)

    def read(self, source: State) -> State:
        """What is read."""
        wide, axes = self._wide(source)
        if self.length == 1:
            pairs = np.expand_dims(fit(source.pairs, source.axes, wide), self._position(axes))
            pairs = pairs if axes[self.dim] else pairs.squeeze(self._position(axes))
            made = np.broadcast_to(pairs, (2,) * sum(map(len, axes)))
        else:
            given = fit(source.pairs, source.axes, wide)
            at = atom_range(wide, self.dim).start
            agree, differ = np.take(given, [0], at), np.take(given, [1], at)
            made = self._chance(wide) * agree + (1 - self._chance(wide)) * differ
            if not axes[self.dim]:
                made = np.take(made, 0, at)
        profile, power = self._places_read(source.profile)
        mean = source.mean * power**0.5
        made = np.asarray(made) * power
        return gaussian(axes, mean, made, profile=profile).with_flags(source)

    def sent_back(self, pairs: Array, given: Axes, source: State) -> Array:
        """Pair moments of the source's gradient: each place sums those of its readers."""
        wide, axes = self._wide(source)
        found = fit(pairs, given, axes)
        at = self._position(axes)
        count = self.shape[self.dim]
        if not axes[self.dim]:
            found = np.stack([found, np.zeros_like(found)], axis=at)
        weights = _along(sum_weights(count), at, found.ndim)
        if self.length == 1:
            one = (weights * found).sum(axis=at)
            return fit(np.asarray(one), wide, source.axes)
        chance = self._chance(wide)
        one = (weights * chance * found).sum(axis=at) / self.length
        two = (weights * (1 - chance) * found).sum(axis=at)
        two = two / (self.length * (self.length - 1))
        return fit(np.stack([one, two], axis=at), wide, source.axes)

    def carry(self) -> Carry:
        """The profile of the source's gradient: what no one reads has none."""

        def carried(profile: Profile) -> Carried:
            index = self._short()
            powers = even(profile, len(self.shape))
            shape = np.broadcast_shapes(index.shape, powers.shape)
            if np.prod(shape) // max(shape[self.dim], 1) * self.length > MOST_PLACES:
                return None, 1.0
            index, powers = np.broadcast_to(index, shape), np.broadcast_to(powers, shape)
            total = np.zeros([self.length if d == self.dim else n for d, n in enumerate(shape)])
            places = np.indices(shape)
            places[self.dim] = index
            np.add.at(total, tuple(places), powers)
            return settled(total)[0], 1.0

        return carried

    def _wide(self, source: State) -> tuple[Axes, Axes]:
        """Plain axes of the source and of what is read."""
        return plain_axes(source.shape), plain_axes(self.shape)

    def _position(self, axes: Axes) -> int:
        return sum(len(axis) for axis in axes[: self.dim])

    def _chance(self, wide: Axes) -> Array:
        """The chance that two indices agree, with an axis for ``dim`` even if one is read."""
        found = self._same
        if self.shape[self.dim] == 1:
            found = np.expand_dims(found, self._position(wide))
            found = np.concatenate([found, found], axis=self._position(wide))
        return found

    def _short(self) -> Array:
        """The index, short along axes where it does not change."""
        index = self.index
        for d, n in enumerate(self.shape):
            first = index.narrow(d, 0, 1)
            if d != self.dim and n > 1 and bool((index == first).all()):
                index = first
        return index.numpy()

    def _places_read(self, profile: Profile) -> tuple[Profile, float]:
        if profile is None:
            return None, 1.0
        if profile.shape[self.dim] == 1:
            return settled(profile)
        index = self._short()
        shape = [max(n, m) for n, m in zip(index.shape, profile.shape, strict=True)]
        whole = [self.length if d == self.dim else n for d, n in enumerate(shape)]
        shape[self.dim] = self.shape[self.dim]
        if max(np.prod(shape), np.prod(whole)) > MOST_PLACES:
            return None, 1.0
        wide = np.broadcast_to(profile, whole)
        return settled(np.take_along_axis(wide, np.broadcast_to(index, shape), self.dim))


def _along(values: Array, axis: int, rank: int) -> Array:
    return values.reshape([2 if k == axis else 1 for k in range(rank)])
