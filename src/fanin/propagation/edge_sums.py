"""Sums over the edges of a graph: what nodes send along them, and what they receive.

Node i sends √p_i, its own strength, along each of its edges, and two edges of one node carry one
and the same: E[x x′] = q there, and a share of √p √p′ for edges of two nodes.  Strong nodes that
send along many edges to one place count for more than their number says.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fanin.propagation.layout import Axes, atom_range, fit, plain_axes
from fanin.propagation.profile import MOST_PLACES, Profile, even, settled
from fanin.propagation.quadrature import Array

Places = NDArray[np.integer]
_NONE = 1e-12


@dataclass(frozen=True)
class Line:
    """Second moments along one axis: nodes, or edges.

    Args:
        same: E[x²], and E[x x′] of pairs that differ along other axes only.
        differ: E[x x′] of two places of the axis.
        powers: of each place over ``same``, of shape (places or 1, other places).
    """

    same: Array
    differ: Array
    powers: Array


def along_edges(nodes: Line, ends: Places, count: int, shares: Array | None = None) -> Line:
    """What edges carry that start at nodes.

    Args:
        nodes: what each node sends.
        ends: of each edge, where it starts.
        count: of nodes.
        shares: factor of each edge; 1 without.
    """
    factors = np.ones(len(ends)) if shares is None else shares
    powers = np.broadcast_to(nodes.powers, (count, nodes.powers.shape[1]))
    roots = np.sqrt(powers)
    sums = np.bincount(ends, weights=factors, minlength=count)[:, None].astype(float)
    squares = np.bincount(ends, weights=factors**2, minlength=count)[:, None].astype(float)
    pairs = max(len(ends) * (len(ends) - 1), 1)
    twins = float(((sums**2 - squares) * powers).sum(0).mean()) / pairs
    apart = _two(sums * roots, (sums * roots) ** 2) / pairs
    common = _common(nodes.differ, nodes.same, _two(roots, powers) / max(count * (count - 1), 1))
    carried = factors[:, None] ** 2 * powers[ends]
    power = float(carried.mean())
    made = carried / power if power > 0 else carried
    return Line(power * nodes.same, twins * nodes.same + apart * common, made)


def at_nodes(
    edges: Line, ends: Places, count: int, others: Places | None = None, shares: Array | None = None
) -> Line:
    """Sums of what edges carry, at the nodes where they end.

    Args:
        edges: what each edge carries.
        ends: of each edge, where it is summed.
        count: of nodes.
        others: of each edge, where it starts: edges that share it carry one and the same. Without
            it no two edges do.
        shares: factor of each edge in the sum; 1 without.
    """
    number = len(ends)
    powers = np.broadcast_to(edges.powers, (number, edges.powers.shape[1]))
    starts = np.arange(number) if others is None else np.unique(others, return_inverse=True)[1]
    roots = np.sqrt(powers)
    # How much two edges have in common that start at different nodes.
    by_start = _summed(roots, starts)
    pairs = max(number * (number - 1), 1)
    twins = float((by_start**2).sum(0).mean() - powers.sum(0).mean()) / pairs
    common = _common(edges.differ - twins * edges.same, edges.same,
                     _two(by_start, by_start**2) / pairs)  # fmt: skip
    if shares is not None:
        roots = roots * shares[:, None]
        by_start = _summed(roots, starts)
    way, inverse = np.unique(np.stack([ends, starts]), axis=1, return_inverse=True)
    by_way = _summed(roots, np.ravel(inverse)) ** 2
    alike = _summed(by_way, way[0], count)
    total = _summed(roots, ends, count) ** 2
    # At each node: its edges and their twins; pairs of edges from two nodes.
    one = alike.mean() * edges.same + (total - alike).mean() * common
    between = max(count * (count - 1), 1)
    twins_apart = float((by_start**2).sum(0).mean() - alike.sum(0).mean())
    strangers = _two(by_start, by_start**2) - float((total - alike).sum(0).mean())
    two = (twins_apart * edges.same + strangers * common) / between
    received = np.maximum(alike * edges.same.flat[0] + (total - alike) * common.flat[0], 0.0)
    level = float(received.mean())
    return Line(one, two, received / level if level > 0 else received)


def _summed(values: Array, rows: Places, count: int | None = None) -> Array:
    made = np.zeros((int(rows.max()) + 1 if count is None else count, values.shape[1]))
    np.add.at(made, rows, values)
    return made


def _two(sums: Array, squares: Array) -> float:
    """Σ x x′ over ordered pairs of different rows, averaged over columns."""
    return float((sums.sum(0) ** 2 - squares.sum(0)).mean())


def _common(differ: Array, same: Array, overlap: float) -> Array:
    """E[x x′]/(√p √p′) of two places; never more than a place has with itself."""
    if overlap <= _NONE:
        return np.zeros_like(differ)
    most = abs(float(same.flat[0]))
    return np.clip(differ / overlap, -most, most)


def line_of(pairs: Array, axes: Axes, dim: int, profile: Profile) -> Line:
    """One axis of a tensor by itself.

    Args:
        pairs: of the tensor.
        axes: of the tensor.
        dim: the axis.
        profile: of the tensor; its places along other axes are averaged where they are many.
    """
    length = int(np.prod(axes[dim]))
    plain = (*axes[:dim], *plain_axes((length,)), *axes[dim + 1 :])
    pairs = fit(pairs, axes, plain)
    same = differ = pairs
    if length != 1:
        at = atom_range(plain, dim).start
        same, differ = np.take(pairs, 0, at), np.take(pairs, 1, at)
    powers = np.moveaxis(even(profile, len(axes)), dim, 0)
    powers = powers.reshape(len(powers), -1)
    if length * powers.shape[1] > MOST_PLACES:
        powers = powers.mean(axis=1, keepdims=True)
    return Line(same, differ, powers)


def tensor_of(
    line: Line, axes: Axes, dim: int, length: int, profile: Profile
) -> tuple[Axes, Array, Profile]:
    """The tensor whose axis is that line.

    Args:
        line: nodes or edges.
        axes: of the tensor that it was made of.
        dim: the axis.
        length: of the new axis.
        profile: of the tensor that it was made of.

    Returns:
        Axes, pair moments and profile.
    """
    made = (*axes[:dim], *plain_axes((length,)), *axes[dim + 1 :])
    at = sum(len(axis) for axis in axes[:dim])
    pairs = line.same if length == 1 else np.stack([line.same, line.differ], axis=at)
    rest = list(np.moveaxis(even(profile, len(axes)), dim, 0).shape[1:])
    if int(np.prod(rest)) != line.powers.shape[1]:
        rest = [1] * len(rest)
    powers = np.moveaxis(line.powers.reshape([len(line.powers), *rest]), 0, dim)
    return made, pairs, settled(powers)[0]
