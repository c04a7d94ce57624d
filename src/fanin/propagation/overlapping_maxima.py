"""Windows that overlap share numbers, and so often their largest."""

from collections.abc import Mapping
from functools import lru_cache
from math import erf

import numpy as np

from fanin.propagation.layout import Axes, atom_range
from fanin.propagation.nearness import MOST, off_diagonal
from fanin.propagation.quadrature import Array

_GRID = np.linspace(-6.0, 6.0, 241)


@lru_cache(maxsize=512)
def correlation_of_overlap(count: int, shared: int) -> float:
    """Correlation of the maxima of two sets of independent normals that have some in common.

    Cov = ∫∫ P(both below x, y) − P(one below x) P(other below y), by Hoeffding (1940).

    Args:
        count: numbers of each set.
        shared: numbers that are in both.
    """
    if shared <= 0:
        return 0.0
    below = np.array([0.5 * (1 + erf(x / 2**0.5)) for x in _GRID])
    own = below ** (count - shared)
    together = np.minimum.outer(below, below) ** shared * np.multiply.outer(own, own)
    whole = below**count
    covariance = (together - np.multiply.outer(whole, whole)).sum()
    variance = (np.minimum.outer(whole, whole) - np.multiply.outer(whole, whole)).sum()
    return float(covariance / variance)


def kernels_of_windows(members: Mapping[int, Array]) -> dict[int, Array]:
    """Correlations of the maxima of windows that differ along one axis, by axis.

    Args:
        members: which places each window holds, as 0 and 1, by axis: (windows, places).
    """
    sizes = {d: max(round(float(a.sum(axis=1).max())), 1) for d, a in members.items()}
    count = int(np.prod(list(sizes.values())))
    found = {}
    for d, a in members.items():
        shared = np.round(a @ a.T).astype(int)
        if len(a) > MOST or not (shared - np.diag(np.diag(shared))).any():
            continue
        others = count // sizes[d]
        table = [correlation_of_overlap(count, m * others) for m in range(sizes[d] + 1)]
        kernel = np.array(table)[np.minimum(shared, sizes[d])]
        np.fill_diagonal(kernel, 1.0)
        found[d] = kernel
    return found


def sharing(relative: Array, axes: Axes, kernels: Mapping[int, Array]) -> Array:
    """Correlations of windows that have numbers in common, on average over the windows.

    Args:
        relative: correlations of windows that have none, one atom an axis.
        axes: of the tensor.
        kernels: see ``kernels_of_windows``.
    """
    for d, kernel in kernels.items():
        if axes[d]:
            at = atom_range(axes, d).start
            same, differ = np.take(relative, 0, at), np.take(relative, 1, at)
            differ = differ + (same - differ) * off_diagonal(kernel)
            relative = np.stack([same, differ], axis=at)
    return relative
