"""Neighbours along an axis are more alike than places far apart: which places, and how much.

Pair moments know "the same place" and "another". A map that was resized with overlap, or pooled
over overlapping windows, has neighbours that share part of what they were made of, and so has a
gradient on its way back. *Nearness* is a matrix R for one axis of n places: E[x_i x_j] is that of
another place where R is 0, of the same place where it is 1, and a straight line between:

    E[x_i x_j] = differ + (same − differ) R_ij.

Its diagonal is 1 and the mean of what is off it 0, so that pair moments stay the averages that
they are, and whoever knows nothing of nearness is right on average. Along several axes the kinds
of pairs are mixed axis by axis; sums over channels and taps of fresh weights keep that form.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fanin.propagation.quadrature import Array

Near = Mapping[int, Array]
"""R by axis; axes that are missing hold strangers."""

NONE: Near = {}
MOST = 256
"""Longer axes count as strangers: R has n² numbers."""
LEAST = 0.02
"""Correlations below this are none."""


def off_diagonal(matrix: Array) -> float:
    """Mean of the elements off the diagonal."""
    n = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (n * (n - 1))) if n > 1 else 0.0


def settled(kernel: Array) -> Array | None:
    """R of covariances (n, n) of any scale; None for strangers.

    Powers that differ from place to place belong to a profile and are divided out; places that
    nothing reaches are as far from all others as the average.
    """
    n = len(kernel)
    roots = np.sqrt(np.maximum(np.diag(kernel), 0.0))
    there = roots > 1e-6 * roots.max()
    if there.sum() < 3 or n > MOST:
        return None
    roots = np.where(there, roots, 1.0)
    correlations = kernel / np.outer(roots, roots)
    level = off_diagonal(correlations[np.ix_(there, there)])
    if level >= 1 - 1e-6:
        return None
    found = np.where(np.outer(there, there), (correlations - level) / (1 - level), 0.0)
    np.fill_diagonal(found, 1.0)
    apart = found[~np.eye(n, dtype=bool)]
    return found if np.abs(apart).max() > LEAST else None


def kernel_of(near: Array | None, n: int, same: float, differ: float) -> Array:
    """Covariances of the places of one axis."""
    return np.asarray(differ + (same - differ) * (np.eye(n) if near is None else near))


def of_axis(pairs: Array, shape: Sequence[int], axis: int) -> tuple[float, float]:
    """Moments of one place and of two along an axis, all else the same.

    Args:
        pairs: with one atom an axis, none for axes of length 1.
        shape: of the tensor.
        axis: which.
    """
    at = sum(n != 1 for n in shape[:axis])
    return float(pairs.flat[0]), float(np.take(pairs, 1, at).flat[0])


def kept(near: Near, given: Sequence[int], target: Sequence[int]) -> Near:
    """Axes of equal length in the same position."""
    if not near or len(given) != len(target):
        return NONE
    return {d: r for d, r in near.items() if given[d] == target[d]}


def mixed(parts: Iterable[tuple[float, Near]]) -> Near:
    """Of a sum of strangers, each with its power."""
    found = [(power, near) for power, near in parts if power > 0]
    total = sum(power for power, _ in found)
    axes = {d: len(r) for _, near in found for d, r in near.items()}
    made = {}
    for d, n in axes.items():
        sums = sum(power * near.get(d, np.eye(n)) for power, near in found)
        settled_sum = settled(np.asarray(sums) / total)
        if settled_sum is not None:
            made[d] = settled_sum
    return made


@dataclass(frozen=True)
class Reads:
    """Which place of an axis every (place made, tap) reads; −1 for none.

    Args:
        table: (made, taps).
    """

    table: np.ndarray

    def through(self, near: Array | None, same: float, differ: float) -> Array | None:
        """R of sums of fresh weights over taps: two places meet at the same tap."""
        made = len(self.table)
        if not 2 < made <= MOST or same <= 0 or (near is not None and len(near) > MOST):
            return None
        if near is None and abs(differ) <= LEAST * same:
            return None  # strangers stay so
        total = np.zeros((made, made))
        for reads in self.table.T:
            valid = reads >= 0
            both = np.outer(valid, valid)
            alike = reads[:, None] == reads[None, :] if near is None else near[np.ix_(reads, reads)]
            total += np.where(both, differ + (same - differ) * alike, 0.0)
        return settled(total)


@lru_cache(maxsize=256)
def reads_of(
    size: int, out: int, taps: int, stride: int, padding: int, dilation: int, back: bool
) -> Reads:
    """Reads of a convolution along one axis, or those of its way back.

    Args:
        size: places of the input.
        out: places of the output.
        taps: of the kernel.
        stride: of the kernel.
        padding: zeros before the first place.
        dilation: of the taps.
        back: from places of the input to those of the output.
    """
    reads = np.arange(out)[:, None] * stride - padding + np.arange(taps)[None, :] * dilation
    reads = np.where((reads >= 0) & (reads < size), reads, -1)
    if not back:
        return Reads(reads)
    turned = np.full((size, taps), -1)
    for tap in range(taps):
        places = np.flatnonzero(reads[:, tap] >= 0)
        turned[reads[places, tap], tap] = places
    return Reads(turned)


def by_matrices(
    pairs: Array, shape: Sequence[int], matrices: Mapping[int, Array], near: Near
) -> Near:
    """R of A x, axis by axis: what two rows of A have in common, neighbours included.

    Args:
        pairs: of x, one atom an axis.
        shape: of x.
        matrices: A of some axes, (made, given).
        near: of x.
    """
    made = {d: r for d, r in near.items() if d not in matrices}
    for d, a in matrices.items():
        if shape[d] == 1 or max(a.shape) > MOST:
            continue
        same, differ = of_axis(pairs, shape, d)
        found = settled(a @ kernel_of(near.get(d), shape[d], same, differ) @ a.T)
        if found is not None:
            made[d] = found
    return made
