"""Softmax and attention: logits from q·kᵀ, shares from softmax, averages of v.

A softmax over T keys of logits with within-row std s has mean 1/T and Σa² near e^{s²}/T for
s ≤ 1 and far below it beyond; the expectation is therefore computed, on a fixed set of Gaussian
rows, for every number of keys that a row may see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from fanin.propagation.layout import Arrangement, Axes, atom_range, atoms_of, fit, shape_of
from fanin.propagation.logit_rows import GAUSSIAN, LogitKind, drawn_rows, left_of_values
from fanin.propagation.profile import MOST_PLACES, Profile, levels, settled
from fanin.propagation.quadrature import NODES, WEIGHTS, Array
from fanin.propagation.state import State, gaussian

_MOST_COUNTS = 12


@lru_cache(maxsize=4096)
def share_moments(
    keys: int, std: float, kind: LogitKind = GAUSSIAN
) -> tuple[float, float, float, float]:
    """Four expectations over softmax rows of ``keys`` independent logits of that std.

    Returns:
        E[a²] of one share; E[a² (1 − 2a + Σa²)]: the second moment of a logit's gradient
        a (g − Σ a g) for gradients g of the shares that are independent with unit variance; and
        E[(Σ a z)² − Σ a² z²] of the products z of unit variance that made the logits: how far the
        keys that are picked lie on one side, those of each key with itself left out; and
        E[(Σ a²)²], which says how far rows differ.
    """
    if keys <= 1:
        return 1.0, 0.0, 0.0, 1.0
    if std == 0.0 or keys > 1 << 20:
        square = float(np.exp(min(std, 1.0) ** 2)) / keys**2
        return square, square * (1 - 1 / keys), min(std, 1.0) ** 2 * kind.part, (keys * square) ** 2
    z, shares = drawn_rows(keys, std, kind)
    squares = shares**2
    total = squares.sum(axis=1, keepdims=True)
    lean = (shares * z).sum(axis=1) ** 2 - (squares * z**2).sum(axis=1)
    own = squares * (1 - 2 * shares + total)
    if kind.sphere:
        own = own * left_of_values(z, shares, kind.sphere)
    return (
        float(squares.mean()),
        float(own.mean()),
        max(float(lean.mean()), 0.0),
        float((total**2).mean()),
    )


@lru_cache(maxsize=4096)
def picked_beyond(keys: int, std: float, kind: LogitKind = GAUSSIAN) -> float:
    """E[Σ a² (z² − 1)]: by how much keys that are picked exceed others in their own products."""
    if keys <= 1 or std == 0.0 or keys > 1 << 20:
        return 0.0
    z, shares = drawn_rows(keys, round(std, 3), kind)
    return float((shares**2 * (z**2 - 1)).sum(axis=1).mean())


def moments_of_rows(
    counts: Array, std: float, kind: LogitKind = GAUSSIAN
) -> tuple[Array, Array, Array, Array]:
    """``share_moments`` for rows of different numbers of keys, interpolated between a few."""
    std = round(std, 4)
    n = np.maximum(counts, 1)
    distinct = np.unique(n).astype(int)
    if len(distinct) > _MOST_COUNTS:
        picks = np.unique(np.geomspace(distinct[0], distinct[-1], _MOST_COUNTS).round()).astype(int)
    else:
        picks = distinct
    exact = np.array([share_moments(int(k), std, kind) for k in picks])
    square = np.exp(np.interp(np.log(n), np.log(picks), np.log(exact[:, 0])))
    # As a part of E[a²] the second is smooth in n down to one key, where it is 0.
    part = np.interp(np.log(n), np.log(picks), exact[:, 1] / exact[:, 0])
    lean = np.interp(np.log(n), np.log(picks), exact[:, 2])
    apart = np.interp(np.log(n), np.log(picks), exact[:, 3] / (picks * exact[:, 0]) ** 2)
    return square, square * part, lean, (n * square) ** 2 * apart


@dataclass(frozen=True)
class Shares:
    """A softmax's output with what its gradient needs."""

    state: State
    axis: int
    keys: float  # mean number of keys that a row sees
    slope: float = 0.0  # E[a² (1 − 2a + Σa²)] / E[a²]
    std: float = 0.0  # of the logits within a row
    received: Profile = None  # where the gradient of the logits is strong
    counts: Array | None = None  # keys that each row sees, where rows differ
    kind: LogitKind = GAUSSIAN
    lean: float = 0.0  # E[(Σ a z)² − Σ a² z²], see ``share_moments``
    uneven: float = 0.0  # relative variance of Σ a² from row to row


def softmax_shares(
    logits: State, dim: int, blocked: torch.Tensor | None, kind: LogitKind = GAUSSIAN
) -> Shares:
    """Moments of softmax(logits) along an axis; blocked positions have share 0."""
    rank = len(logits.axes)
    dim %= rank
    total = logits.shape[dim]
    if total == 1:
        return Shares(gaussian(logits.axes, 1.0, np.ones_like(logits.pairs)), dim, 1.0)
    axes, pairs = _one_atom(logits.pairs, logits.axes, dim)
    position = atom_range(axes, dim).start
    same, differ = np.take(pairs, 0, position), np.take(pairs, 1, position)
    within = same - differ
    std = float(np.sqrt(max(float(within.flat[0]), 0.0)))
    correlation = np.clip(within / within.flat[0], 0.0, 1.0) if std > 0 else np.ones_like(within)
    counts, flat_shares = _valid(blocked, logits.shape, dim)
    if counts is None:
        counts = np.full((1,) * (rank - 1), float(total))
    seen = counts[counts > 0] if (counts > 0).any() else counts.ravel()
    asking = seen.size / counts.size
    counts, strengths = _broadcast(counts, rows_of(logits.profile, dim))
    squares, slopes, leans, fourths = _moments_by_strength(counts, std, strengths, kind)
    # Rows that see other numbers of keys are told apart by their places.
    alike = float(((counts * squares) ** 2).mean())
    apart = max(float(fourths.mean()) / alike - 1, 0.0) if alike > 0 else 0.0
    tilt, uneven = None, _tilted(logits.profile, std, dim, total)
    if uneven is not None and np.broadcast_shapes(uneven[1].shape, counts.shape) == counts.shape:
        tilt = uneven[0]
        squares, slopes = squares * uneven[1], slopes * uneven[1]
    weights = np.maximum(counts, 0) / total
    square = float((weights * squares).mean())
    slope = float((weights * slopes).mean()) / square if square > 0 else 0.0
    lowest = float((1 / np.maximum(seen, 1)).mean() * asking) / total
    base = np.full_like(correlation, lowest)
    if flat_shares is not None and rank >= 2:
        # Two rows of a causal mask overlap on the keys that both may see.
        row_axis = dim - 1 if dim > 0 else 1
        rows = [p - (p > position) for p in atom_range(axes, row_axis)]
        for p in rows:
            view = [slice(None)] * base.ndim
            view[p] = slice(1, 2)
            base[tuple(view)] = min(flat_shares, lowest)
    ratio = square / lowest if lowest > 0 else 1.0
    same_key = base * ratio**correlation
    # Shares of a row sum to 1: what one key gets more, the others get less.
    other_key = (1 / total - same_key) / (total - 1)
    if flat_shares is None:
        other_key = np.broadcast_to(other_key, same_key.shape)
    made = np.stack([same_key, other_key], axis=position)
    profile = _row_powers(blocked, counts * squares, dim, rank, tilt)
    state = gaussian(logits.axes, 1 / total, fit(made, axes, logits.axes), profile=profile)
    state = state.with_flags(logits)
    received = _row_powers(blocked, counts * slopes, dim, rank, tilt)
    known = None if blocked is None else counts.ravel()
    lean = float(leans.mean())
    return Shares(state, dim, float(seen.mean()), slope, std, received, known, kind, lean, apart)


def rows_of(profile: Profile, dim: int) -> Array | None:
    """Powers of the rows along an axis, without that axis: a token of zeros asks for nothing."""
    if profile is None:
        return None
    found = np.asarray(profile.mean(axis=dim))
    return found if found.size and np.ptp(found) > 0 else None


def _broadcast(counts: Array, strengths: Array | None) -> tuple[Array, Array | None]:
    if strengths is None:
        return counts, None
    shape = np.broadcast_shapes(counts.shape, strengths.shape)
    if np.prod(shape) > MOST_PLACES:
        return counts, None
    return np.broadcast_to(counts, shape), np.broadcast_to(strengths, shape)


def _moments_by_strength(
    counts: Array, std: float, strengths: Array | None, kind: LogitKind
) -> Array:
    """``moments_of_rows`` where rows differ in the power of their logits too, one below another."""
    if strengths is None:
        return np.stack(moments_of_rows(counts, std, kind))
    powers, _, places = levels(strengths)
    found = np.empty((4, *counts.shape))
    for k, power in enumerate(powers):
        here = places == k
        found[:, here] = moments_of_rows(counts[here], std * float(power) ** 0.5, kind)
    return found


def _one_atom(pairs: Array, axes: Axes, dim: int) -> tuple[Axes, Array]:
    arrangement = Arrangement(atoms_of(axes), [pairs])
    start = atom_range(axes, dim).start
    for _ in range(len(axes[dim]) - 1):
        arrangement.join(start)
    return (*axes[:dim], (shape_of(axes)[dim],), *axes[dim + 1 :]), arrangement.arrays[0]


def _valid(
    blocked: torch.Tensor | None, shape: Sequence[int], dim: int
) -> tuple[Array | None, float | None]:
    """Keys that each row sees, and E[a a′] at one key of two different rows of equal shares."""
    if blocked is None:
        return None, None
    mask = blocked.bool()
    while mask.dim() < len(shape):
        mask = mask.unsqueeze(0)
    mask = mask.movedim(dim, -1)
    if mask.shape[-1] == 1:
        return None, None
    counts = (~mask).sum(-1).double()
    shares = (~mask).double() / counts.clamp(min=1).unsqueeze(-1)
    overlap = None
    if shares.dim() >= 2 and shares.shape[-2] > 1:
        n = shares.shape[-2]
        mean = shares.mean(-2)
        agree = shares.square().mean(-2)
        overlap = float(((mean.square() - agree / n) / (1 - 1 / n)).mean())
    return counts.numpy(), overlap


def _row_powers(
    blocked: torch.Tensor | None, sums: Array, dim: int, rank: int, tilt: Array | None
) -> Profile:
    """Powers of the shares: Σ a² of each row, on the keys that it sees."""
    rows = np.expand_dims(sums, dim)
    powers = rows if sums.size > 1 else np.ones((1,) * rank)
    if blocked is not None:
        mask = blocked.bool()
        while mask.dim() < rank:
            mask = mask.unsqueeze(0)
        seen = (~mask).double().numpy()
        counts = np.maximum(seen.sum(dim, keepdims=True), 1)
        fits = np.prod(np.broadcast_shapes(seen.shape, rows.shape)) <= MOST_PLACES
        powers = rows * seen / counts if fits else rows
    if tilt is not None and np.prod(np.broadcast_shapes(powers.shape, tilt.shape)) <= MOST_PLACES:
        powers = powers * tilt
    return settled(powers)[0]


_ONE_TAKES_ALL = 50.0
"""Variance of the logits beyond which Z is no sum over many keys any more."""


def _tilted(profile: Profile, std: float, dim: int, keys: int) -> tuple[Array, Array] | None:
    """Where the keys of a row differ in the spread s² of their logits l.

    A share is eˡ/(Z + eˡ) with Z near Σ e^{s²/2} over the other keys.

    Returns:
        Powers of the shares within a row, of mean 1; and Σ a² of each row, without the axis of the
        keys, over what it is for even keys of the same mean spread. None where keys are even, and
        where one key takes all of its row.
    """
    if profile is None or profile.shape[dim] == 1:
        return None
    spread = std**2 * profile
    if spread.max() > _ONE_TAKES_ALL:
        return None
    powers, _, places = levels(spread)
    strong = np.expand_dims(np.exp(spread / 2).mean(axis=dim), dim)
    rows, _, row_of = levels(strong)
    others = (keys - 1) * rows
    even_keys = spread.mean(axis=dim, keepdims=True)
    table = _squared_share(powers, others)
    tilt = table[places, np.broadcast_to(row_of, places.shape)]
    alike = _squared_share(even_keys.ravel(), (keys - 1) * np.exp(even_keys.ravel() / 2), both=True)
    sums = tilt.mean(axis=dim, keepdims=True)
    return tilt / sums, (sums / alike.reshape(even_keys.shape)).squeeze(dim)


def _squared_share(spreads: Array, others: Array, *, both: bool = False) -> Array:
    """E[(eˡ/(Z + eˡ))²] for every l ~ N(0, s²) with every Z, or one by one."""
    logits = np.exp(np.sqrt(spreads)[:, None] * NODES)
    if both:
        return np.asarray((logits / (others[:, None] + logits)) ** 2 @ WEIGHTS)
    return np.asarray((logits[:, None] / (others[None, :, None] + logits[:, None])) ** 2 @ WEIGHTS)


def softmax_gradient(pairs: Array, shares: Shares) -> Array:
    """A ∘ (g − Σ a g): pair moments of the logits' gradient, given those of the shares'."""
    state, dim = shares.state, shares.axis
    if state.shape[dim] == 1:
        return pairs * 0.0
    axes, moments = _one_atom(state.pairs, state.axes, dim)
    _, gradient = _one_atom(pairs, state.axes, dim)
    position = atom_range(axes, dim).start
    within = np.take(gradient, 0, position) - np.take(gradient, 1, position)
    same = np.take(moments, 0, position) * within * shares.slope
    made = np.stack([same, -same / max(state.shape[dim] - 1, 1)], axis=position)
    return fit(made, axes, state.axes)
